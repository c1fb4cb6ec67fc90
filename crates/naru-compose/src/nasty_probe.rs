use crate::{LoadInput, load};
use std::collections::BTreeMap;
use std::path::Path;
#[test]
fn probe() {
    let env = BTreeMap::new();
    let deep = format!("services:\n  a:\n    image: x\n    labels: {}1{}\n", "[".repeat(5000), "]".repeat(5000));
    let bomb = { let mut s = String::from("x-a: &a0 [1,1,1,1,1,1,1,1,1,1]\n"); for i in 1..12 { s += &format!("x-b{i}: &a{i} [*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p}]\n", p=i-1);} s+="services: {a: {image: x}}\n"; s };
    let files: Vec<String> = vec![
        "".into(), "services:\n".into(), "services: []\n".into(), "services:\n  web: nginx\n".into(), "service:\n  web: {image: x}\n".into(),
        "services:\n  web:\n    imgae: x\n".into(), "services:\n  web:\n    image: x\n    prots: [80]\n".into(),
        "services:\n  web:\n    image: x\n    ports: [99999]\n".into(), "services:\n  web:\n    image: x\n    ports: [\"80:abc\"]\n".into(),
        "services:\n  web:\n    image: x\n    ports: [\"8000-8010:80-81\"]\n".into(), "services:\n  web:\n    image: x\n    ports: [22:22]\n".into(),
        "services:\n  web:\n    image: x\n    depends_on: [db]\n".into(), "services:\n  a:\n    image: x\n    depends_on: [b]\n  b:\n    image: x\n    depends_on: [a]\n".into(),
        "services:\n  a:\n    image: x\n    depends_on: [a]\n".into(), "services:\n  a:\n    image: x\n    depends_on: {b: {condition: service_heathy}}\n  b: {image: x}\n".into(),
        "services:\n  a:\n    image: x\n    networks: [nope]\n".into(), "services:\n  a:\n    image: x\n    volumes: [nope:/x]\n".into(),
        "services:\n  a:\n    image: x\n    volumes: [\"./a:x\"]\n".into(), "services:\n  a:\n    image: x\n    volumes: [\"./a:/x:rw,zz\"]\n".into(),
        "services:\n  a:\n    image: x\n    restart: allways\n".into(), "services:\n  a:\n    image: x\n    mem_limit: 12q\n".into(),
        "services:\n  a:\n    image: x\n    cpus: -1\n".into(), "services:\n  a:\n    image: ${X:?need X}\n".into(), "services:\n  a:\n    image: ${X\n".into(),
        "services:\n  a:\n    image: x\n  a:\n    image: y\n".into(), "services:\n  a:\n    image: x\n\tports: []\n".into(), "services:\n  a: {image: x\n".into(),
        "services:\n  a:\n    image: *nope\n".into(), deep, bomb, "services:\n  a b:\n    image: x\n".into(), "services:\n  a:\n    image: \"BAD::ref\"\n".into(),
        "services:\n  a:\n    command: x\n".into(), "services:\n  a:\n    image: x\n    command: \"echo 'a\"\n".into(), "services:\n  a:\n    image: x\n    env_file: missing.env\n".into(),
        "services:\n  a:\n    image: x\n    environment: [\"=x\"]\n".into(), "services:\n  a:\n    image: x\n    environment: {A: {b: c}}\n".into(),
        "services:\n  a:\n    image: x\n    healthcheck: {test: [curl, x]}\n".into(), "services:\n  a:\n    image: x\n    healthcheck: {test: curl, interval: 5 minutes}\n".into(),
        "services:\n  a:\n    image: x\n    network_mode: host\n    ports: [80]\n".into(), "services:\n  a:\n    image: x\n    deploy: {replicas: 3, resources: {limits: {memory: x}}}\n".into(),
        "services:\n  a:\n    image: x\n    privileged: maybe\n".into(), "services:\n  a:\n    image: x\n    stop_signal: SIGFOO\n".into(), "services:\n  a:\n    image: x\n    extends: {service: b}\n".into(),
        "services:\n  a:\n    image: x\n    secrets: [s]\n".into(), "version: \"3\"\nservices:\n  a:\n    image: x\n    x-naru: {rote: 1}\n".into(), "services:\n  a:\n    image: x\n    container_name: a/b\n".into(),
        "services:\n  a:\n    image: x\n    ulimits: {nofile: lots}\n".into(), "services:\n  a:\n    image: x\n    cap_add: [NET_ADMN]\n".into(), "---\nservices: {a: {image: x}}\n---\nservices: {b: {image: x}}\n".into(),
        "include: [a.yml]\nservices: {a: {image: x}}\n".into(), "services:\n  a:\n    image: x\n    build: {contxt: .}\n".into(), "services:\n  a:\n    image: !!binary x\n".into(), "\u{feff}services:\n  a:\n    image: x\n    user: [1]\n".into(),
        "services:\n  a:\n    image: x\n    ports: [\"80:80\"]\n  b:\n    image: x\n    ports: [\"80:80\"]\n".into(),
        "services:\n  a:\n    image: x\n    ports:\n      - target: 80\n        publishd: 1\n".into(),
        "services:\n  a:\n    image: x\n    container_name: same\n  b:\n    image: x\n    container_name: same\n".into(),
        "services:\n  a:\n    image: x\n    x-naru: {route: {host: \"bad host\"}}\n".into(),
        "networks: {n: {driver: overlay}}\nservices: {a: {image: x, networks: [n]}}\n".into(),
        "services:\n  a:\n    image: x\n    tmpfs: rel\n    shm_size: 0\n".into(),
    ];
    for (n, text) in files.iter().enumerate() {
        let begun = std::time::Instant::now();
        let r = load(&LoadInput { file: Path::new("/srv/p/compose.yaml"), text, working_dir: None, environment: &env, project_name: None, profiles: &[], read_file: &|_| Err(std::io::ErrorKind::NotFound.into()) });
        let shown: String = text.chars().take(110).collect();
        println!("{n:2} {shown:?}\n     => {}  [{:?}]", match r { Ok(_) => "OK!!".to_string(), Err(e) => format!("{} | hint: {:?}", e.message(), e.hint()) }, begun.elapsed());
    }
}
