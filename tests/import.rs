//! `lookout models import` on exports that the real exporters wrote (`tests/exports/make.py`): what
//! comes out against onnxruntime's embeddings of the float files, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lookout_capture::{PictureLimits, read_picture};
use lookout_core::Embedding;
use lookout_encoder::{
    BoxError, Bundle, EncoderError, ImageTower, ImportHost, ImportOptions, ImportReport,
    ImportStep, TextTower, import,
};
use serde_json::Value;

use crate::support::{Ran, lookout, root, run};

/// The least cosine between our float embedding and onnxruntime's: the bound for the way a picture
/// or a text takes to the tower. A wrong resize rule, padding, mean or output costs more.
const MIN_FLOAT_COSINE: f64 = 0.999;

/// The least cosine between the int8 bundle and onnxruntime's float embedding. These towers are 4
/// to 64 wide, so that a sum has few terms and its rounding errors hardly cancel: activations of
/// 8 bits cost an angle of up to 0.09 (the ResNet), where a full-sized tower has 0.02. A layer that
/// is bound wrongly costs far more.
const MIN_INT8_COSINE: f64 = 0.995;

fn exports() -> PathBuf {
    root().join("tests/exports")
}

struct Host;

impl ImportHost for Host {
    fn read_picture(&mut self, path: &Path) -> Result<lookout_core::Picture, BoxError> {
        Ok(read_picture(path, &PictureLimits::default())?)
    }

    fn progress(&self, _: ImportStep, done: u64, total: u64) {
        assert!(done <= total);
    }
}

fn options(source: &Path, output: &Path) -> ImportOptions {
    let pictures = root().join("models/starter/pictures");
    ImportOptions {
        source: source.to_owned(),
        output: output.to_owned(),
        license: Some("MIT".to_owned()),
        logit_scale: Some(81.0),
        pictures: vec![pictures.join("coco_000000000285.jpg")],
        texts: vec!["a dog".to_owned()],
        ..ImportOptions::default()
    }
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&fs::read(exports().join(name).join("expected.json")).unwrap()).unwrap()
}

fn cosine(got: &Embedding, expected: &Value) -> f64 {
    let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(got.as_slice().len(), expected.len());
    got.cosine(&Embedding::normalize(expected).unwrap())
}

/// A copy of an export, after `edit`.
fn edited(name: &str, edit: impl FnOnce(&Path)) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                fs::create_dir(&target).unwrap();
                copy(&path, &target);
            } else {
                fs::write(target, fs::read(path).unwrap()).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&exports().join(name), dir.path());
    edit(dir.path());
    dir
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn try_import(source: &Path) -> Result<ImportReport, EncoderError> {
    let dir = tempfile::tempdir().unwrap();
    let result = import(&options(source, &dir.path().join("bundle")), &mut Host);
    // Either the bundle is there, or nothing is.
    let n = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(n, usize::from(result.is_ok()));
    result
}

#[track_caller]
fn refusal(name: &str, edit: impl FnOnce(&Path)) -> String {
    let dir = edited(name, edit);
    let err = try_import(dir.path()).unwrap_err();
    let sources = std::iter::successors(std::error::Error::source(&err), |it| it.source());
    sources.fold(err.to_string(), |text, it| format!("{text}: {it}"))
}

