//! Every rule, and all faults at once.

use expect_test::{Expect, expect};

use super::Fixture;
use crate::LabelSet;

#[test]
fn all_faults_at_once() {
    let fixture = Fixture::new(
        r#"
modle = "starter"
labels = ["a cat", "猫"]
negatives = "an empty room"

[fusion]
weighting = "history"
captions = 64
candidates = 32

[decision]
enter = 1.5
margin = nan

[mqtt]
host = "tcp://broker"
port = 2.7
password = "hunter2"
pasword_file = "x"
tls = 1

[cameras.status]
uri = 7

[cameras.front]
max_fps = 0
colour = 1979-05-27

[cameras.front.decision]
exit = 0.8
enter = 0.5
"#,
    );
    let env = [
        ("LOOKOUT__MQTT__KEEP_ALIVE_S", "soon"),
        ("LOOKOUT__GATE", "on"),
        ("LOOKOUT__GATE__LUMA_CHANGE", "2"),
        ("LOOKOUT__CAMERAS__YARD__URI", "exec:rm"),
    ];
    expect![[r#"
        lookout.toml: `model` is required: the folder of a model bundle, such as "models/starter"
        lookout.toml: `fusion.window` is required: how many frames weighting "history" looks back, or "unbounded"
        lookout.toml: `cameras.front.uri` is required: where its frames come from, such as "dir:///pictures"
        lookout.toml:2: `modle` is no key at the top; did you mean `model`?
        lookout.toml:3: `labels[1]` must hold a letter a-z or a digit to make an id of; a name without them needs an `id` of its own in a label set file, got "猫"
        lookout.toml:4: `negatives` must be a list of texts, got "an empty room"
        lookout.toml:9: `fusion.candidates` must be at least captions (64), got 32
        lookout.toml:12: `decision.enter` must be a number greater than 0 and at most 1, got 1.5
        lookout.toml:13: `decision.margin` must be a number at least 0 and at most 1, got NaN
        lookout.toml:16: `mqtt.host` must be a host name or address without scheme and port, got "tcp://broker"
        lookout.toml:17: `mqtt.port` must be an integer from 1 to 65535, got 2.7
        lookout.toml:18: `mqtt.password` is refused: a password in a configuration file is read by whoever reads that; write it to a file of its own and name that in `password_file`
        lookout.toml:19: `mqtt.pasword_file` is no key of [mqtt]; did you mean `password_file`?
        lookout.toml:20: `mqtt.tls` must be true or false, got 1
        lookout.toml:23: `cameras.status` must have an id of 1 to 32 characters of a-z, 0-9 and _, and not `status` or `info`, got "status"
        lookout.toml:23: `cameras.status.uri` must be a camera URI, got 7
        lookout.toml:26: `cameras.front.max_fps` must be a number at least 0.001 and at most 1000, got 0
        lookout.toml:27: `cameras.front.colour` is no key of [cameras.front]; its keys are decision, enabled, labels, labels_file, max_age_s, max_fps, negatives, stall_after_s, templates, uri
        lookout.toml:30: `cameras.front.decision.exit` leaves exit (0.8) above enter (0.5)
        environment variable LOOKOUT__CAMERAS__YARD__URI: `cameras.yard.uri` may name a command only in the configuration file
        environment variable LOOKOUT__GATE: `gate` must be a table, got "on"
        environment variable LOOKOUT__MQTT__KEEP_ALIVE_S: `mqtt.keep_alive_s` must be an integer from 5 to 3600, got "soon""#]]
    .assert_eq(&fixture.message(fixture.load_env(&env)));
}

/// One change to the minimal configuration, and the only fault, without its place.
#[test]
fn each_rule_by_itself() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "node",
            "\"My Node\"",
            "must be an id: 1 to 32 characters of a-z, 0-9 and _, got \"My Node\"",
        ),
        ("model", "\" \"", "must be a path, got \" \""),
        ("index", "\"a\\u0000b\"", "must be a path, got \"a\\0b\""),
        ("taught", "7", "must be a path, got 7"),
        ("adaptation", "\"yes\"", "must be \"off\", \"shadow\" or \"on\", got \"yes\""),
        ("calibration", "\" \"", "must be a path or \"off\", got \" \""),
        ("calibration", "\"On\"", "must be a path or \"off\", got \"On\""),
        ("state", "\"of\"", "must be a path or \"off\", got \"of\""),
        ("state", "\"Off\"", "must be a path or \"off\", got \"Off\""),
        ("state", "false", "must be a path or \"off\", got false"),
        ("decision.sigmas", "0", "must be a number greater than 0 and at most 1000, got 0"),
        ("decision.familiarity", "0.1", "needs `background.bank`, such as \"everyday\""),
        (
            "cameras.front.decision.familiarity",
            "0.1",
            "needs `background.bank`, such as \"everyday\"",
        ),
        ("decision.familiarity", "2", "must be a number greater than 0 and at most 1, got 2"),
        ("labels", "[1]", "must be a list of texts, got a list of 1"),
        ("labels", "\"a, b\"", "must be a list of texts, got \"a, b\""),
        (
            "encoder.device",
            "\"gpu\"",
            "must be \"auto\", \"cpu\", \"cuda\", \"ort-cpu\", \"ort-cuda\" or \"ort-tensorrt\", got \"gpu\"",
        ),
        ("background.bank", "true", "must be \"off\", \"everyday\" or a path, got true"),
        ("background.bank", "\"on\"", "must be \"off\", \"everyday\" or a path, got \"on\""),
        ("encoder", "\"cpu\"", "must be a table, got \"cpu\""),
        ("fusion", "7", "must be a table, got 7"),
        (
            "fusion.weighting",
            "\"mean\"",
            "must be \"pooled\", \"memoryless\" or \"history\", got \"mean\"",
        ),
        ("fusion.window", "5", "has a meaning only with weighting = \"history\""),
        ("fusion.window", "0", "must be an integer from 1 to 1000000, or \"unbounded\", got 0"),
        (
            "fusion.window",
            "\"5\"",
            "must be an integer from 1 to 1000000, or \"unbounded\", got \"5\"",
        ),
        ("fusion.captions", "257", "must be an integer from 1 to 256, got 257"),
        ("fusion.candidates", "-1", "must be an integer from 1 to 4096, got -1"),
        ("decision.enter", "0", "must be a number greater than 0 and at most 1, got 0"),
        ("decision.exit", "inf", "must be a number at least 0 and at most 1, got inf"),
        ("decision.dwell_s", "-0.1", "must be a number at least 0 and at most 86400, got -0.1"),
        ("decision.dwell_s", "\"1\"", "must be a number at least 0 and at most 86400, got \"1\""),
        ("decision.stale_after_s", "0", "must be a number at least 0.001 and at most 86400, got 0"),
        ("gate.luma_change", "256", "must be a number at least 0 and at most 255, got 256"),
        (
            "gate.interval_s",
            "12:00:00",
            "must be a number at least 0.001 and at most 86400, got a date or time",
        ),
        (
            "mqtt.host",
            "\"broker:1883\"",
            "must be a host name or address without scheme and port, got \"broker:1883\"",
        ),
        ("mqtt.host", "\"\"", "must be a host name or address without scheme and port, got \"\""),
        ("mqtt.port", "65536", "must be an integer from 1 to 65535, got 65536"),
        ("mqtt.port", "\"1883\"", "must be an integer from 1 to 65535, got \"1883\""),
        ("mqtt.port", "true", "must be an integer from 1 to 65535, got true"),
        (
            "mqtt.base",
            "\"a/#\"",
            "must be topic levels: 1 to 64 characters without +, #, $ and spaces, no / at the ends, got \"a/#\"",
        ),
        (
            "mqtt.base",
            "\"a//b\"",
            "must be topic levels: 1 to 64 characters without +, #, $ and spaces, no / at the ends, got \"a//b\"",
        ),
        ("mqtt.user", "\"\"", "must be 1 to 64 characters, got \"\""),
        ("mqtt.password_file", "\"pw\"", "needs `user` beside it"),
        ("mqtt.client_id", "\"a\\tb\"", "must be 1 to 64 characters, got \"a\\tb\""),
        ("mqtt.keep_alive_s", "4", "must be an integer from 5 to 3600, got 4"),
        ("mqtt.max_packet_kib", "15", "must be an integer from 16 to 16384, got 15"),
        ("mqtt.tls", "7", "must be true or false, got 7"),
        ("mqtt.ca_file", "\"ca.pem\"", "has a meaning only with tls = true"),
        ("cameras", "{}", "needs at least 1 camera: a table [cameras.NAME] with `uri`"),
        (
            "cameras.Yard.uri",
            "\"dir:x\"",
            "must have an id of 1 to 32 characters of a-z, 0-9 and _, and not `status` or `info`, got \"Yard\"",
        ),
        (
            "cameras.info.uri",
            "\"dir:x\"",
            "must have an id of 1 to 32 characters of a-z, 0-9 and _, and not `status` or `info`, got \"info\"",
        ),
        ("cameras.front.uri", "[\"rtsp://u:p@h\"]", "must be a camera URI, got a list of 1"),
        ("cameras.front.enabled", "\"true\"", "must be true or false, got \"true\""),
        ("templates", "7", "must be a list of texts or the name of a pack, got 7"),
        ("templates", "[7]", "must be a list of texts or the name of a pack, got a list of 1"),
        (
            "templates",
            "\"a photo of a {}\"",
            "must be a list, in brackets, also of a single template, got \"a photo of a {}\"",
        ),
        (
            "cameras.front.templates",
            "\"OpenAI80\"",
            "must be a list of texts or the name of a pack: \"openai-80\", \"openai-7\", \"photo-3\"; did you mean \"openai-80\"?, got \"OpenAI80\"",
        ),
        (
            "templates",
            "\"mine\"",
            "must be a list of texts or the name of a pack: \"openai-80\", \"openai-7\", \"photo-3\", got \"mine\"",
        ),
        (
            "cameras.front.templates",
            "[\"a photo\"]",
            "breaks a rule: template \"a photo\" must contain {} exactly once",
        ),
        (
            "cameras.front.labels",
            "[\"a\", \"A\"]",
            "breaks a rule: id `a` is used by both \"a\" and \"A\"; give one of them an id of its own",
        ),
        ("stop.grace_s", "0", "must be a number at least 0.001 and at most 86400, got 0"),
        ("stop.grace", "1", "is no key of [stop]; did you mean `grace_s`?"),
        (
            "\"a[9999999999].b\"",
            "1",
            "is no key at the top; its keys are adaptation, background, calibration, cameras, decision, encoder, fusion, gate, index, labels, labels_file, model, mqtt, negatives, node, state, stop, taught, templates",
        ),
        (
            "labels_file",
            "\"none.toml\"",
            "names a file with a fault: none.toml: cannot be read: No such file or directory (os error 2)",
        ),
    ];
    let mut wrong = Vec::new();
    for (key, value, rule) in cases {
        let mut changes = vec![(*key, *value)];
        if *key == "labels_file" {
            changes.extend([("labels", ""), ("negatives", "")]);
        } else if *key == "cameras" {
            changes.push(("cameras.front.uri", ""));
        }
        let fixture = Fixture::minimal(&changes);
        let message = fixture.message(fixture.load());
        let got = message.split_once("` ").map_or(message.as_str(), |(_, it)| it);
        if got != *rule {
            wrong.push(format!("{key} = {value}\n  want {rule}\n  got  {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn secrets_are_not_repeated() {
    for (key, text) in [
        ("cameras.front.max_fps", "\"rtsp://me:hunter2@host/a\""),
        ("mqtt.password", "\"hunter2\""),
        ("mqtt.passwort", "\"hunter2\""),
    ] {
        let fixture = Fixture::minimal(&[(key, text)]);
        let message = fixture.message(fixture.load());
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn label_words_and_file_exclude_each_other() {
    let fixture = Fixture::minimal(&[("labels_file", "\"set.toml\"")]);
    let set = "[[label]]\nname = 'a'\n[[label]]\nname = 'b'\n";
    std::fs::write(fixture.folder.path().join("set.toml"), set).unwrap();
    expect![[r#"
        lookout.toml:2: `labels` stands beside `labels_file`; use one or the other
        lookout.toml:3: `negatives` stands beside `labels_file`; use one or the other"#]]
    .assert_eq(&fixture.message(fixture.load()));
    let fixture = Fixture::minimal(&[
        ("labels", ""),
        ("negatives", ""),
        ("labels_file", "\"set.toml\""),
        ("cameras.front.negatives", "[\"x\"]"),
    ]);
    std::fs::write(fixture.folder.path().join("set.toml"), set).unwrap();
    expect![[r#"
        lookout.toml: `cameras.front.labels` breaks a rule: needs at least 1 label, got none
        lookout.toml:5: `cameras.front.negatives` breaks a rule: needs at least 2 classes (labels and negatives together), got 1; add a negative such as "an empty scene""#]]
    .assert_eq(&fixture.message(fixture.load()));
}

#[track_caller]
fn check_label_set(text: &str, message: Expect) {
    let fixture = Fixture::new(text);
    message.assert_eq(&fixture.message(LabelSet::load(&fixture.path)));
}

#[test]
fn a_configuration_in_place_of_a_label_set_is_one_fault() {
    let fixture = Fixture::minimal(&[("cameras.front.uri", "")]);
    expect![[
        "lookout.toml:1: `model` is a key of a configuration, and this must be a label set; put labels and \
         negatives into a file of their own, as [[label]] and [[negative]], and name it with `labels_file` in \
         the configuration"
    ]]
    .assert_eq(&fixture.message(LabelSet::load(&fixture.path)));
    let fixture = Fixture::minimal(&[("model", ""), ("mqtt.host", "")]);
    let message = fixture.message(LabelSet::load(&fixture.path));
    assert!(message.starts_with("lookout.toml:3: `cameras` is a key of a"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn label_sets_name_their_faults() {
    check_label_set(
        "[[label]]\nname = 'a cat'\n",
        expect![[
            r#"lookout.toml: `negative` breaks a rule: needs at least 2 classes (labels and negatives together), got 1; add a negative such as "an empty scene""#
        ]],
    );
    check_label_set(
        "[[negative]]\nname = 'x'\n[[negative]]\nname = 'y'\n",
        expect![[r#"lookout.toml: `label` breaks a rule: needs at least 1 label, got none"#]],
    );
    check_label_set(
        "templates = ['{}', 'x']\n[[label]]\nname = 'a'\naliases = ['']\n[[label]]\nid = 'a'\nname = 'b'\n",
        expect![[r#"
            lookout.toml:1: `templates[1]` breaks a rule: template "x" must contain {} exactly once
            lookout.toml:3: `label[0].name` breaks a rule: class `a`: alias must have 1 to 1000 characters, got 0
            lookout.toml:7: `label[1].name` breaks a rule: id `a` is used by both "a" and "b"; give one of them an id of its own"#]],
    );
    check_label_set(
        "label = 3\n[[negative]]\nid = 'A'\nnmae = 'x'\nenter = 2\n[[negative]]\nname = '猫'\n",
        expect![[r#"
            lookout.toml: `negative[0].name` is required: what it is called, in plain words
            lookout.toml: `negative[1].id` is required: the name has no letter a-z and no digit to make one of
            lookout.toml:1: `label` must be a list of tables, each headed [[label]], got 3
            lookout.toml:3: `negative[0].id` must be an id: 1 to 32 characters of a-z, 0-9 and _, got "A"
            lookout.toml:4: `negative[0].nmae` is no key of [negative[0]]; did you mean `name`?
            lookout.toml:5: `negative[0].enter` must be a number greater than 0 and at most 1, got 2"#]],
    );
}

#[test]
fn a_class_list_is_found_faulty_through_the_configuration() {
    let fixture = Fixture::minimal(&[
        ("labels", ""),
        ("negatives", ""),
        ("labels_file", "\"set.toml\""),
        ("mqtt.port", "0"),
    ]);
    std::fs::write(fixture.folder.path().join("set.toml"), "[[label]]\nnaem = 'a'\n").unwrap();
    expect![[r#"
        lookout.toml:5: `mqtt.port` must be an integer from 1 to 65535, got 0
        set.toml: `label[0].name` is required: what it is called, in plain words
        set.toml:2: `label[0].naem` is no key of [label[0]]; did you mean `name`?"#]]
    .assert_eq(&fixture.message(fixture.load()));
}
