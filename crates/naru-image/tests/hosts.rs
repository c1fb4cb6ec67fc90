//! Where a registry is and how it is trusted: `hosts.toml`, Docker's directories with certificates.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{NO_LIMIT, Proxy, Registry, make_image, pull, push, store, store_with};
use naru_image::StoreConfig;
use naru_types::Kind;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn config(certs: &Path) -> StoreConfig {
    StoreConfig { certs_dirs: vec![certs.join("absent"), certs.to_owned()], ..StoreConfig::default() }
}

fn write_hosts(certs: &Path, host: &str, text: &str) {
    fs::create_dir_all(certs.join(host)).unwrap();
    fs::write(certs.join(host).join("hosts.toml"), text).unwrap();
}

#[test]
fn hosts_are_asked_in_order_for_what_they_can() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/library/busybox:1", registry.address);
    let image = make_image(&from, &name);
    push(&from.store, &name).unwrap();
    let [resolver, puller] = [(); 2].map(|()| Proxy::start(&registry.address, NO_LIMIT, NO_LIMIT));
    let certs = TempDir::new().unwrap();
    write_hosts(
        certs.path(),
        "docker.io",
        &format!(
            "server = 'http://127.0.0.1:1'\n[host.'http://127.0.0.1:2']\n\
             [host.'http://{}']\ncapabilities = ['pull']\n[host.'http://{}']\ncapabilities = ['resolve']\n\
             [host.'http://{}'.header]\nx-who = 'naru'\n",
            puller.address, resolver.address, puller.address
        ),
    );
    let to = store_with(config(certs.path()));
    assert_eq!(pull(&to.store, "busybox:1").unwrap().image.id, image.id);
    let gets = |proxy: &Proxy| proxy.gets.lock().unwrap().clone();
    let is_api = |path: &String| !path.contains("/library/");
    let asked: Vec<String> = gets(&resolver).into_iter().filter(|path| !is_api(path)).collect();
    assert_eq!(asked, ["/v2/library/busybox/manifests/1?ns=docker.io"]);
    let asked: Vec<String> = gets(&puller).into_iter().filter(|path| !is_api(path)).collect();
    // The manifest by digest, a configuration and two layers.
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(
        asked.iter().all(|path| path.contains("/sha256:") && path.ends_with("?ns=docker.io")),
        "{asked:?}"
    );
}

#[test]
fn a_bad_file_is_named() {
    let certs = TempDir::new().unwrap();
    write_hosts(certs.path(), "reg.test_5000_", "\n[host.'https://m']\ncapabilites = ['pull']\n");
    let to = store_with(config(certs.path()));
    let error = pull(&to.store, "reg.test:5000/app:1").unwrap_err();
    let path = certs.path().join("reg.test_5000_/hosts.toml");
    assert!(error.message().starts_with(&format!("{}:3: unknown field", path.display())), "{error}");
    assert_eq!(error.kind(), Kind::InvalidInput);
}

/// Certificates that a CA of this test signed.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.cert")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn certificates_of_an_own_authority_and_of_the_client() {
    let authority = Authority::new();
    authority.sign("server", ExtendedKeyUsagePurpose::ServerAuth);
    authority.sign("client", ExtendedKeyUsagePurpose::ClientAuth);
    let show = |name: &str| authority.path(name).display().to_string();
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas:\n      - {}\n",
        show("server.cert"),
        show("server.key"),
        show("ca.crt")
    );
    let Some(registry) = Registry::start_with(&tls) else { return };
    let name = format!("{}/app:1", registry.address);
    let from = store();
    make_image(&from, &name);
    // Without a certificate of its own nobody is let in.
    assert!(push(&from.store, &name).is_err());

    // Docker's directory.
    let certs = TempDir::new().unwrap();
    let own = certs.path().join(&registry.address);
    fs::create_dir(&own).unwrap();
    for file in ["ca.crt", "client.cert", "client.key"] {
        fs::copy(authority.path(file), own.join(file)).unwrap();
    }
    let docker = store_with(config(certs.path()));
    let image = make_image(&docker, &name);
    push(&docker.store, &name).unwrap();
    assert_eq!(pull(&docker.store, &name).unwrap().image.id, image.id);
    fs::remove_file(own.join("client.key")).unwrap();
    let error = pull(&docker.store, &name).unwrap_err();
    let expect = format!(
        "missing key {} for {}. CA certificates must use the extension .crt",
        own.join("client.key").display(),
        own.join("client.cert").display()
    );
    assert_eq!(error.message(), expect);

    // containerd's file. The address is of this machine, where naru doesn't insist on verified
    // certificates; for a mirror's they are verified, so a wrong authority shows.
    let certs = TempDir::new().unwrap();
    let hosts = |ca: &str| {
        let client = format!("client = [['{}', '{}']]", show("client.cert"), show("client.key"));
        let text = format!("[host.'https://{}']\nca = '{ca}'\n{client}\n", registry.address);
        write_hosts(certs.path(), "reg.test", &text);
    };
    let containerd = store_with(config(certs.path()));
    hosts(&show("ca.crt"));
    assert_eq!(pull(&containerd.store, "reg.test/app:1").unwrap().image.id, image.id);
    let other = Authority::new();
    hosts(&other.path("ca.crt").display().to_string());
    assert!(pull(&store_with(config(certs.path())).store, "reg.test/app:1").is_err());
}
