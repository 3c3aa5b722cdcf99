//! The encoder against Pillow, onnxruntime and tokenizers (`tests/oracle/encoder.py`), and
//! against bundles that are not what they say.

use std::fs;
use std::path::{Path, PathBuf};

use lookout_capture::{PictureLimits, read_picture};
use lookout_core::{Disposition, Picture};
use lookout_encoder::{
    Bundle, EncoderError, Filter, Golden, ImageRule, ImageTower, Layout, Resize, Rounding,
    SampleCheck, TextTower, preprocess, resize_and_crop,
};
use serde_json::Value;

use crate::support::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn starter() -> Bundle {
    Bundle::open(&root().join("models/starter")).unwrap()
}

fn oracle(name: &str) -> PathBuf {
    root().join("tests/oracle").join(name)
}

fn picture(path: &Path) -> Picture {
    read_picture(path, &PictureLimits::default()).unwrap_or_else(|err| panic!("{err}: {err:?}"))
}

fn samples(path: &Path, key: &str) -> Vec<(String, Vec<f32>)> {
    let json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let sample = |it: &Value| {
        let name = it["name"].as_str().unwrap().to_owned();
        let values: Vec<f32> = serde_json::from_value(it["embedding"].clone()).unwrap();
        (name, values)
    };
    json[key].as_array().unwrap().iter().map(sample).collect()
}

/// Cosine alone would pass a vector of another length, so the norm is checked too.
#[track_caller]
fn check_embedding(name: &str, got: &[f32], oracle: &[f32], min_cosine: f64) {
    assert_eq!(got.len(), oracle.len(), "{name}: dimensions");
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
    };
    let norm = dot(got, got).sqrt();
    assert!((norm - 1.0).abs() < 1e-5, "{name}: norm {norm}");
    let cosine = dot(got, oracle) / (norm * dot(oracle, oracle).sqrt());
    assert!(min_cosine <= cosine, "{name}: cosine to the oracle is {cosine}");
}

/// At least 99.9 % of the values within one 8-bit step.
#[track_caller]
fn check_values(name: &str, got: &[u8], oracle: &[u8]) {
    assert_eq!(got.len(), oracle.len(), "{name}: values");
    let n_far = got.iter().zip(oracle).filter(|(a, b)| 1 < a.abs_diff(**b)).count();
    assert!(n_far * 1000 <= got.len(), "{name}: {n_far} of {} values are off", got.len());
}

#[test]
fn pictures_agree_with_pillow_and_onnxruntime() {
    let bundle = starter();
    let mut tower = ImageTower::load(&bundle).unwrap();
    let samples = samples(&bundle.dir().join("golden.json"), "pictures");
    assert_eq!(samples.len(), 40);
    for (name, expected) in samples {
        let got = tower.encode(&picture(&bundle.pictures_dir().join(&name))).unwrap();
        check_embedding(&name, got.as_slice(), &expected, 0.999);
    }
}

#[test]
fn captions_agree_with_onnxruntime() {
    let mut tower = TextTower::load(&starter()).unwrap();
    let samples = samples(&oracle("encoder-captions.json"), "texts");
    assert_eq!(samples.len(), 50);
    for (text, expected) in samples {
        let got = tower.encode_text(&text).unwrap();
        check_embedding(&text, got.as_slice(), &expected, 0.999);
    }
}

#[test]
fn what_the_model_sees_is_what_pillow_makes() {
    let bundle = starter();
    for stem in ["coco_000000000285", "coco_000000000872", "coco_000000012280"] {
        let path = bundle.pictures_dir().join(format!("{stem}.jpg"));
        let got = resize_and_crop(&picture(&path), bundle.image_rule()).unwrap();
        let expected = picture(&oracle(&format!("pictures/{stem}.crop.png")));
        check_values(stem, &got, expected.rgb());
    }
}

