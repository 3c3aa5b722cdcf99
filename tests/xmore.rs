//! The X-MoRe mathematics against `oracle/xmore*.json`, written by a numpy program that shares no
//! code with ours. Every file of that name is checked, so a further case needs no code.

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use lookout_core::{
    Candidate, ClassEmbeddings, Classifier, Embedding, LogitScale, Scales, Weighting, Window,
};
use serde_json::Value;

const TOLERANCE: f64 = 1e-6;

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("array").iter().map(|it| it.as_f64().expect("number")).collect()
}

/// The oracle works on f32 values that are unit vectors already.
fn embeddings(value: &Value) -> Vec<Embedding> {
    let unit = |it: &Value| {
        #[expect(clippy::cast_possible_truncation, reason = "the file holds f32 values")]
        let values = floats(it).into_iter().map(|it| it as f32).collect();
        Embedding::from_unit(values).expect("unit vector")
    };
    value.as_array().expect("array").iter().map(unit).collect()
}

#[track_caller]
fn check(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= TOLERANCE, "{what}[{i}]: got {got}, expected {expected}");
    }
}

fn check_file(path: &Path) {
    let text = fs::read_to_string(path).expect("readable");
    let golden: Value = serde_json::from_str(&text).expect("JSON");
    let scale = LogitScale::from_linear(golden["scale"].as_f64().expect("number")).expect("scale");
    let window = NonZeroU64::new(golden["window"].as_u64().expect("number")).expect("window");
    let classes = ClassEmbeddings::new(embeddings(&golden["labels"])).expect("classes");
    let images = embeddings(&golden["image_embeddings"]);
    let captions = golden["caption_embeddings"].as_array().expect("array");
    let expected = golden["expected"].as_array().expect("array");
    assert!(!images.is_empty() && images.len() == captions.len() && images.len() == expected.len());

    for (key, weighting) in [
        ("memoryless", Weighting::Memoryless),
        ("running", Weighting::History(Window::Unbounded)),
        ("windowed", Weighting::History(Window::Frames(window))),
    ] {
        let scales = Scales { image: scale, caption: scale, bias: None };
        let mut classifier = Classifier::new(classes.clone(), scales, weighting, usize::MAX);
        for (t, ((image, captions), row)) in images.iter().zip(captions).zip(expected).enumerate() {
            let candidates = embeddings(captions).into_iter().enumerate().map(|(i, embedding)| {
                Candidate { text: i.to_string(), embedding, key_similarity: 0.0 }
            });
            let evidence =
                classifier.classify(image, candidates.collect(), vec![]).expect("evidence");
            let what = |field: &str| format!("{}, {key}, frame {t}, {field}", path.display());
            check(&what("image"), evidence.image.probabilities(), &floats(&row["image"]));
            let alpha = row["alpha"].as_f64().expect("number");
            check(&what("alpha"), &[evidence.image.confidence()], &[alpha]);
            match &evidence.captions {
                Some(it) => {
                    check(&what("captions"), it.probabilities(), &floats(&row["captions"]));
                    let beta = row["beta"].as_f64().expect("number");
                    check(&what("beta"), &[it.confidence()], &[beta]);
                }
                None => assert!(row["captions"].is_null(), "{}", what("captions")),
            }
            check(&what("fused"), evidence.fused.probabilities(), &floats(&row[key]));
        }
    }
}

#[test]
fn fusion_reproduces_the_oracle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
    let mut n_files = 0;
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("xmore") && name.ends_with(".json") {
            check_file(&path);
            n_files += 1;
        }
    }
    assert!(0 < n_files, "no oracle file found");
}
