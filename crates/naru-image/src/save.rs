//! Save.
use crate::store::Store;
use naru_types::Result;
use std::io::Write;

impl Store {
    pub fn save(&self, _names: &[String], _out: &mut dyn Write) -> Result<()> {
        todo!()
    }
}
