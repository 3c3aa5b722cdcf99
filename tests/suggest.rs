//! `suggest` on real pictures.

use std::fs;

use crate::daemon::Site;
use crate::support::{root, run};

const PICTURES: &str = "models/starter/pictures";

#[test]
fn a_bear_is_suggested_for_pictures_of_bears() {
    let picture = format!("{PICTURES}/coco_000000000285.jpg");
    let ran = run(&["suggest", "--json", "--count", "3", &picture]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let report = &ran.json()[0];
    let found = report["suggestions"].as_array().unwrap();
    assert!((1..=3).contains(&found.len()));
    assert_eq!((&report["v"], &report["pictures"]), (&1.into(), &1.into()));
    assert_eq!(found[0]["word"], "bear");
    let score = |idx: usize| found[idx]["score"].as_f64().unwrap();
    assert!((1..found.len()).all(|it| score(it) <= score(it - 1)));
    for it in found {
        let word = it["word"].as_str().unwrap();
        assert!(5 <= it["captions_in_index"].as_u64().unwrap(), "{word}");
        let example = it["examples"][0].as_str().unwrap().to_lowercase();
        assert!(word.split(' ').all(|it| example.contains(it)), "{word}: {example}");
    }
}

#[test]
fn a_folder_of_frames_is_one_scene_and_a_bad_picture_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (idx, name) in ["coco_000000000285.jpg", "coco_000000030213.jpg"].iter().enumerate() {
        fs::copy(root().join(PICTURES).join(name), folder.path().join(format!("{idx}.jpg")))
            .unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let ran = run(&["suggest", path]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let labels = ran.stdout.lines().last().unwrap();
    let list = labels.strip_prefix("labels = [").and_then(|it| it.strip_suffix(']')).unwrap();
    assert!(list.contains("\"kitchen\"") && list.contains("\"bear\""), "{list}");
    fs::write(folder.path().join("2.jpg"), "no picture").unwrap();
    let ran = run(&["suggest", path]);
    ran.failed(1, &["2.jpg"]);
    assert!(ran.stdout.ends_with(&format!("{labels}\n")));
    let empty = tempfile::tempdir().unwrap();
    run(&["suggest", empty.path().to_str().unwrap()]).failed(1, &["has no picture"]);
}

#[test]
fn one_key_is_set_over_the_configuration() {
    let site = Site::new(1, "dir:pictures");
    let config = site.config().display().to_string();
    let picture = format!("{PICTURES}/coco_000000000285.jpg");
    let suggest = ["suggest", "--config", &config, "--set"];
    run(&[&suggest[..], &["index=gone.lidx", &picture]].concat()).failed(1, &["gone.lidx"]);
    run(&[&suggest[..], &["indx=gone.lidx", &picture]].concat()).failed(78, &["did you mean"]);
    run(&["suggest", "--set", "index=gone.lidx", &picture]).failed(1, &["--config"]);
}