#[test]
fn every_family_becomes_a_bundle_that_agrees_with_onnxruntime() {
    let mut n_checked = 0;
    for entry in fs::read_dir(exports()).unwrap() {
        let source = entry.unwrap().path();
        let name = source.file_name().unwrap().to_str().unwrap().to_owned();
        if !source.is_dir() {
            continue;
        }
        let expected = expected(&name);
        let list = |key: &str| expected[key].as_array().unwrap().clone();
        let dir = tempfile::tempdir().unwrap();
        let pictures = root().join("models/starter/pictures");
        let mut options = options(&source, &dir.path().join("bundle"));
        let names = list("pictures");
        options.pictures =
            names.iter().map(|it| pictures.join(it["name"].as_str().unwrap())).collect();
        options.texts =
            list("texts").iter().map(|it| it["text"].as_str().unwrap().to_owned()).collect();
        let report =
            import(&options, &mut Host).unwrap_or_else(|err| panic!("{name}: {err}: {err:?}"));
        assert!(0 < report.towers[0].n_quantized && 0 < report.towers[1].n_quantized, "{name}");

        let bundle = Bundle::open(&options.output).unwrap();
        bundle.verify_files().unwrap();
        assert_eq!(bundle.dimension() as u64, expected["dimension"].as_u64().unwrap());
        let golden = fs::read(options.output.join("golden.json")).unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let mut images = ImageTower::load(&bundle).unwrap();
        let mut texts = TextTower::load(&bundle).unwrap();
        for key in ["pictures", "texts"] {
            let float = golden[key].as_array().unwrap();
            assert_eq!(float.len(), list(key).len());
            for (float, sample) in float.iter().zip(list(key)) {
                let what = float["name"].as_str().unwrap();
                let int8 = if key == "texts" {
                    texts.encode_text(what).unwrap()
                } else {
                    images.encode(&Host.read_picture(&pictures.join(what)).unwrap()).unwrap()
                };
                let got = cosine(&int8, &sample["embedding"]);
                assert!(MIN_INT8_COSINE <= got, "{name}, {what:?}: int8 cosine {got}");
                assert!(report.min_cosine < cosine(&int8, &float["embedding"]), "{name}, {what:?}");
                let float: Vec<f32> = serde_json::from_value(float["embedding"].clone()).unwrap();
                let got = cosine(&Embedding::normalize(float).unwrap(), &sample["embedding"]);
                assert!(MIN_FLOAT_COSINE <= got, "{name}, {what:?}: float cosine {got}");
            }
        }
        n_checked += 1;
    }
    assert_eq!(n_checked, 11);
}

#[test]
fn scale_and_bias_are_found_where_exports_have_them() {
    for (name, bias) in [("clip-combined", None), ("openclip-vit", None), ("siglip", Some(-12.5))] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&exports().join(name), &dir.path().join("bundle"));
        options.logit_scale = None;
        let report = import(&options, &mut Host).unwrap();
        let expected = expected(name)["truth"]["logit_scale"].as_f64().unwrap();
        assert!((report.logit_scale / expected - 1.0).abs() < 1e-5, "{name}: {report:?}");
        assert_eq!(report.logit_bias, bias, "{name}");
        let scales = Bundle::open(&options.output).unwrap().scales();
        assert!((scales.image.get() / expected - 1.0).abs() < 1e-5);
        assert_eq!(scales.bias.map(|it| it.get()), bias);
    }
    // Without the weights' file SigLIP's two come from the graph of both towers.
    let dir = edited("siglip", |dir| fs::remove_file(dir.join("model.safetensors")).unwrap());
    let made = tempfile::tempdir().unwrap();
    let mut options = options(dir.path(), &made.path().join("bundle"));
    options.logit_scale = None;
    let report = import(&options, &mut Host).unwrap();
    assert!((report.logit_scale / 109.947_172 - 1.0).abs() < 1e-5, "{report:?}");
    assert_eq!(report.logit_bias, Some(-12.5));
    // With neither, the user must say them, and is told what `config.json` means.
    fs::remove_file(dir.path().join("onnx/model.onnx")).unwrap();
    fs::remove_dir_all(&options.output).unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.contains("breaks 2 rule(s)"), "{message}");
    assert!(message.contains("`logit_bias` must be given with --logit-bias"), "{message}");
    let message = refusal("tinyclip", |dir| fs::remove_file(dir.join("config.json")).unwrap());
    assert!(message.contains("`config.json` must be there, or open_clip_config.json"), "{message}");
}

