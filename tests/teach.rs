//! `lookout teach`, and what `run` and `classify` make of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::daemon::Site;
use crate::support::{Message, Mosquitto, Ran, Subscription, root, run};

const BEAR: &str = "coco_000000000285.jpg";
const OTHER: &str = "coco_000000030213.jpg";

fn picture(name: &str) -> String {
    root().join("models/starter/pictures").join(name).display().to_string()
}

fn teach(site: &Site, args: &[&str]) -> Ran {
    let config = site.config().display().to_string();
    run(&[&["teach", "--config", config.as_str()], args].concat())
}

#[track_caller]
fn done(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

/// A still scene that is looked at once an hour, and lessons of its own.
fn still_site(port: u16) -> Site {
    let site = Site::new(port, &format!("file:pictures/{BEAR}?fps=8"));
    let text = fs::read_to_string(site.config()).unwrap();
    let gate = "[gate]\nluma_change = 5.0\ninterval_s = 3600.0\n[decision]";
    let text = text.replacen("[decision]", gate, 1);
    fs::write(site.config(), format!("taught = 'lessons'\n{text}")).unwrap();
    site
}

fn is_state(label: &str) -> impl FnMut(&Message) -> bool {
    move |it| it.topic == "lookout/test/yard/state" && it.json()["label"]["id"] == label
}

/// Waits for the state of a label, and for evidence of it in which lessons have a part or have none; in
/// whatever order they come.
fn until_decided(messages: &Subscription, label: &str, is_taught: bool) -> Value {
    let (mut has_state, mut evidence) = (false, None);
    messages.until(|it| {
        has_state |= is_state(label)(it);
        if it.topic == "lookout/test/yard/evidence" && it.json()["taught"].is_object() == is_taught
        {
            evidence = Some(it.json());
        }
        has_state && evidence.is_some()
    });
    evidence.unwrap()
}

#[test]
fn a_running_daemon_learns_and_unlearns() {
    let mosquitto = Mosquitto::start();
    let site = still_site(mosquitto.port());
    let lessons = site.folder.path().join("lessons");
    let (mut daemon, log) = site.run_with(|_| {});
    let messages = mosquitto.subscribe();
    messages.until(is_state("a_bear"));

    let said = done(teach(&site, &["--caption", "this is a motorcycle", &picture(BEAR)])).stdout;
    assert!(said.contains("lesson 1: this is a motorcycle, 1 picture in 5 views"), "{said}");
    assert!(said.contains("yard: means `a motorcycle`"), "{said}");
    log.until(|line| line.contains("What was taught has changed. lessons=1").then_some(()));
    let first = until_decided(&messages, "a_motorcycle", true);
    let taught = &first["taught"];
    assert_eq!(taught["recalled"][0]["text"], "this is a motorcycle");
    assert_eq!(taught["recalled"][0]["number"], 1);
    assert!(0.9 < taught["weight"].as_f64().unwrap(), "{first:#}");
    assert_eq!(first["label"]["id"], "a_motorcycle");

    // What cannot be read is told, and what was known goes on.
    let whole = fs::read(&lessons).unwrap();
    fs::write(&lessons, "something else").unwrap();
    log.until(|line| line.contains("What was taught stays as it was").then_some(()));
    fs::write(&lessons, whole).unwrap();

    assert!(done(teach(&site, &["--undo"])).stdout.contains("lesson 1 is undone"));
    until_decided(&messages, "a_bear", false);
    daemon.signal("-TERM");
    assert_eq!(daemon.wait(), Some(0), "{:?}", log.rest());
}

#[test]
fn a_faulty_file_of_lessons_is_a_fault_of_the_configuration() {
    let site = still_site(1883);
    let config = site.config().display().to_string();
    let check = || run(&["check", "--config", config.as_str()]);
    assert!(done(check()).stdout.contains(" 0 lessons,"));
    done(teach(&site, &["--caption", "a cat", &picture(BEAR)]));
    assert!(done(check()).stdout.contains(" 1 lesson,"));
    let lessons = site.folder.path().join("lessons");
    let mut bytes = fs::read(&lessons).unwrap();
    done(teach(&site, &["--caption", "a cat", &picture(OTHER)]));
    let at = bytes.len() / 2;
    bytes = fs::read(&lessons).unwrap();
    bytes[at] ^= 1;
    fs::write(&lessons, &bytes).unwrap();
    check().failed(78, &["`taught`", "is damaged at byte 88", "checksum"]);
    // Nothing is written to what cannot be read.
    for args in [&["--list"][..], &["--undo"], &["--caption", "a cat", &picture(OTHER)]] {
        teach(&site, args).failed(1, &["is damaged at byte 88"]);
    }
    assert_eq!(fs::read(&lessons).unwrap(), bytes);
}

fn classify(taught: &[&str], name: &str) -> Value {
    let labels = ["--label", "a bear", "--label", "a kitchen", "--label", "a motorcycle"];
    let picture = picture(name);
    let args = [&["classify", "--json"], &labels[..], taught, &[picture.as_str()]].concat();
    done(run(&args)).json().remove(0)
}

#[test]
fn a_lesson_corrects_its_picture_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t").display().to_string();
    let lessons = ["--taught", file.as_str()];
    let before = [BEAR, OTHER].map(|it| classify(&lessons, it));
    let of = |args: &[&str]| run(&[&["teach"], &lessons[..], args].concat());
    let two = ["--json", "--caption", " a motorcycle ", &picture(BEAR), &picture(BEAR)];
    let said = done(of(&two)).json().remove(0);
    assert_eq!(
        (&said["lesson"], &said["pictures"], &said["keys"]),
        (&1.into(), &2.into(), &10.into())
    );
    let after = classify(&lessons, BEAR);
    assert_eq!(before[0]["label"]["id"], "a_bear");
    assert_eq!(after["label"]["id"], "a_motorcycle");
    assert_eq!(
        after["image"]["scores"], before[0]["image"]["scores"],
        "what the picture says by itself is shown as it was"
    );
    assert_eq!(classify(&lessons, OTHER), before[1]);
    assert_eq!(classify(&["--no-taught"], BEAR), before[0]);

    // Taught otherwise, the contradiction is told.
    let ran = done(of(&["--caption", "a kitchen", &picture(BEAR)]));
    assert!(
        ran.stderr.contains("lesson 1 says \"a motorcycle\"") && ran.stderr.contains("--undo 1")
    );
    assert_eq!(classify(&lessons, BEAR)["label"]["id"], "a_kitchen", "the newer takes back");
    let listed = done(of(&["--list"])).stdout;
    assert_eq!(listed, "   1  a motorcycle  (10 views)\n   2  a kitchen  (5 views)\n");
    done(of(&["--undo", "1"]));
    assert_eq!(classify(&lessons, BEAR)["label"]["id"], "a_kitchen");
    let exported = done(of(&["--export"])).json();
    let [lesson] = exported.as_slice() else { panic!("{exported:?}") };
    assert_eq!((&lesson["lesson"], &lesson["space"]), (&2.into(), &"starter-2".into()));
    assert_eq!(lesson["caption_embedding"].as_array().unwrap().len(), 384);
    assert_eq!(lesson["keys"].as_array().unwrap().len(), 5);
    let line = done(of(&["--list", "--json"])).json().remove(0);
    assert_eq!((&line["lesson"], &line["caption"]), (&2.into(), &"a kitchen".into()));
}

