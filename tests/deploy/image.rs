//! The image that `scripts/image` makes is what fetches it takes: Istio's agent and Envoy Gateway read an image's last layer,
//! which must be of the type below and hold a file `plugin.wasm` (pkg/wasm/imagefetcher.go of Istio).

use flate2::read::GzDecoder;
use mooring_test_kit::rig::plugin_path;
use mooring_test_kit::servers::root;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::PathBuf;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[allow(clippy::disallowed_methods)]
fn layout() -> PathBuf {
    let path = root().join(std::env::var("MOORING_IMAGE").unwrap_or_else(|_| "dist/image".into()));
    assert!(path.exists(), "{} is missing: run make image", path.display());
    path
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

fn sha256(bytes: &[u8]) -> String {
    let digits: Vec<String> = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

/// What a descriptor describes, which is as large, of the type and of the digest that it says.
fn described(descriptor: &Value, media_type: &str) -> Vec<u8> {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().expect("a digest");
    let bytes = std::fs::read(layout().join("blobs").join(digest.replace(':', "/"))).expect("a blob");
    assert_eq!(descriptor["size"].as_u64(), u64::try_from(bytes.len()).ok());
    assert_eq!(digest, sha256(&bytes));
    bytes
}

#[test]
fn the_image_holds_the_plugin_and_nothing_else() {
    let version = json(&std::fs::read(layout().join("oci-layout")).expect("a layout"));
    assert_eq!(version["imageLayoutVersion"], "1.0.0");
    let index = json(&std::fs::read(layout().join("index.json")).expect("an index"));
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "mooring");
    let manifest = json(&described(&index["manifests"][0], MANIFEST));
    let config = json(&described(&manifest["config"], CONFIG));
    assert_eq!(config["os"], "linux");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));

    assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    let layer = described(&manifest["layers"][0], LAYER);
    let mut archive = Vec::new();
    GzDecoder::new(layer.as_slice()).read_to_end(&mut archive).expect("gzip");
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([sha256(&archive)]));
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut files = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a file");
        (entry.path().expect("a path").into_owned(), entry.header().mode().expect("a mode"), bytes)
    });
    let (path, mode, bytes) = files.next().expect("a file");
    assert_eq!((path, mode & 0o444), (PathBuf::from("plugin.wasm"), 0o444));
    assert!(bytes == std::fs::read(plugin_path()).expect("the plugin"), "another plugin than {:?}", plugin_path());
    assert!(files.next().is_none());
}