#[test]
fn all_that_is_wrong_with_a_folder_is_told_at_once() {
    let message = refusal("clip-gelu-o13", |dir| {
        fs::remove_file(dir.join("tokenizer.json")).unwrap();
        fs::remove_file(dir.join("onnx/text_model.onnx")).unwrap();
        let path = dir.join("preprocessor_config.json");
        replace(&path, "\"resample\": 3", "\"resample\": 0, \"sharpen\": 2");
    });
    let lines: Vec<&str> = message.lines().skip(1).map(str::trim).collect();
    assert_eq!(lines.len(), 4, "{message}");
    for (line, start) in lines.iter().zip([
        "`preprocessor_config.json: resample` must be 1, 2 or 3 (Lanczos, bilinear, bicubic), got 0",
        "`preprocessor_config.json: sharpen` must be removed if it changes nothing",
        "`the text tower` must be there: text_model.onnx,",
        "`the tokenizer` must be there: tokenizer.json or merges.txt, got nothing",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    let cases: [(&str, &str, &str, &str, &str); 7] = [
        (
            "clip-gelu-o13",
            "config.json",
            "\"image_size\": 48",
            "\"image_size\": 56",
            "must be 56, `image_size`",
        ),
        (
            "clip-gelu-o13",
            "config.json",
            "\"clip\"",
            "\"bert\"",
            "`config.json: model_type` must be",
        ),
        (
            "clip-gelu-o13",
            "config.json",
            "\"projection_dim\": 40",
            "\"projection_dim\": 41",
            "must be 41, as configured, got 40",
        ),
        (
            "openclip-vit",
            "open_clip_config.json",
            "\"context_length\": 24",
            "\"context_length\": 25",
            "must be 24, as the text tower's",
        ),
        (
            "openclip-vit",
            "open_clip_config.json",
            "\"image_size\": 48",
            "\"image_size\": 56",
            "must be 1 x 3 x 56 x 56",
        ),
        (
            "openclip-vit",
            "open_clip_config.json",
            "\"squash\"",
            "\"longest\"",
            "resize_mode` must be",
        ),
        (
            "clip-quickgelu-dynamo18",
            "vocab.json",
            "\"!\": 0",
            "\"!\": 7",
            "must be the tokens that merges.txt gives",
        ),
    ];
    for (name, file, from, to, message) in cases {
        let got = refusal(name, |dir| replace(&dir.join(file), from, to));
        assert!(got.contains(message), "{name}, {to}: {got}");
    }
}

#[test]
fn damaged_files_are_named() {
    let cut = |dir: &Path, file: &str| {
        let bytes = fs::read(dir.join(file)).unwrap();
        fs::write(dir.join(file), &bytes[..bytes.len() / 2]).unwrap();
    };
    for file in ["onnx/vision_model.onnx", "onnx/text_model.onnx"] {
        let message = refusal("tinyclip", |dir| cut(dir, file));
        assert!(message.contains(&file[5..]) && message.contains("must be"), "{message}");
    }
    for (name, file) in [
        ("tinyclip", "config.json"),
        ("tinyclip", "preprocessor_config.json"),
        ("tinyclip", "tokenizer.json"),
        ("openclip-vit", "open_clip_config.json"),
    ] {
        let message = refusal(name, |dir| cut(dir, file));
        assert!(message.contains(file), "{message}");
    }
    // A header longer than the file.
    let mut options = options(&exports().join("openclip-vit"), Path::new(""));
    let dir = edited("openclip-vit", |dir| {
        fs::write(dir.join("open_clip_model.safetensors"), [0xff; 16]).unwrap();
    });
    options.source = dir.path().to_owned();
    let made = tempfile::tempdir().unwrap();
    options.output = made.path().join("bundle");
    options.logit_scale = None;
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(
        message.contains("`open_clip_model.safetensors` must be a safetensors file"),
        "{message}"
    );

    // Files that ended before their header did.
    for bytes in [&[][..], &[2, 0, 0]] {
        fs::write(dir.path().join("open_clip_model.safetensors"), bytes).unwrap();
        let message = import(&options, &mut Host).unwrap_err().to_string();
        let rule = "`open_clip_model.safetensors` must be a safetensors file, got";
        assert!(message.contains(rule), "{message}");
        assert!(message.contains(&format!("got {} bytes", bytes.len())), "{message}");
    }

    // Not a number: the bytes of a few floats in the middle of the file.
    let message = refusal("tinyclip", |dir| {
        let path = dir.join("onnx/vision_model.onnx");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 16].copy_from_slice(&[0xff; 16]);
        fs::write(&path, bytes).unwrap();
    });
    assert!(message.contains("NaN") && message.contains("vision_model.onnx"), "{message}");
}

#[test]
fn the_license_is_the_users_or_the_readmes() {
    let (dir, made) = (edited("tinyclip", |_| ()), tempfile::tempdir().unwrap());
    let mut options = options(dir.path(), &made.path().join("bundle"));
    options.license = None;
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.contains("`license` must be given with --license"), "{message}");
    let readme = "---\ntags:\n- clip\nlicense: apache-2.0\n---\nlicense: mit\n";
    fs::write(dir.path().join("README.md"), readme).unwrap();
    import(&options, &mut Host).unwrap();
    assert_eq!(Bundle::open(&options.output).unwrap().license(), "apache-2.0");
    // A bundle is replaced only on demand, and then wholly.
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.contains("`output` must be a place where nothing stands"), "{message}");
    options.license = Some("mine".to_owned());
    options.replace = true;
    import(&options, &mut Host).unwrap();
    assert_eq!(Bundle::open(&options.output).unwrap().license(), "mine");
    let names: Vec<_> =
        fs::read_dir(made.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!names.iter().any(|it| it.to_str().unwrap().starts_with('.')), "{names:?}");
}