#[test]
fn what_cannot_be_taught_is_told_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t").display().to_string();
    let bear = picture(BEAR);
    let of = |args: &[&str]| run(&[&["teach", "--taught", file.as_str()], args].concat());
    of(&["--caption", " ", &bear]).failed(1, &["caption", "empty"]);
    of(&["--caption", "a\u{7}b", &bear]).failed(1, &["control character"]);
    of(&["--caption", "a cat", "no.jpg"]).failed(1, &["no.jpg"]);
    of(&["--caption", "a cat", &bear, "/etc/hostname"]).failed(1, &["/etc/hostname"]);
    let many = vec![bear.as_str(); 26];
    of(&[&["--caption", "a cat"], &many[..]].concat()).failed(1, &["up to 25 pictures, got 26"]);
    of(&["--caption", "\u{200b}", &bear]).failed(1, &["caption"]);
    of(&["--undo"]).failed(1, &["nothing to undo"]);
    of(&["--undo", "first"]).failed(1, &["invalid value 'first'"]);
    of(&["--caption", "a cat"]).failed(1, &["PICTURE"]);
    of(&[&bear]).failed(1, &["--caption"]);
    of(&["--list", &bear]).failed(1, &["cannot be used with"]);
    assert!(!Path::new(&file).exists());
    assert_eq!(done(of(&["--list"])).stdout, format!("{file}: nothing is taught\n"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(&file, "my notes").unwrap();
    of(&["--caption", "a cat", &bear]).failed(1, &["holds no lessons"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "my notes");
}

#[test]
fn an_index_is_built_with_what_was_taught() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (lessons, tsv, output) = (at("t"), at("c.tsv"), at("o.lidx"));
    let bear = picture(BEAR);
    fs::write(&tsv, "a cat\na dog\n").unwrap();
    let build = |source: &str| {
        run(&["index", "build", source, "--output", &output, "--with-taught", &lessons])
    };
    build(&tsv).failed(1, &["/t does not exist", "lookout teach"]);
    let caption = "our bear Balthasar";
    done(run(&["teach", "--taught", &lessons, "--caption", caption, &bear]));
    assert!(done(build(&tsv)).stdout.contains("3 captions"));
    assert!(
        done(run(&["index", "search", "--index", &output, &picture(OTHER)]))
            .stdout
            .contains(caption)
    );

    // By its picture, in each of its views.
    let pairs = dir.path().join("pairs");
    fs::create_dir(&pairs).unwrap();
    fs::copy(picture(OTHER), pairs.join("a.jpg")).unwrap();
    fs::write(pairs.join("a.txt"), "something else\n").unwrap();
    assert!(done(build(&pairs.display().to_string())).stdout.contains("6 captions"));
    let search = ["index", "search", "--json", "-n", "6", "--index", &output, &bear];
    let found = done(run(&search)).json().remove(0);
    let found = found["found"].as_array().unwrap();
    assert_eq!(found[0]["text"], caption);
    assert!(0.999 < found[0]["key_similarity"].as_f64().unwrap(), "{found:?}");
}
