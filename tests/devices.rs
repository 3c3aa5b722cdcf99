//! Devices and batches: one bundle, the same embeddings wherever and however many at once.

use std::fs;
use std::path::Path;

use lookout_capture::{PictureLimits, read_picture};
use lookout_core::{Device, Embedding, Picture};
use lookout_encoder::{Bundle, EncoderError, Golden, ImageTower, Runtime, TextTower};

use crate::support::{root, run};

/// Between batches of different sizes: kernels may sum in another order.
const MAX_DIFFERENCE: f32 = 1e-5;

fn starter() -> Bundle {
    Bundle::open(&root().join("models/starter")).unwrap()
}

#[track_caller]
fn check_equal(got: &[Embedding], expected: &[Embedding]) {
    assert_eq!(got.len(), expected.len());
    for (idx, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = |(a, b): (&f32, &f32)| (a - b).abs();
        let pairs = got.as_slice().iter().zip(expected.as_slice());
        let largest = pairs.map(difference).fold(0.0, f32::max);
        assert!(largest < MAX_DIFFERENCE, "row {idx}: {largest}");
    }
}

#[test]
fn batches_of_texts_change_nothing() {
    let bundle = starter();
    let texts = ["a cat on a sofa", "rain", "two brown bears in a river", "a", "an empty street"];
    let mut one = TextTower::load(&bundle).unwrap();
    let expected: Vec<Embedding> = texts.map(|it| one.encode_text(it).unwrap()).to_vec();
    let mut four = TextTower::load_on(&bundle, &Runtime::cpu(), 4).unwrap();
    // A whole run and one that is filled up.
    check_equal(&four.encode_texts(&texts).unwrap(), &expected);
    check_equal(&[four.encode_text(texts[2]).unwrap()], &expected[2..3]);
    check_equal(&four.encode_texts::<&str>(&[]).unwrap(), &[]);

    let error = four.encode_texts(&["a", " "]).unwrap_err();
    assert!(matches!(&error, EncoderError::EmptyText { text } if text == " "), "{error}");
}

#[test]
fn batches_of_pictures_change_nothing() {
    let bundle = starter();
    let golden = Golden::open(&bundle).unwrap();
    let read =
        |name| read_picture(&bundle.pictures_dir().join(name), &PictureLimits::default()).unwrap();
    let pictures: Vec<Picture> = golden.picture_names().take(5).map(read).collect();
    let mut one = ImageTower::load(&bundle).unwrap();
    let expected: Vec<Embedding> = pictures.iter().map(|it| one.encode(it).unwrap()).collect();
    let mut three = ImageTower::load_on(&bundle, &Runtime::cpu(), 3).unwrap();
    check_equal(&three.encode_batch(&pictures).unwrap(), &expected);
    check_equal(&[three.encode(&pictures[1]).unwrap()], &expected[1..2]);
}

#[test]
fn an_index_is_built_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let captions = "a bear in a river\na cat on a sofa\na bus\na red bus in the rain\na pizza\n";
    fs::write(at("captions.tsv"), captions).unwrap();
    let picture = "models/starter/pictures/coco_000000000285.jpg";
    let search = |index: &str, batch: &[&str]| {
        let captions = at("captions.tsv");
        let args = [&["index", "build", &captions, "--output", index], batch].concat();
        let built = run(&args);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        let found = run(&["index", "search", "--index", index, "-n", "5", picture]);
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        found.stdout
    };
    let expected = search(&at("one.lidx"), &[]);
    assert_eq!(expected.lines().count(), 5, "{expected}");
    assert_eq!(search(&at("three.lidx"), &["--batch", "3"]), expected);
    for batch in ["0", "1025", "all"] {
        run(&["index", "build", "x.tsv", "--output", "x", "--batch", batch])
            .failed(1, &["--batch"]);
    }
}

/// Whatever this build and this machine have: a device agrees with the goldens, or says what to
/// do. `ORT_DYLIB_PATH` decides whether onnxruntime is found. The CPU has tests of its own.
#[test]
fn every_device_agrees_with_the_goldens_or_says_what_to_do() {
    let bundle = starter();
    let golden = Golden::open(&bundle).unwrap();
    let read = |path: &Path| Ok(read_picture(path, &PictureLimits::default())?);
    for device in Device::ALL {
        let runtime = match Runtime::open(device) {
            Ok(_) if matches!(device, Device::Auto | Device::Cpu) => continue,
            Ok(runtime) => runtime,
            Err(error) => {
                assert!(!matches!(device, Device::Auto | Device::Cpu), "{error}");
                let text = error.to_string();
                assert!(text.contains(&format!("device \"{device}\"")), "{text}");
                assert!(text.ends_with("or choose device \"cpu\""), "{text}");
                continue;
            }
        };
        let mut images = ImageTower::load_on(&bundle, &runtime, 1).unwrap();
        let mut checks = golden.check_pictures(&mut images, 3, read).unwrap();
        let mut texts = TextTower::load_on(&bundle, &runtime, 8).unwrap();
        checks.extend(golden.check_texts(&mut texts, 20).unwrap());
        for check in checks {
            check.ensure().unwrap_or_else(|error| panic!("{device}: {error}"));
        }
    }
}

#[test]
fn the_device_is_named_and_can_be_chosen() {
    let verified = run(&["models", "verify", "--device", "cpu"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(verified.stdout.contains("\nrun by   tract on the CPU"), "{}", verified.stdout);
    let config = ["check", "--config", "configs/demo.toml", "--device"];
    let checked = run(&[&config[..], &["cpu"]].concat());
    assert!(checked.stdout.contains("run by tract on the CPU"), "{}", checked.stdout);

    run(&["embed", "--device", "gpu", "--text", "a cat"])
        .failed(1, &["--device", "\"ort-tensorrt\"", "got \"gpu\""]);
    // Without an NVIDIA library this fails on every machine, whatever was built in.
    if Runtime::open(Device::OrtTensorRt).is_err() {
        run(&[&config[..], &["ort-tensorrt"]].concat())
            .failed(78, &["command line: `encoder.device` cannot be used: ", "device \"cpu\""]);
        run(&["models", "verify", "--device", "ort-tensorrt"]).failed(1, &["device \"cpu\""]);
    }
}
