//! tmp
use crate::attachment::NetworkSetup;
use crate::container::Container;
use crate::engine::Engine;
use naru_runtime::oci;
use naru_types::{Error, Result};
use std::sync::Arc;
pub fn config(_engine: &Arc<Engine>, _container: &Arc<Container>, _network: &NetworkSetup) -> Result<oci::Spec> {
    Err(Error::internal("lowering is being written"))
}
pub fn resources(_r: &naru_types::spec::Resources) -> oci::Resources { oci::Resources::default() }