#[test]
fn unusual_pictures_are_seen_as_pillow_sees_them() {
    let rule = ImageRule {
        size_px: 16,
        resize: Resize::ShortSide {
            short_side_px: 20,
            long_side: Rounding::HalfEven,
            crop: Rounding::Floor,
        },
        filter: Filter::Bicubic,
        mean: [0.0; 3],
        std: [1.0; 3],
        layout: Layout::Nhwc,
    };
    let mut n_checked = 0;
    for entry in fs::read_dir(oracle("pictures")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let crop = path.with_file_name(format!("{name}.crop.png"));
        if crop.exists() {
            let got = resize_and_crop(&picture(&path), &rule).unwrap();
            check_values(name, &got, picture(&crop).rgb());
            n_checked += 1;
        }
    }
    assert_eq!(n_checked, 20);
}

/// `tests/oracle/resize.py` made the rows by the programs that models are used with.
#[test]
fn each_resize_rule_is_that_of_its_reference() {
    const PICTURES: [u32; 8] = [285, 872, 12280, 20247, 30213, 62554, 99053, 116479];
    const N_ROWS: usize = 12;
    let short =
        |short_side_px, crop| Resize::ShortSide { short_side_px, long_side: Rounding::Floor, crop };
    let (floor, half_even) = (Rounding::Floor, Rounding::HalfEven);
    let cases = [
        ("transformers-clip-224", 224, short(224, floor), Filter::Bicubic),
        ("open-clip-224", 224, short(224, half_even), Filter::Bicubic),
        ("transformers-mobileclip-256", 256, short(256, floor), Filter::Bilinear),
        ("open-clip-bilinear-96", 96, short(96, half_even), Filter::Bilinear),
        ("transformers-siglip-224", 224, Resize::Exact, Filter::Bicubic),
        ("open-clip-siglip-256", 256, Resize::Exact, Filter::Bicubic),
        ("transformers-lanczos-224", 224, short(224, floor), Filter::Lanczos),
    ];
    for (name, size_px, resize, filter) in cases {
        let (mean, std, layout) = ([0.0; 3], [1.0; 3], Layout::Nhwc);
        let rule = ImageRule { size_px, resize, filter, mean, std, layout };
        let expected = picture(&oracle(&format!("resize/{name}.png")));
        let row = size_px as usize * 3;
        let strips = expected.rgb().chunks(row * N_ROWS);
        assert_eq!(strips.len(), PICTURES.len(), "{name}");
        for (id, strip) in PICTURES.into_iter().zip(strips) {
            let path = root().join(format!("models/starter/pictures/coco_{id:012}.jpg"));
            let square = resize_and_crop(&picture(&path), &rule).unwrap();
            let middle = (size_px as usize / 2 - 2) * row;
            let rows = [
                &square[..4 * row],
                &square[middle..middle + 4 * row],
                &square[square.len() - 4 * row..],
            ];
            check_values(&format!("{name}, {id}"), &rows.concat(), strip);
        }
    }
}

#[test]
fn extreme_sizes_need_no_extreme_memory() {
    let rule = starter().image_rule().clone();
    for (width_px, height_px) in [(1, 1), (1, 15_000_000), (15_000_000, 1), (2, 3), (65_535, 7)] {
        let rgb = vec![100; width_px as usize * height_px as usize * 3];
        let picture = Picture::new(width_px, height_px, rgb).unwrap();
        let values = preprocess(&picture, &rule).unwrap();
        assert_eq!(values.len(), 3 * 224 * 224);
        let expected = (100.0 - 127.0) / 128.0;
        assert!(values.iter().all(|it| (it - expected).abs() < 1e-6), "{width_px}x{height_px}");
    }
}

#[test]
fn the_starter_proves_itself() {
    let bundle = starter();
    bundle.verify_files().unwrap();
    let golden = Golden::open(&bundle).unwrap();
    assert_eq!((golden.picture_names().len(), golden.texts().len()), (40, 20));
    let read = |path: &Path| Ok(read_picture(path, &PictureLimits::default())?);
    let mut tower = ImageTower::load(&bundle).unwrap();
    for check in golden.check_pictures(&mut tower, 1, read).unwrap() {
        check.ensure().unwrap();
    }
    let mut tower = TextTower::load(&bundle).unwrap();
    for check in golden.check_texts(&mut tower, 20).unwrap() {
        check.ensure().unwrap();
    }
}

