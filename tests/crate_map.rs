//! The crate map: which crates of the workspace each one may depend on.

use std::collections::BTreeMap;
use std::process::Command;

const CORE: &[&str] = &["lookout-core"];
/// What the program is wired from; automation and tests may use it too.
const ALL: &[&str] = &[
    "lookout-broker",
    "lookout-capture",
    "lookout-config",
    "lookout-core",
    "lookout-encoder",
    "lookout-eval",
    "lookout-hub",
    "lookout-index",
    "lookout-pipeline",
    "lookout-publish",
    "lookout-replay",
    "lookout-sources",
    "lookout-store",
];

/// Crate, and the crates that it may depend on outside its own tests.
const MAP: &[(&str, &[&str])] = &[
    ("lookout-core", &[]),
    ("lookout-broker", CORE),
    ("lookout-capture", CORE),
    ("lookout-config", CORE),
    ("lookout-encoder", &["lookout-core", "lookout-kernels"]),
    ("lookout-eval", CORE),
    ("lookout-hub", &[]),
    ("lookout-index", CORE),
    ("lookout-kernels", &[]),
    ("lookout-pipeline", CORE),
    ("lookout-publish", CORE),
    ("lookout-replay", CORE),
    ("lookout-sources", CORE),
    ("lookout-store", CORE),
    ("lookout", ALL),
    ("lookout-tests", ALL),
    ("xtask", ALL),
];

/// Dependency outside the workspace, and the only crate that may know it.
const OWNED: &[(&str, &[&str])] = &[
    ("config", &["lookout-config"]),
    ("fsst-rs", &["lookout-index"]),
    ("instant-distance", &["lookout-index"]),
    ("maud", &["lookout-replay"]),
    ("nokhwa", &["lookout-capture"]),
    // The demo's broker speaks the protocol with the client's codec.
    ("ort", &["lookout-encoder"]),
    ("parquet", &["lookout-sources"]),
    ("rumqttc", &["lookout-broker", "lookout-publish"]),
    ("tar", &["lookout-sources"]),
    ("tract-core", &["lookout-encoder"]),
    ("tract-cuda", &["lookout-encoder"]),
    ("tract-onnx", &["lookout-encoder"]),
    ("ureq", &["lookout-hub"]),
];

#[test]
fn crates_depend_only_downwards() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .expect("cargo should run");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo should print JSON");
    let map: BTreeMap<&str, &[&str]> = MAP.iter().copied().collect();
    let owned: BTreeMap<&str, &[&str]> = OWNED.iter().copied().collect();

    let mut violations = Vec::new();
    let packages = metadata["packages"].as_array().expect("packages should be a list");
    for package in packages {
        let name = package["name"].as_str().expect("a package should have a name");
        let Some(may_use) = map.get(name) else {
            violations.push(format!("{name} is not in the crate map"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies should be a list")
        {
            let used = dependency["name"].as_str().expect("a dependency should have a name");
            if dependency["kind"] == "dev" {
                continue;
            }
            if dependency["path"].is_string() && !may_use.contains(&used) {
                violations.push(format!("{name} must not depend on {used}"));
            }
            if owned.get(used).is_some_and(|it| !it.contains(&name)) {
                violations.push(format!("{name} must not depend on {used} outside the workspace"));
            }
        }
    }
    for (name, _) in MAP {
        if !packages.iter().any(|it| it["name"] == *name) {
            violations.push(format!("{name} is in the crate map and does not exist"));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