#[test]
fn only_a_bundle_with_nothing_else_in_its_folder_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("bundle");
    let mut options = options(&exports().join("tinyclip"), &output);
    import(&options, &mut Host).unwrap();
    options.replace = true;
    fs::write(output.join("captions.lidx"), "hours of work").unwrap();
    fs::create_dir(output.join("notes")).unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.contains("`output` must be a folder with nothing beside"), "{message}");
    assert!(message.ends_with("got captions.lidx, notes"), "{message}");
    assert_eq!(fs::read(output.join("captions.lidx")).unwrap(), b"hours of work");
    fs::remove_file(output.join("captions.lidx")).unwrap();
    fs::remove_dir(output.join("notes")).unwrap();
    // A folder of a file's name is not the file.
    fs::remove_file(output.join("text.onnx")).unwrap();
    fs::create_dir(output.join("text.onnx")).unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.ends_with("got text.onnx"), "{message}");
    fs::remove_dir(output.join("text.onnx")).unwrap();
    // Its manifest must be one of a bundle; its other files need not be there.
    let manifest = output.join("model.toml");
    let good = fs::read(&manifest).unwrap();
    fs::write(&manifest, "name = 'mine'\n").unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.contains("model.toml breaks"), "{message}");
    assert_eq!(fs::read(&manifest).unwrap(), b"name = 'mine'\n");
    fs::write(&manifest, good).unwrap();
    // Pictures that are not its own would go with it.
    let own = output.join("pictures/holiday.jpg");
    fs::write(&own, "mine").unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.ends_with("got pictures/holiday.jpg"), "{message}");
    assert_eq!(fs::read(&own).unwrap(), b"mine");
    fs::remove_file(&own).unwrap();
    // What tells of terms stays.
    for name in ["NOTICE", "LICENSE-MIT", "README.md"] {
        fs::write(output.join(name), name).unwrap();
    }
    fs::create_dir(output.join("LICENSES")).unwrap();
    let message = import(&options, &mut Host).unwrap_err().to_string();
    assert!(message.ends_with("got LICENSES"), "{message}");
    fs::remove_dir(output.join("LICENSES")).unwrap();
    import(&options, &mut Host).unwrap();
    Bundle::open(&output).unwrap().verify_files().unwrap();
    for name in ["NOTICE", "LICENSE-MIT", "README.md"] {
        assert_eq!(fs::read_to_string(output.join(name)).unwrap(), name);
    }
}

#[test]
fn a_bundle_names_its_pictures_with_their_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&exports().join("tinyclip"), &dir.path().join("bundle"));
    options.notices = vec![root().join("models/starter/pictures/ATTRIBUTION.md")];
    import(&options, &mut Host).unwrap();
    let bundle = Bundle::open(&options.output).unwrap();
    let names: Vec<&str> = bundle.sha256().map(|it| it.0).collect();
    assert!(names.contains(&"pictures/coco_000000000285.jpg"), "{names:?}");
    assert!(names.contains(&"pictures/ATTRIBUTION.md"), "{names:?}");
    bundle.verify_files().unwrap();
    fs::write(options.output.join("pictures/coco_000000000285.jpg"), "another").unwrap();
    let message = bundle.verify_files().unwrap_err().to_string();
    assert!(message.contains("pictures/coco_000000000285.jpg must have SHA-256"), "{message}");
}

