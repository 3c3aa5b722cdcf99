//! What runs here: the `info` topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_core::{ClassKind, ClassSet, Id, Stamp};
use serde::Serialize;

use super::{Moment, Named, VERSION};

/// Facts for the `info` topic. Nothing here is secret.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Version of the program.
    pub version: String,
    /// The model in use.
    pub model: ModelInfo,
    /// The caption index in use, if there is one.
    pub index: Option<IndexInfo>,
}

/// A model bundle.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Id of its embedding space.
    pub space: String,
    /// Library and device that run it, for people.
    pub run_by: String,
}

/// A caption index.
#[derive(Clone, Debug, Serialize)]
pub struct IndexInfo {
    /// File name, without its folder.
    pub file: String,
    /// How many captions it holds.
    pub n_entries: u64,
}

/// The payload of the `info` topic.
#[derive(Clone, Debug, Serialize)]
pub struct InfoPayload<'a> {
    v: u32,
    #[serde(flatten)]
    at: Moment,
    boot_id: &'a str,
    version: &'a str,
    model: &'a ModelInfo,
    index: Option<&'a IndexInfo>,
    cameras: BTreeMap<&'a str, Camera<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Camera<'a> {
    labels: Vec<Named<'a>>,
    negatives: Vec<Named<'a>>,
}

impl<'a> InfoPayload<'a> {
    /// What runs here, with these classes, since `at`.
    pub fn new(
        boot_id: &'a str,
        at: Stamp,
        info: &'a NodeInfo,
        cameras: &'a BTreeMap<Id, Arc<ClassSet>>,
    ) -> Self {
        let named = |set: &'a ClassSet, kind: ClassKind| {
            set.classes().iter().filter(|it| it.kind == kind).map(Named::new).collect()
        };
        let camera = |set: &'a ClassSet| Camera {
            labels: named(set, ClassKind::Label),
            negatives: named(set, ClassKind::Negative),
        };
        Self {
            v: VERSION,
            at: Moment::new(at),
            boot_id,
            version: &info.version,
            model: &info.model,
            index: info.index.as_ref(),
            cameras: cameras.iter().map(|(id, set)| (id.as_str(), camera(set))).collect(),
        }
    }
}
