//! What naru does while it is recorded, and what must hold after a cut.

use crate::Plan;
use crate::common::{self, Registry, TestStore, make_tree};
use crate::dice::Dice;
use naru_image::import::ImportOptions;
use naru_image::{RemoveOptions, Store, StoreConfig};
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const PULLED: usize = 4;
const LOADED: usize = 2;
const FILES_PER_LAYER: u64 = 60;
const FILE_BYTES_MAX: u64 = 24_000;

/// Image ids and their names.
type Listing = BTreeMap<Digest, Vec<String>>;

/// What images come from, outside of the disk.
struct Sources {
    _registry: Registry,
    names: Vec<String>,
    archives: Vec<Vec<u8>>,
}

/// A moment at which an operation had returned, and what was listed then.
struct Acknowledged {
    moment: u64,
    what: String,
    listing: Listing,
}

pub fn survives(plan: &mut Plan) -> bool {
    let Some(sources) = Sources::make(&mut plan.dice) else { return true };
    let mut dice = Dice::new(plan.dice.below(u64::MAX));
    let (mut recording, told) = plan.record(|disk| operate(plan, disk, &sources, &mut dice));
    let moments: Vec<u64> = told.iter().map(|told| told.moment).collect();
    let (mut failures, mut uncertain, mut lost, mut healed) = (0, 0, 0, 0);
    let chosen = plan.moments(&recording, &moments);
    for (number, moment) in chosen.iter().enumerate() {
        let last = moments.partition_point(|told| told <= moment) - 1;
        let (cut, result) = plan
            .look(&mut recording, number, *moment, |disk, dice| examine(disk, &told[last..], &sources, dice));
        uncertain += usize::from(cut.pending > 0);
        lost += usize::from(cut.lost > 0);
        match result {
            Ok(has_healed) => healed += usize::from(has_healed),
            Err(why) => {
                failures += 1;
                let next = told.get(last + 1).map_or("the end", |next| &next.what);
                println!("  cut {number} at {moment}, after {:?}, before {next:?}: {why}", told[last].what);
            }
        }
    }
    println!(
        "  {} cut states: {uncertain} with unflushed writes, {lost} that lost some; {healed} healed by a pull or load; {failures} failures",
        chosen.len()
    );
    failures == 0
}

impl Sources {
    fn make(dice: &mut Dice) -> Option<Self> {
        let registry = Registry::start()?;
        let side = common::store();
        let base = side.dir.path().join("base");
        fs::create_dir(&base).unwrap();
        make_tree(&base);
        let lease = side.store.lease();
        let mut layers = vec![side.store.commit_layer(&base, false, &lease).unwrap().diff_id];
        for number in 0..PULLED + LOADED {
            let dir = side.dir.path().join(format!("tree-{number}"));
            grow(&dir, dice);
            layers.push(side.store.commit_layer(&dir, true, &lease).unwrap().diff_id);
        }
        let image = |name: &str, top: usize| {
            // A neighbour's layer is shared with the neighbour.
            let chain = BTreeSet::from([0, top.max(2) - 1, top]).into_iter().map(|at| layers[at]);
            make_image(&side.store, name, &chain.collect::<Vec<_>>());
        };
        let mut names = Vec::new();
        for number in 0..PULLED {
            let name = format!("{}/app{number}:1", registry.address);
            image(&name, number + 1);
            common::push(&side.store, &name).unwrap();
            names.push(name);
        }
        let archives = (0..LOADED).map(|number| {
            let name = format!("loaded{number}:1");
            image(&name, PULLED + number + 1);
            save(&side, &name)
        });
        let archives = archives.collect();
        Some(Self { _registry: registry, names, archives })
    }
}

fn save(side: &TestStore, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    side.store.save(&[name.to_owned()], &mut bytes).unwrap();
    bytes
}

pub fn make_image(store: &Store, name: &str, layers: &[Digest]) {
    let config = ImageConfig {
        architecture: naru_types::platform::Platform::host().architecture,
        os: "linux".into(),
        author: Some(name.to_owned()),
        ..ImageConfig::default()
    };
    store.create_image(config, layers, &[ImageRef::parse(name).unwrap()]).unwrap();
}

/// A tree of small files, as most layers are; a cut may well fall between any two of them.
pub fn grow(root: &Path, dice: &mut Dice) {
    for number in 0..FILES_PER_LAYER {
        let dir = root.join(format!("d{}/e{}", number % 5, number % 3));
        fs::create_dir_all(&dir).unwrap();
        let mut bytes = vec![0; dice.below(FILE_BYTES_MAX) as usize];
        for chunk in bytes.chunks_mut(7) {
            chunk.copy_from_slice(&dice.below(1 << 52).to_le_bytes()[..chunk.len()]);
        }
        let file = dir.join(format!("f{number}"));
        fs::write(&file, &bytes).unwrap();
        match number % 6 {
            0 => fs::hard_link(&file, dir.join(format!("l{number}"))).unwrap(),
            1 => symlink("elsewhere", dir.join(format!("s{number}"))).unwrap(),
            2 => common::whiteout(&dir.join(format!("w{number}"))),
            _ => {}
        }
    }
}

fn open(disk: &Path) -> naru_types::Result<Store> {
    Store::open(&disk.join("store"), StoreConfig::default())
}

fn operate(plan: &Plan, disk: &Path, sources: &Sources, dice: &mut Dice) -> Vec<Acknowledged> {
    let store = open(disk).unwrap();
    store.wait_for_sweep();
    let acknowledge =
        |what: String| Acknowledged { moment: plan.moment(), what, listing: listing(&store).unwrap() };
    let mut told = vec![acknowledge("open".into())];
    for step in 0..plan.steps {
        let what = operation(&store, disk, step, sources, dice);
        told.push(acknowledge(what));
    }
    told
}

