//! File, environment and flags over each other, and what comes out.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use expect_test::expect;
use lookout_core::{ClassKind, Weighting, Window};

use super::Fixture;
use crate::{Config, LabelSet};

#[test]
fn each_layer_lies_over_the_one_before() {
    let fixture = Fixture::minimal(&[("mqtt.port", "1"), ("mqtt.base", "\"file\"")]);
    let env = [
        ("LOOKOUT__MQTT__PORT".to_owned(), " 2 ".to_owned()),
        ("LOOKOUT__MQTT__BASE".to_owned(), "env".to_owned()),
        ("LOOKOUT__LABELS".to_owned(), "a cat, a dog".to_owned()),
        ("LOOKOUT__FUSION__WEIGHTING".to_owned(), "history".to_owned()),
        ("LOOKOUT__FUSION__WINDOW".to_owned(), "50".to_owned()),
        ("LOOKOUT__CAMERAS__FRONT__ENABLED".to_owned(), "false".to_owned()),
        ("LOOKOUT_LOG".to_owned(), "not ours".to_owned()),
        ("OTHER__MQTT__PORT".to_owned(), "not ours".to_owned()),
    ];
    let flags = [("mqtt.port".to_owned(), "3".to_owned())];
    let config = Config::load(&fixture.path, env, &flags).unwrap();
    assert_eq!((config.mqtt.port, config.mqtt.base.as_str()), (3, "env"));
    let camera = &config.cameras[0];
    assert!(!camera.enabled);
    let classes = camera.labels.class_set(&["{}".to_owned()]).unwrap();
    let ids: Vec<&str> = classes.classes().iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["a_cat", "a_dog", "an_empty_room"]);
    let fifty = std::num::NonZeroU64::new(50).unwrap();
    assert_eq!(config.fusion.weighting, Some(Weighting::History(Window::Frames(fifty))));
}

#[test]
fn paths_start_at_the_file() {
    let fixture = Fixture::minimal(&[("index", "\"../i.lidx\""), ("model", "\"/m\"")]);
    let config = fixture
        .load_env(&[("LOOKOUT__MQTT__PASSWORD_FILE", "pw"), ("LOOKOUT__MQTT__USER", "u")])
        .unwrap();
    assert_eq!(config.model.to_str(), Some("/m"));
    assert_eq!(config.index, Some(fixture.folder.path().join("../i.lidx")));
    assert_eq!(config.mqtt.password_file, Some(fixture.folder.path().join("pw")));
    assert_eq!(config.folder(), fixture.folder.path());
}

#[test]
fn a_camera_has_its_own_labels_and_decision() {
    let fixture = Fixture::minimal(&[
        ("decision", "{ enter = 0.5, dwell_s = 3 }"),
        ("cameras.front.decision", "{ dwell_s = 0, exit = 0.5 }"),
        ("cameras.back", "{ uri = \"file:x\", labels = [\"a dog\"], templates = [\"see {}\"] }"),
    ]);
    let config = fixture.load().unwrap();
    let [back, front] = &config.cameras[..] else { panic!("two cameras") };
    let classes = back.labels.class_set(&["{}".to_owned()]).unwrap();
    let prompts: Vec<String> = (0..2).flat_map(|it| classes.prompts(it)).collect();
    assert_eq!(prompts, ["see a dog", "see an empty room"]);
    let classes = front.labels.class_set(&["bundle {}".to_owned()]).unwrap();
    assert_eq!(classes.prompts(0), ["bundle a cat"]);
    let rules = front.decision.rules(0.9, 0.1, 0.2);
    assert_eq!((rules.enter, rules.margin, rules.exit), (0.5, 0.1, 0.5));
    assert_eq!((rules.dwell, back.decision.dwell), (Duration::ZERO, Duration::from_secs(3)));
}

#[test]
fn a_label_set_file_is_read() {
    let fixture =
        Fixture::minimal(&[("labels", ""), ("negatives", ""), ("labels_file", "\"set.toml\"")]);
    let set = fixture.folder.path().join("set.toml");
    std::fs::write(
        &set,
        "templates = ['{}!']\n[[negative]]\nname = 'nothing'\n[[label]]\nid = 'cat'\nname = '猫'\n\
         aliases = ['cat']\nprompts = ['it purrs']\nenter = 1\n",
    )
    .unwrap();
    let config = fixture.load().unwrap();
    assert_eq!(config.cameras[0].labels, LabelSet::load(&set).unwrap());
    let classes = config.cameras[0].labels.class_set(&[]).unwrap();
    let cat = &classes.classes()[0];
    assert_eq!((cat.id.as_str(), cat.kind, cat.enter), ("cat", ClassKind::Label, Some(1.0)));
    assert_eq!(classes.prompts(0), ["猫!", "cat!", "it purrs"]);
    assert_eq!(classes.classes()[1].id.as_str(), "nothing");
}