#[test]
fn a_bundle_needs_a_name_of_its_own() {
    for output in [".", "..", "/", "models/.."] {
        let options = ImportOptions {
            replace: true,
            ..options(&exports().join("tinyclip"), Path::new(output))
        };
        let message = import(&options, &mut Host).unwrap_err().to_string();
        assert!(message.contains("`output` must be a path that ends with"), "{output}: {message}");
    }
}

#[test]
fn what_killed_imports_left_is_cleared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // As two killed imports left it: one at its beginning, one with its last file.
    fs::create_dir(at(".lookout-import-0123abcd-Ab3Xyz")).unwrap();
    fs::create_dir_all(at(".lookout-import-0123abcd-Zz3Xyz/pictures")).unwrap();
    // The last one is what killing it while it writes a tower leaves.
    let files =
        ["tokenizer.json", "image.onnx", "model.toml", "pictures/a.jpg", ".lookout-Ab3Xyz.tmp"];
    for name in files {
        fs::write(at(".lookout-import-0123abcd-Zz3Xyz").join(name), "").unwrap();
    }
    // No import made these.
    let kept = [
        ".lookout-import-mine",
        ".lookout-import-0123abcd-Ab3Xyz.old",
        ".lookout-import-0123abcd-Mine34",
        ".lookout-import-0123abcd-Link34",
    ];
    fs::create_dir(at(kept[0])).unwrap();
    fs::create_dir(at(kept[1])).unwrap();
    fs::create_dir(at(kept[2])).unwrap();
    fs::write(at(kept[2]).join("thesis.txt"), "years").unwrap();
    std::os::unix::fs::symlink(at(kept[2]), at(kept[3])).unwrap();
    import(&options(&exports().join("tinyclip"), &at("bundle")), &mut Host).unwrap();
    let names = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    let mut expected = [&kept[..], &["bundle"]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(fs::read(at(kept[2]).join("thesis.txt")).unwrap(), b"years");
}

/// Runs an import within an import.
struct Nested<'a> {
    options: Option<ImportOptions>,
    result: &'a mut Option<Result<ImportReport, EncoderError>>,
}

impl ImportHost for Nested<'_> {
    fn read_picture(&mut self, path: &Path) -> Result<lookout_core::Picture, BoxError> {
        if let Some(options) = self.options.take() {
            *self.result = Some(import(&options, &mut Host));
        }
        Host.read_picture(path)
    }

    fn progress(&self, _: ImportStep, _: u64, _: u64) {}
}