/// A copy of the tiny bundle after `edit`, its hashes made right again if `rehash`.
pub(crate) fn tiny(rehash: bool, edit: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("samples")).unwrap();
    for name in ["model.toml", "image.onnx", "text.onnx", "words.json", "golden.json"] {
        fs::copy(oracle("tiny").join(name), dir.path().join(name)).unwrap();
    }
    edit(dir.path());
    if rehash {
        let manifest = fs::read_to_string(dir.path().join("model.toml")).unwrap();
        let right = manifest.lines().map(|line| match line.split_once("\" = \"") {
            Some((name, hash)) if hash.len() == 65 => {
                let file = name.trim_start_matches('"');
                let hash = sha256(&fs::read(dir.path().join(file)).unwrap());
                format!("{name}\" = \"{hash}\"\n")
            }
            _ => format!("{line}\n"),
        });
        let right: String = right.collect();
        fs::write(dir.path().join("model.toml"), right).unwrap();
    }
    dir
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

fn replace(dir: &Path, from: &str, to: &str) {
    let path = dir.join("model.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the manifest");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn another_model_works_by_its_manifest_alone() {
    let bundle = Bundle::open(&oracle("tiny")).unwrap();
    assert_eq!((bundle.space(), bundle.dimension()), ("tiny", 3));
    assert_eq!((bundle.scales().image.get(), bundle.scales().caption.get()), (10.0, 5.5));
    let mut images = ImageTower::load(&bundle).unwrap();
    let solid = Picture::new(9, 7, [200, 100, 50].repeat(63)).unwrap();
    let norm = 52_500f32.sqrt();
    let expected = [200.0 / norm, 100.0 / norm, 50.0 / norm];
    check_embedding("solid", images.encode(&solid).unwrap().as_slice(), &expected, 0.999_999);

    // <start> a cat <end>; one too many tokens are cut and the end token stays; a short text is
    // padded.
    let mut texts = TextTower::load(&bundle).unwrap();
    for (text, ids) in [
        ("a cat", [4.0, 5.0, 2.0]),
        (" A  dog dog a cat", [4.0, 6.0, 2.0]),
        ("cat", [5.0, 2.0, 0.0]),
        ("zebra", [3.0, 2.0, 0.0]),
    ] {
        check_embedding(text, texts.encode_text(text).unwrap().as_slice(), &ids, 0.999_999);
    }
}

#[test]
fn inputs_without_an_embedding_are_refused_and_the_next_one_works() {
    let bundle = Bundle::open(&oracle("tiny")).unwrap();
    let mut images = ImageTower::load(&bundle).unwrap();
    let black = Picture::new(4, 4, vec![0; 48]).unwrap();
    let err = images.encode(&black).unwrap_err();
    assert!(matches!(err, EncoderError::Output { .. }), "{err}");
    assert!(err.to_string().ends_with("gave no embedding of a picture of 4x4 px"), "{err}");
    assert_eq!(err.disposition(), Disposition::SkipFrame);
    assert!(images.encode(&Picture::new(1, 1, vec![1, 2, 3]).unwrap()).is_ok());

    let mut texts = TextTower::load(&bundle).unwrap();
    for text in ["", "  \n"] {
        let err = texts.encode_text(text).unwrap_err();
        assert!(matches!(err, EncoderError::EmptyText { .. }), "{text:?}: {err}");
    }
    let err = texts.encode_text(&"a".repeat(TextTower::MAX_TEXT_BYTES + 1)).unwrap_err();
    assert_eq!(err.to_string(), "a text may have at most 65536 bytes, got 65537");
    assert!(texts.encode_text("a cat").is_ok());
}

#[test]
fn a_changed_file_never_reaches_a_library() {
    for name in ["image.onnx", "text.onnx", "words.json", "golden.json"] {
        let dir = tiny(false, |dir| {
            let mut bytes = fs::read(dir.join(name)).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(dir.join(name), bytes).unwrap();
        });
        let bundle = Bundle::open(dir.path()).unwrap();
        let loaded = match name {
            "image.onnx" => ImageTower::load(&bundle).map(drop),
            "golden.json" => Golden::open(&bundle).map(drop),
            _ => TextTower::load(&bundle).map(drop),
        };
        for err in [loaded.unwrap_err(), bundle.verify_files().unwrap_err()] {
            assert!(
                matches!(&err, EncoderError::Hash { path, .. } if path.ends_with(name)),
                "{name}: {err}"
            );
        }
    }
}

#[test]
fn models_that_contradict_their_manifest_are_refused() {
    let cases: [(&str, &str, &str); 7] = [
        ("dimension = 3", "dimension = 4", "must output one row of 4 numbers, got shape [1, 3]"),
        (
            "input = \"pixels\"",
            "input = \"image\"",
            "image.onnx: the inputs must be \"image\", as model.toml says, got \"pixels\"",
        ),
        (
            "output = \"vector\"",
            "output = \"nothing\"",
            "image.onnx: the outputs must be \"nothing\" among others, as model.toml says, got \
             \"vector\"",
        ),
        ("\"nhwc\"", "\"nchw\"", "must output one row of 3 numbers, got shape [1, 4]"),
        ("end_token = \"<end>\"", "end_token = \"<pad>\"", "end a cut text of 4 tokens with"),
        (
            "context_length = 4",
            "context_length = 2",
            "leave room for at least 1 token of a text beside the special ones within \
             `text.context_length`; raise it, got 2",
        ),
        ("pad_token = \"<pad>\"", "pad_token = \"[PAD]\"", "cannot load"),
    ];
    for (from, to, message) in cases {
        let dir = tiny(false, |dir| replace(dir, from, to));
        let bundle = Bundle::open(dir.path()).unwrap();
        let images = ImageTower::load(&bundle).map(drop);
        let err = images.and_then(|()| TextTower::load(&bundle).map(drop)).unwrap_err();
        assert!(err.to_string().contains(message), "{to}: {err}");
        assert_eq!(err.disposition(), Disposition::Fatal, "{to}");
    }
}

#[test]
fn rubbish_in_place_of_a_file_is_an_error() {
    let whole = fs::read(oracle("tiny/text.onnx")).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![vec![], vec![0; 64], vec![0xff; 4096], b"{}".to_vec()];
    cases.extend((1..8).map(|i| whole[..whole.len() * i / 8].to_vec()));
    for bytes in &cases {
        for name in ["image.onnx", "text.onnx", "words.json", "golden.json"] {
            let dir = tiny(true, |dir| fs::write(dir.join(name), bytes).unwrap());
            let bundle = Bundle::open(dir.path()).unwrap();
            let loaded = match name {
                "image.onnx" => ImageTower::load(&bundle).map(drop),
                "golden.json" => Golden::open(&bundle).map(drop),
                _ => TextTower::load(&bundle).map(drop),
            };
            let err = loaded.unwrap_err().to_string();
            assert!(err.contains(name), "{name}: {err}");
        }
    }
}

#[test]
fn a_machine_that_computes_otherwise_is_found_out() {
    let dir = tiny(true, |dir| {
        let golden =
            r#"{"made_by":"","pictures":[],"texts":[{"name":"a cat","embedding":[0.6,0.8,0]}]}"#;
        fs::write(dir.join("golden.json"), golden).unwrap();
    });
    let bundle = Bundle::open(dir.path()).unwrap();
    let mut tower = TextTower::load(&bundle).unwrap();
    let checks = Golden::open(&bundle).unwrap().check_texts(&mut tower, 9).unwrap();
    let [check] = <[_; 1]>::try_from(checks).unwrap();
    assert!(!check.passed());
    // The portable kernels do the same, so it is not the machine.
    let other = SampleCheck { portable_cosine: Some(1.0), ..check.clone() };
    let unknown = SampleCheck { portable_cosine: None, ..check.clone() };
    for (check, blame) in [
        (check, "so it is not this machine's doing: model.toml describes the model otherwise"),
        (other, "the portable kernels give 1, so this machine computes the model wrongly"),
        (unknown, "this machine computes the model wrongly, or model.toml describes it wrongly"),
    ] {
        let message = check.ensure().unwrap_err().to_string();
        assert!(message.contains("\"a cat\" must have a cosine of at least 0.99999"), "{message}");
        assert!(message.contains(blame), "{message}");
    }
}

/// A folder with links to the starter's files but these, and its manifest.
fn starter_without(names: &[&str]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let from = root().join("models/starter");
    for entry in fs::read_dir(&from).unwrap() {
        let name = entry.unwrap().file_name();
        if !names.contains(&name.to_str().unwrap()) {
            std::os::unix::fs::symlink(from.join(&name), dir.path().join(&name)).unwrap();
        }
    }
    (dir, fs::read_to_string(from.join("model.toml")).unwrap())
}

#[test]
fn an_altered_sample_picture_is_named() {
    let (dir, text) = starter_without(&["model.toml", "pictures"]);
    fs::write(dir.path().join("model.toml"), text).unwrap();
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for entry in fs::read_dir(root().join("models/starter/pictures")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), pictures.join(entry.file_name())).unwrap();
    }
    let model = dir.path().to_str().unwrap();
    // Another picture, which can be read: no decoder sees it.
    let altered = pictures.join("coco_000000000285.jpg");
    fs::copy(pictures.join("coco_000000000872.jpg"), &altered).unwrap();
    let told = ["pictures/coco_000000000285.jpg must have SHA-256", "restore the file"];
    run(&["models", "verify", model]).failed(1, &told);
    let classify = ["classify", "--image-only", "--model", model, "--label", "a", "--label", "b"];
    run(&[&classify[..], &[altered.to_str().unwrap()]].concat()).failed(1, &told);
    fs::remove_file(&altered).unwrap();
    let told = ["`sha256.\"pictures/coco_000000000285.jpg\"` must be the hash of a readable file"];
    run(&["models", "verify", model]).failed(1, &told);
}