#[test]
fn words_from_the_command_line() {
    let own = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<String>>();
    let set = LabelSet::from_words(&own(&["a cat"]), &own(&[" a  room "])).unwrap();
    let classes = set.class_set(&own(&["{}"])).unwrap();
    assert_eq!(classes.classes()[1].id.as_str(), "a_room");
    assert!(set.class_set(&own(&["no place"])).is_err());
    for (labels, negatives, message) in [
        (
            own(&[]),
            own(&[]),
            expect![[r#"
            command line: `--label` breaks a rule: needs at least 1 label, got none
            command line: `--negative` breaks a rule: needs at least 2 classes (labels and negatives together), got 0; add a negative such as "an empty scene""#]],
        ),
        (
            own(&["a cat", "A cat!"]),
            own(&["猫"]),
            expect![[
                r#"command line: `--negative` must hold a letter a-z or a digit to make an id of; a name without them needs an `id` of its own in a label set file, got "猫""#
            ]],
        ),
        (
            own(&["a cat", "A cat!"]),
            own(&[]),
            expect![[
                r#"command line: `--label` breaks a rule: id `a_cat` is used by both "a cat" and "A cat!"; give one of them an id of its own"#
            ]],
        ),
    ] {
        message.assert_eq(&LabelSet::from_words(&labels, &negatives).unwrap_err().to_string());
    }
}

#[test]
fn labels_of_pictures_are_told_with_their_source_and_no_flag() {
    let own = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<String>>();
    let source = Path::new("pictures.tsv");
    assert!(LabelSet::from_pictures(&own(&["a cat", "a dog"]), source).is_ok());
    for (labels, message) in [
        (
            own(&["a cat", "猫"]),
            expect![[
                r#"pictures.tsv: `label` must hold a letter a-z or a digit to make an id of; a name without them needs an `id` of its own in a label set file, got "猫""#
            ]],
        ),
        (
            own(&["a cat", "A cat!"]),
            expect![[
                r#"pictures.tsv: `label` breaks a rule: id `a_cat` is used by both "a cat" and "A cat!"; give one of them an id of its own"#
            ]],
        ),
        (
            own(&["a cat"]),
            expect![[
                r#"pictures.tsv: `label` breaks a rule: needs at least 2 classes (labels and negatives together), got 1; add a negative such as "an empty scene""#
            ]],
        ),
    ] {
        message.assert_eq(&LabelSet::from_pictures(&labels, source).unwrap_err().to_string());
    }
}

#[test]
fn a_fault_of_the_caller_names_the_place() {
    let fixture = Fixture::minimal(&[]);
    let config = fixture.load_env(&[("LOOKOUT__CAMERAS__FRONT__URI", "x:y")]).unwrap();
    let message = |key: &str| {
        let fault = config.fault(key, "must be other", Some("this".to_owned())).to_string();
        fault.replace(&format!("{}/", fixture.folder.path().display()), "")
    };
    assert_eq!(
        message("cameras.front.uri"),
        "environment variable LOOKOUT__CAMERAS__FRONT__URI: `cameras.front.uri` must be other, got this"
    );
    assert_eq!(message("labels[0]"), "lookout.toml:2: `labels[0]` must be other, got this");
    assert_eq!(message("labels[7].x"), "lookout.toml:2: `labels[7].x` must be other, got this");
    assert_eq!(
        message("gate.interval_s"),
        "lookout.toml: `gate.interval_s` must be other, got this"
    );
}

#[test]
fn a_password_comes_from_a_private_file() {
    let fixture = Fixture::minimal(&[("mqtt.user", "\"u\""), ("mqtt.password_file", "\"pw\"")]);
    let config = fixture.load().unwrap();
    let path = fixture.folder.path().join("pw");
    let read = |bytes: &[u8], mode: u32| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        config.read_password().map_err(|it| it.rule)
    };
    let missing = config.read_password().unwrap_err();
    assert!(missing.rule.starts_with("names a file that cannot be read: "), "{missing}");
    assert_eq!(read(b"secret\n", 0o600), Ok(Some("secret".to_owned())));
    assert_eq!(read(b" se\ncret \r\n", 0o640), Ok(Some(" se\ncret ".to_owned())));
    assert_eq!(read(b"x\n\n", 0o600), Ok(Some("x\n".to_owned())));
    for (bytes, mode, rule) in [
        (&b"secret"[..], 0o644, "names a file that every user may read; run `chmod o-r` on it"),
        (b"", 0o600, "names an empty file; it must hold the password"),
        (b"\n", 0o600, "names an empty file; it must hold the password"),
        (b"\xff", 0o600, "names a file that is not UTF-8 text"),
        (&[b'x'; 4097], 0o600, "names a file that is larger than 4096 bytes"),
    ] {
        assert_eq!(read(bytes, mode), Err(rule.to_owned()));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let folder = config.read_password().unwrap_err();
    assert_eq!(folder.rule, "names a folder; it must name a file");
    assert_eq!(Fixture::minimal(&[]).load().unwrap().read_password(), Ok(None));
}
