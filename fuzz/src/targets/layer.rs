//! An archive taken as a layer: written again it must be the same bytes.

use super::tar_input::WORDS;
use super::unpack::{Unpack, Yard};
use crate::Target;
use crate::random::Random;
use naru_image::{Store, StoreConfig, fuzzing};

/// Layers until the store is begun anew, so that its index stays small.
const LAYERS_MAX: u32 = 50;

#[derive(Default)]
pub struct Layer {
    place: Option<(Yard, Store)>,
    taken: u32,
}

impl Target for Layer {
    fn name(&self) -> &'static str {
        "layer"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        Unpack::default().generate(random)
    }

    fn words(&self) -> &'static [&'static [u8]] {
        WORDS
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let (yard, store) = match self.place.take() {
            Some(place) => place,
            None => begin()?,
        };
        let lease = store.lease();
        // Compressed input would come out as something else than what is compared here.
        let is_packed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd"].iter().any(|magic| input.starts_with(magic));
        if let Ok(layer) = store.add_layer(&mut &input[..], &lease) {
            self.taken += 1;
            let dir = store.layer_dir(&layer.diff_id).map_err(|error| error.to_string())?;
            let dir = dir.parent().ok_or("a layer without a directory")?;
            let again = fuzzing::written_again(dir).map_err(|error| format!("not written again: {error}"))?;
            if !is_packed && again != input {
                return Err(format!("{} bytes were written again as {}", input.len(), again.len()));
            }
        }
        yard.judge(&["store"])?;
        if self.taken < LAYERS_MAX {
            self.place = Some((yard, store));
        } else {
            self.taken = 0;
        }
        Ok(())
    }
}

fn begin() -> Result<(Yard, Store), String> {
    let yard = Yard::new().map_err(|error| format!("no place for a store: {error}"))?;
    let store = Store::open(&yard.path().join("store"), StoreConfig::default());
    Ok((yard, store.map_err(|error| error.to_string())?))
}