/// One operation of a user, at random. The first ones fill the store.
fn operation(store: &Store, disk: &Path, step: u64, sources: &Sources, dice: &mut Dice) -> String {
    let kind = if step < 4 { step } else { dice.below(10) };
    let no_users = |_: &Digest| Vec::new();
    let images = store.list().unwrap();
    match kind {
        0 | 1 => {
            let name = &sources.names[dice.below(PULLED as u64) as usize];
            common::pull(store, name).unwrap();
            format!("pull {name}")
        }
        2 => {
            let number = dice.below(LOADED as u64) as usize;
            store.load(&mut &sources.archives[number][..], &|_| {}).unwrap();
            format!("load {number}")
        }
        3 | 4 => {
            // A commit takes the container's upper directory; a step of a build is kept by the cache as well.
            let upper = disk.join(format!("upper-{step}"));
            grow(&upper, dice);
            let lease = store.lease();
            let layer = store.commit_layer(&upper, true, &lease).unwrap().diff_id;
            if kind == 4 {
                store.pin(&format!("build/{step}"), &[layer]).unwrap();
            }
            let below = images.first().map(|image| image.layers().to_vec()).unwrap_or_default();
            let held = below.iter().all(|layer| lease.hold(layer).is_ok());
            assert!(held, "a listed image's layers can be held");
            make_image(store, &format!("made{step}:1"), &[below, vec![layer]].concat());
            if kind == 4 { format!("build {step}") } else { format!("commit {step}") }
        }
        5 => {
            let archive = tar_of(disk, step, dice);
            let options = ImportOptions {
                config: naru_types::image::RunConfig::default(),
                message: None,
                platform: None,
                tag: Some(ImageRef::parse(&format!("imported{step}:1")).unwrap()),
                now: Timestamp::from_parts(1_700_000_000, 0),
            };
            store.import(&mut &archive[..], options).unwrap();
            format!("import {step}")
        }
        6 => {
            let Some(image) = images.get(dice.below(images.len().max(1) as u64) as usize) else {
                return "nothing".into();
            };
            store.tag(&image.id, &ImageRef::parse(&format!("tagged{}:1", dice.below(3))).unwrap()).unwrap();
            "tag".into()
        }
        7 => {
            let select = |image: &naru_image::Image| image.is_dangling();
            let pruned = store.prune(&select, &|_| false).unwrap();
            store.unpin(&format!("build/{}", dice.below(step))).unwrap();
            store.collect(&|_| false).unwrap();
            format!("prune of {}", pruned.removed.len())
        }
        _ => {
            let names: Vec<&String> = images.iter().flat_map(|image| &image.repo_tags).collect();
            if names.len() < 3 {
                return "nothing".into();
            }
            let name = names[dice.below(names.len() as u64) as usize];
            store
                .remove(name, &RemoveOptions { force: false, keep_parents: false, users: &no_users })
                .unwrap();
            format!("rm {name}")
        }
    }
}

/// A small archive; made on the disk's outside would do as well, but a build context isn't either.
fn tar_of(disk: &Path, step: u64, dice: &mut Dice) -> Vec<u8> {
    use rustix::fd::AsFd;
    let dir = disk.join(format!("import-{step}"));
    grow(&dir, dice);
    let mut bytes = Vec::new();
    let root = naru_image::tree::open_root(&dir).unwrap();
    naru_image::pack::tar_tree(
        root.as_fd(),
        Path::new("."),
        &mut bytes,
        &naru_image::pack::PackOptions::default(),
    )
    .unwrap();
    fs::remove_dir_all(&dir).unwrap();
    bytes
}

fn listing(store: &Store) -> naru_types::Result<Listing> {
    Ok(store.list()?.into_iter().map(|image| (image.id, image.repo_tags)).collect())
}

/// Looks at a disk after a cut: `told` begins with what was acknowledged last. Says whether something had to be healed.
fn examine(disk: &Path, told: &[Acknowledged], sources: &Sources, dice: &mut Dice) -> Result<bool, String> {
    let error = |error: naru_types::Error| error.to_string();
    let store = open(disk).map_err(error)?;
    let found = listing(&store).map_err(error)?;
    // The operation under way may have come to its end.
    if !told.iter().take(2).any(|told| told.listing == found) {
        return Err(format!("listed: {found:?}; acknowledged: {:?}", told[0].listing));
    }
    sound(&store, &[])?;
    let number = dice.below((PULLED + LOADED) as u64) as usize;
    let name = sources.names.get(number).cloned().unwrap_or_else(|| format!("loaded{}:1", number - PULLED));
    let has_healed = store.get(&name).is_err();
    match sources.names.get(number) {
        Some(name) => drop(common::pull(&store, name).map_err(error)?),
        None => drop(store.load(&mut &sources.archives[number - PULLED][..], &|_| {}).map_err(error)?),
    }
    sound(&store, &[name])?;
    store.wait_for_sweep();
    for leftover in ["staging", "staging.old"] {
        let left: Vec<_> =
            fs::read_dir(disk.join("store").join(leftover)).into_iter().flatten().flatten().collect();
        if !left.is_empty() {
            return Err(format!("{leftover} holds {left:?}"));
        }
    }
    Ok(has_healed)
}

fn sound(store: &Store, names: &[String]) -> Result<(), String> {
    let verified = store.verify(names, &|_| {}).map_err(|error| error.to_string())?;
    if verified.is_sound() { Ok(()) } else { Err(format!("damaged: {verified:?}")) }
}
