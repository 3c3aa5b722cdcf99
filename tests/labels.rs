//! `labels tune` and `labels show`, template packs and the bank, on the starter's own captions.

use std::fs;

use crate::support::run;

const SET: &str = "# mine\n[[label]]\nname = \"automobile\"\naliases = [\"car\", \"motorcar\"] # words\n\n\
                   [[label]]\nname = \"zebroid\"\n\n[[negative]]\nname = \"an empty street\"\n";

#[test]
fn the_word_that_captions_use_becomes_the_name_and_ids_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, output) = (path("set.toml"), path("tuned.toml"));
    fs::write(&input, SET).unwrap();
    let ran = run(&["labels", "tune", "--labels", &input, "--output", &output, "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines = ran.json();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["id"], "automobile");
    assert_eq!(lines[0]["advice"]["name"], "car");
    assert!(400 < lines[0]["words"][1]["captions"].as_u64().unwrap());
    let example = lines[0]["words"][1]["example"].as_str().unwrap().to_lowercase();
    assert!(example.contains("car"), "{example}");
    assert_eq!(lines[1]["advice"]["vouched"], false);
    assert_eq!(lines[1]["because"], "nobody writes that: captions cannot vouch for it");
    let tuned = fs::read_to_string(&output).unwrap();
    assert!(tuned.starts_with("# mine\n[[label]]\nname = \"car\"\n"), "{tuned}");
    assert!(tuned.contains("id = \"automobile\""), "{tuned}");
    // What stands there is replaced only where that is said, the label set itself too.
    for output in [&input, &output] {
        run(&["labels", "tune", "--labels", &input, "--output", output])
            .failed(1, &["--force replaces it"]);
    }
    assert_eq!(fs::read_to_string(&input).unwrap(), SET);
    let ran = run(&["labels", "tune", "--labels", &input, "--output", &input, "--force"]);
    assert!(ran.stdout.contains("call it \"car\""), "{}", ran.stdout);
    assert_eq!((ran.code, fs::read_to_string(&input).unwrap()), (Some(0), tuned));
}

#[test]
fn no_word_is_written_for_two_classes_and_comments_in_lists_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let set = "[[label]]\nname = \"auto\"\naliases = [\n    \"car\", # the usual word\n]\n\n\
               [[label]]\nname = \"car\"\n";
    fs::write(path("set.toml"), set).unwrap();
    std::os::unix::fs::symlink("set.toml", path("link.toml")).unwrap();
    let tune = ["labels", "tune", "--labels", &path("link.toml"), "--output"];
    // Before the captions are counted, with the name that was given.
    let ran = run(&[&tune[..], &[&path("no/tuned.toml")]].concat());
    ran.failed(1, &[&format!("cannot write {}: there is no folder", path("no/tuned.toml"))]);
    assert_eq!(ran.stdout, "");
    let ran = run(&[&tune[..], &[&path("link.toml"), "--force", "--json"]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines = ran.json();
    assert!(lines.iter().all(|it| it["v"] == 1), "{}", ran.stdout);
    let names = [0, 1].map(|it: usize| lines[it]["advice"]["name"].as_str().unwrap());
    assert_eq!(names, ["auto", "car"]);
    assert_eq!(lines[0]["words"][1]["taken_by"], "car");
    let told = lines[0]["because"].as_str().unwrap();
    assert!(told.contains("leave \"car\" to car, whose word it is"), "{told}");
    let tuned = fs::read_to_string(path("set.toml")).unwrap();
    assert!(tuned.contains("# the usual word") && tuned.matches("\"car\"").count() == 1, "{tuned}");
    assert!(fs::symlink_metadata(path("link.toml")).unwrap().is_symlink());
}

#[test]
fn a_pack_of_templates_is_named_and_a_wrong_name_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.toml").to_str().unwrap().to_owned();
    fs::write(&path, format!("templates = \"openai-80\"\n{SET}")).unwrap();
    let ran = run(&["labels", "show", "--labels", &path, "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = ran.json();
    assert_eq!(lines[0]["prompts"].as_array().unwrap().len(), 240);
    assert_eq!(lines[1]["prompts"][0], "a bad photo of a zebroid.");
    fs::write(&path, format!("templates = \"openai80\"\n{SET}")).unwrap();
    run(&["labels", "show", "--labels", &path]).failed(78, &["did you mean \"openai-80\"?"]);
}

#[test]
fn a_picture_of_a_label_is_more_familiar_than_one_of_something_else() {
    let pictures = ["coco_000000000285.jpg", "coco_000000030213.jpg"];
    let pictures = pictures.map(|it| format!("models/starter/pictures/{it}"));
    let args = ["classify", "--json", "--image-only", "--bank", "everyday", "--label", "bear"];
    let rest = ["--label", "giraffe", &pictures[0], &pictures[1]];
    let ran = run(&[&args[..], &rest].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines = ran.json();
    let [bear, kitchen] = [0, 1].map(|it: usize| lines[it]["familiarity"].as_f64().unwrap());
    assert!(0.01 < bear && kitchen < 0.1 * bear, "{bear} {kitchen}");
    let ran = run(&[&args[..4], &["models/none.txt"], &args[5..], &rest].concat());
    ran.failed(1, &["models/none.txt does not exist", "called \"everyday\""]);
}