#[test]
fn two_imports_do_not_write_one_bundle_and_leave_each_other_alone() {
    let dir = tempfile::tempdir().unwrap();
    let outer = options(&exports().join("tinyclip"), &dir.path().join("bundle"));
    for (output, refused) in [("bundle", true), ("other", false)] {
        let inner = ImportOptions { output: dir.path().join(output), ..outer.clone() };
        let outer = ImportOptions { replace: outer.output.exists(), ..outer.clone() };
        let mut result = None;
        let mut host = Nested {
            options: Some(ImportOptions { replace: outer.replace, ..inner }),
            result: &mut result,
        };
        import(&outer, &mut host).unwrap();
        let result = result.unwrap().map(drop).map_err(|it| it.to_string());
        match (result, refused) {
            (Ok(()), false) => {}
            (Err(message), true) => {
                let told = "one that another import is writing";
                assert!(message.contains(told), "{message}");
            }
            (result, _) => panic!("{output}: {result:?}"),
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_bundle_is_made_apart_from_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("export");
    std::os::unix::fs::symlink(edited("tinyclip", |_| ()).keep(), &source).unwrap();
    let real = fs::canonicalize(&source).unwrap();
    for output in [
        source.clone(),
        source.join("bundle"),
        source.join("onnx/../bundle"),
        real.join("onnx"),
        real.parent().unwrap().to_owned(),
    ] {
        let options = ImportOptions { replace: true, ..options(&source, &output) };
        let message = import(&options, &mut Host).unwrap_err().to_string();
        assert!(message.contains("`output` must be a folder apart from"), "{message}");
    }
    assert!(real.join("config.json").is_file());
    fs::remove_dir_all(real).unwrap();
}

#[test]
fn what_the_user_wrote_is_named_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("bundle");
    let refused = |options: ImportOptions| {
        let message = import(&options, &mut Host).unwrap_err().to_string();
        assert!(!message.contains(".lookout-import"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        message
    };
    let good = || options(&exports().join("tinyclip"), &output);
    let message = refused(ImportOptions { space: Some("My Space".to_owned()), ..good() });
    let rule = "`space` must be 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, got \"My Space\"";
    assert!(message.contains(rule), "{message}");
    let message = refused(ImportOptions { origin: Some(String::new()), ..good() });
    assert!(message.contains("`origin` must be"), "{message}");
    let message = refused(ImportOptions { logit_scale: Some(1e-320), ..good() });
    assert!(message.contains("`logit_scale` must be 0.001 to 1000000, got"), "{message}");
    let message = refused(ImportOptions { license: Some("MIT\nforged".to_owned()), ..good() });
    assert!(message.contains("`license` must be a text of"), "{message}");
    let missing = ["models", "import", "no/export", "--output", output.to_str().unwrap()];
    run(&missing).failed(1, &["cannot read no/export", "No such file"]);
    let file = root().join("Cargo.toml");
    let missing =
        ["models", "import", file.to_str().unwrap(), "--output", output.to_str().unwrap()];
    run(&missing).failed(1, &["cannot read", "Cargo.toml", "not a directory"]);
}

#[test]
fn the_verb_tells_what_it_made_and_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("bundle");
    let output = output.to_str().unwrap();
    let source = exports().join("siglip");
    let source = source.to_str().unwrap();
    let made = run(&["models", "import", source, "--output", output, "--license", "MIT", "--json"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let [line] = <[Value; 1]>::try_from(made.json()).unwrap();
    assert_eq!((&line["dimension"], &line["logit_bias"]), (&40.into(), &(-12.5).into()));
    assert!(line["space"].as_str().unwrap().starts_with("siglip-"));
    let verified = run(&["models", "verify", output]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(verified.stdout.contains("20 of 20 golden embeddings agree"), "{}", verified.stdout);
    let again = ["models", "import", source, "--output", output, "--license", "MIT"];
    run(&again).failed(1, &["a bundle stands there; --force replaces it"]);
    let missing = ["models", "import", source, "--output", "no/bundle", "--license", "MIT"];
    run(&missing).failed(1, &["the folder of the output does not exist"]);
}

#[test]
fn an_output_may_be_a_bare_name() {
    let dir = tempfile::tempdir().unwrap();
    let import = |output: &str, more: &[&str]| {
        let source = exports().join("siglip");
        let args = ["models", "import", source.to_str().unwrap(), "--license", "MIT"];
        let mut program = lookout();
        program.current_dir(dir.path()).args(args).args(["--output", output]).args(more);
        Ran::from(program.output().unwrap())
    };
    let made = import("bundle", &[]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let made = import("bundle", &["--force"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_import_that_is_killed_leaves_no_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("bundle");
    let mut import = lookout()
        .args(["models", "import"])
        .arg(exports().join("siglip"))
        .arg("--output")
        .arg(&output)
        .args(["--license", "MIT"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its folder beside the output shows that it is at work.
    let is_at_work = || fs::read_dir(dir.path()).unwrap().next().is_some();
    while !is_at_work() {
        assert!(import.try_wait().unwrap().is_none() || is_at_work(), "it ended before");
        std::thread::yield_now();
    }
    import.kill().unwrap();
    let status = import.wait().unwrap();
    assert!(!status.success());
    assert!(!output.exists());
    let made = run(&[
        "models",
        "import",
        exports().join("siglip").to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
        "--license",
        "MIT",
    ]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
}
