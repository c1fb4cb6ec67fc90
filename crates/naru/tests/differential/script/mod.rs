//! The script: the same steps for both engines, in this order. A step may use what earlier ones left.

mod build;
mod errors;
mod files;
mod images;
mod life;
mod networks;
mod raw;
mod run;
mod system;
mod watch;

use crate::step::Step;
use std::path::Path;

pub fn steps() -> Vec<Step> {
    [
        system::STEPS,
        images::STEPS,
        run::STEPS,
        life::STEPS,
        watch::STEPS,
        files::STEPS,
        networks::STEPS,
        build::STEPS,
        errors::STEPS,
        raw::STEPS,
    ]
    .concat()
}

/// The files that the script names below `{DIR}`.
pub fn prepare(dir: &Path, base: &Path) {
    for (path, content) in build::FILES.iter().chain(files::FILES) {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::copy(base, dir.join("busybox.tar")).unwrap();
}
