//! Volumes.

use naru_engine::VolumeView;
use naru_types::Timestamp;
use naru_wire::volume::VolumeJson;
use std::collections::BTreeMap;

pub fn volume(view: &VolumeView) -> VolumeJson {
    let given = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    let mut labels = view.labels.clone();
    if view.anonymous {
        // By this label dockerd tells an anonymous volume; `volume prune` clients look at it.
        labels.insert("com.docker.volume.anonymous".into(), String::new());
    }
    VolumeJson {
        // Docker shows whole seconds here.
        created_at: Timestamp::from_parts(view.created.secs(), 0).to_string(),
        driver: view.driver.clone(),
        labels: given(&labels),
        mountpoint: view.mountpoint.display().to_string(),
        name: view.name.clone(),
        options: given(&view.options),
        scope: "local".into(),
        usage_data: None,
    }
}
