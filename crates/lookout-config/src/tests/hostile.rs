//! Files that are no configuration at all, and arbitrary bytes.

use std::fs;

use proptest::prelude::*;

use super::{Fixture, MINIMAL};
use crate::{Config, LabelSet};

#[test]
fn a_file_that_cannot_be_read_is_one_clear_error() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "lookout.toml: is empty; see configs/ for examples"),
        (b" \n\t", "lookout.toml: is empty; see configs/ for examples"),
        (b"a = 1\nb = \"\xff\"", "lookout.toml: is not UTF-8 text: line 2 holds the byte 0xff"),
        (b"\x7fELF\x02", "lookout.toml:1:6: not valid TOML: "),
        (b"a = 1\n\xc3\xa4 = 'x'\n", "lookout.toml:2:1: not valid TOML: "),
        (b"a = 1\na = 2\n", "lookout.toml:2:1: not valid TOML: duplicate key"),
        (b"a = '\xc3\xa4' x", "lookout.toml:1:9: not valid TOML: "),
        (
            b"a = 99999999999999999999",
            "lookout.toml:1:5: not valid TOML: number 99999999999999999999 does not fit 64 bits",
        ),
    ];
    for (bytes, start) in cases {
        let fixture = Fixture::new(bytes);
        for message in
            [fixture.message(fixture.load()), fixture.message(LabelSet::load(&fixture.path))]
        {
            assert!(message.starts_with(start), "want {start}\n got {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn missing_oversized_and_folders() {
    let fixture = Fixture::new(vec![b'#'; (1 << 20) + 1]);
    assert_eq!(fixture.message(fixture.load()), "lookout.toml: is larger than 1024 KiB");
    fs::write(&fixture.path, vec![b'#'; 1 << 20]).unwrap();
    assert!(fixture.message(fixture.load()).contains("`model` is required"));
    fs::remove_file(&fixture.path).unwrap();
    let message = fixture.message(fixture.load());
    assert_eq!(message, "lookout.toml: cannot be read: No such file or directory (os error 2)");
    fs::create_dir(&fixture.path).unwrap();
    assert_eq!(fixture.message(fixture.load()), "lookout.toml: is a folder; give a TOML file");
}

#[test]
fn deep_and_wide_inputs_end_in_an_error() {
    let deep = 200_000;
    for text in [
        format!("a{} = 1", ".a".repeat(deep)),
        format!("[a{}]", ".a".repeat(deep)),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
        "[[a]]\n".repeat(deep / 2),
        "\"a[2000000000]\" = 1".to_owned(),
    ] {
        let fixture = Fixture::new(text);
        let message = fixture.message(fixture.load());
        assert!(!message.is_empty());
    }
    let fixture = Fixture::minimal(&[]);
    let variable = format!("LOOKOUT{}", "__A".repeat(deep));
    let message =
        fixture.message(fixture.load_env(&[(&variable, "1"), ("LOOKOUT__A[2000000000]", "1")]));
    assert!(message.contains("`a` is no key at the top"), "{message:.200}");
}

/// Pieces from which something near a configuration grows.
fn near_toml() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "node",
        "model",
        "labels",
        "negatives",
        "templates",
        "labels_file",
        "fusion.window",
        "decision.enter",
        "decision",
        "gate",
        "mqtt",
        "mqtt.port",
        "mqtt.password",
        "cameras",
        "cameras.front",
        "cameras.front.uri",
        "cameras.front.decision.exit",
        "label",
        "negative",
        "stop.grace_s",
        "\"\"",
        "\"a.b[3]\"",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "0.5",
        "nan",
        "-inf",
        "\"\"",
        "\"a\"",
        "\"猫\"",
        "[]",
        "[[]]",
        "[\"a\", \"b\"]",
        "{}",
        "{ uri = 3 }",
        "true",
        "1979-05-27",
        "[{ name = \"a\" }, { id = 3 }]",
        "'/'",
    ]);
    prop::collection::vec((key, value), 0..12).prop_map(|pairs| {
        pairs.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    })
}

fn load_all(fixture: &Fixture, name: &str, text: &str) {
    let env = [(format!("LOOKOUT__{name}"), text.to_owned())];
    let flags = [(name.to_owned(), text.to_owned())];
    for message in [
        Config::load(&fixture.path, [], &[]).err().map(|it| it.to_string()),
        Config::load(&fixture.path, env, &flags).err().map(|it| it.to_string()),
        LabelSet::load(&fixture.path).err().map(|it| it.to_string()),
    ] {
        assert!(message.is_none_or(|it| !it.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load_all(&Fixture::new(bytes), "X", "y");
    }

    #[test]
    fn arbitrary_keys_and_values_never_panic(text in near_toml(), name in ".{0,20}", value in ".{0,20}") {
        load_all(&Fixture::new(text), &name, &value);
    }

    #[test]
    fn arbitrary_values_never_panic(
        (key, value) in (prop::sample::select(MINIMAL.to_vec()), ".{0,20}")
            .prop_map(|((key, _), value)| (key, format!("{value:?}"))),
        name in "(MQTT|CAMERAS|FUSION|[A-Z_]{0,6})__[A-Z_]{0,12}",
    ) {
        load_all(&Fixture::minimal(&[(key, &value)]), &name, &value);
    }
}