#[test]
fn a_sample_picture_without_a_hash_is_refused() {
    let (dir, text) = starter_without(&["model.toml"]);
    let is_its = |it: &&str| it.contains("pictures/coco_000000000285.jpg");
    assert_eq!(text.lines().filter(is_its).count(), 1);
    let without: Vec<&str> = text.lines().filter(|it| !is_its(it)).collect();
    fs::write(dir.path().join("model.toml"), without.join("\n")).unwrap();
    let message = Golden::open(&Bundle::open(dir.path()).unwrap()).unwrap_err().to_string();
    let rule =
        "`sha256.\"pictures/coco_000000000285.jpg\"` must be the SHA-256 of that sample picture";
    assert!(message.contains(rule) && message.ends_with("got nothing"), "{message}");
}

#[test]
fn a_tokenizer_with_more_words_than_the_model_is_refused_at_loading() {
    let (dir, text) = starter_without(&["model.toml", "tokenizer.json"]);
    let tokenizer = fs::read_to_string(root().join("models/starter/tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["model"]["vocab"]["zyzzyva"] = 30_522.into();
    let bytes = serde_json::to_vec(&tokenizer).unwrap();
    fs::write(dir.path().join("tokenizer.json"), &bytes).unwrap();
    let line = text.lines().find(|it| it.starts_with("\"tokenizer.json\"")).unwrap();
    let text = text.replace(line, &format!("\"tokenizer.json\" = \"{}\"", sha256(&bytes)));
    fs::write(dir.path().join("model.toml"), text).unwrap();
    let bundle = Bundle::open(dir.path()).unwrap();
    let message = TextTower::load(&bundle).map(drop).unwrap_err().to_string();
    assert!(message.contains("text.onnx: the table "), "{message}");
    assert!(message.contains("at least 30523 rows"), "{message}");
    assert!(message.contains("the largest token id is 30522"), "{message}");
    assert!(message.ends_with("got 30522"), "{message}");
}

#[test]
fn a_bundle_whose_embeddings_are_wrong_fails_every_check() {
    // The starter with other preprocessing: every file is as recorded.
    let (dir, text) = starter_without(&["model.toml"]);
    let from = root().join("models/starter");
    let std = "std = [128.0, 128.0, 128.0]";
    assert!(text.contains(std));
    let text = text.replace(std, "std = [4.0, 4.0, 4.0]");
    fs::write(dir.path().join("model.toml"), text).unwrap();
    let model = dir.path().to_str().unwrap();
    let blame = "it is not this machine's doing: model.toml describes the model otherwise";
    let bench = run(&["models", "bench", model, "--pictures", "1"]);
    assert!(bench.stdout.contains("ms CPU time"), "the figures are told: {}", bench.stdout);
    bench.failed(1, &["what was measured is no use", blame]);
    run(&["models", "verify", model]).failed(1, &["do not use the model's labels", blame]);
    let picture = from.join("pictures/coco_000000000285.jpg");
    let classify = ["classify", "--model", model, "--label", "a", "--label", "b"];
    run(&[&classify[..], &[picture.to_str().unwrap()]].concat()).failed(1, &[blame]);
}

#[test]
fn golden_files_must_hold_something_and_name_pictures_plainly() {
    let picture = |name: &str| {
        format!(
            r#"{{"made_by":"","pictures":[{{"name":"{name}","embedding":[1,0,0]}}],"texts":[]}}"#
        )
    };
    let plain = "must be the plain name of a picture";
    for (golden, message) in [
        (r#"{"made_by":"","pictures":[],"texts":[]}"#.to_owned(), "at least one picture or text"),
        (picture("../../secret.png"), plain),
        (picture("/etc/passwd"), plain),
        (picture(".."), plain),
        (picture(r"..\\secret.png"), plain),
    ] {
        let dir = tiny(true, |dir| fs::write(dir.join("golden.json"), &golden).unwrap());
        let err = Golden::open(&Bundle::open(dir.path()).unwrap()).unwrap_err();
        let source = std::error::Error::source(&err).unwrap().to_string();
        assert!(source.contains(message), "{golden}: {source}");
    }
}

#[test]
fn golden_embeddings_of_another_dimension_are_refused() {
    let dir = tiny(true, |dir| {
        let golden =
            r#"{"made_by":"","pictures":[],"texts":[{"name":"a cat","embedding":[0.6,0.8]}]}"#;
        fs::write(dir.join("golden.json"), golden).unwrap();
    });
    let err = Golden::open(&Bundle::open(dir.path()).unwrap()).unwrap_err();
    let source = std::error::Error::source(&err).unwrap().to_string();
    assert_eq!(source, "\"a cat\" must have 3 numbers, got 2");
}

#[test]
fn a_file_beyond_its_limit_is_refused_unread() {
    let dir = tiny(false, |dir| {
        let file = fs::File::create(dir.join("golden.json")).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
    });
    let message = Bundle::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("golden.json") && message.contains("67108865"), "{message}");
}

#[test]
fn every_fault_of_a_bundle_is_named_at_once() {
    let dir = tiny(false, |dir| {
        fs::remove_file(dir.join("text.onnx")).unwrap();
        fs::remove_dir(dir.join("samples")).unwrap();
        replace(dir, "file = \"golden.json\"", "file = \"gold.json\"");
    });
    let message = Bundle::open(dir.path()).unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().skip(1).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "`golden.file` must be a file with an entry in `sha256`, got \"gold.json\"",
            "`sha256.\"text.onnx\"` must be the hash of a readable file in the bundle's folder, \
             got No such file or directory (os error 2)",
            "`golden.pictures` must be a folder in the bundle's folder, got \"samples\"",
        ]
    );
    let missing = Bundle::open(&dir.path().join("none")).unwrap_err().to_string();
    assert!(missing.ends_with("none/model.toml"), "{missing}");
}
