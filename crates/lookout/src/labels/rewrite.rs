//! A label set with the words that were advised: its file with these changed, and all else as it was.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use lookout_config::LabelSet;
use lookout_core::{Class, ClassKind, DEFAULT_TEMPLATE};
use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use super::advice::Advice;
use crate::whole;

/// Errs where something stands at `output` that may not be replaced.
pub(super) fn check_output(output: &Path, force: bool) -> anyhow::Result<()> {
    match fs::symlink_metadata(output) {
        Ok(it) if force && it.is_file() => Ok(()),
        Ok(it) if it.is_file() => {
            bail!("{} is there already; --force replaces it", output.display())
        }
        Ok(_) => bail!("{} is there already, and no regular file", output.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| output.display().to_string()),
    }
}

/// Writes the label set of `input` as advised to `output`, whole or not at all, and returns how many
/// classes have changed. The classes are those of `input`.
pub(super) fn write(
    input: &Path,
    output: &Path,
    force: bool,
    advised: &[(&Class, Advice)],
) -> anyhow::Result<usize> {
    let text = fs::read_to_string(input).with_context(|| input.display().to_string())?;
    let (text, n_changed) = edit(&text, advised).with_context(|| input.display().to_string())?;
    let name = || format!("cannot write {}", output.display());
    let mut file = whole::beside(output).with_context(name)?;
    file.write_all(text.as_bytes()).with_context(name)?;
    check(file.path(), advised)?;
    check_output(output, force)?;
    whole::put(file, output, force).with_context(name)?;
    Ok(n_changed)
}

/// What was written is a label set of the same classes.
fn check(path: &Path, advised: &[(&Class, Advice)]) -> anyhow::Result<()> {
    let set =
        LabelSet::load(path)?.class_set(&[DEFAULT_TEMPLATE.to_owned()]).map_err(|errors| {
            anyhow!("{}", errors.iter().map(ToString::to_string).collect::<String>())
        })?;
    let is_same = set.classes().len() == advised.len()
        && set.classes().iter().zip(advised).all(|(it, (class, advice))| {
            (&it.id, it.kind, &it.name) == (&class.id, class.kind, &advice.name)
                && (&it.prompts, &it.aliases) == (&class.prompts, &advice.aliases)
        });
    if is_same { Ok(()) } else { bail!("the label set changed while its words were counted") }
}

fn edit(text: &str, advised: &[(&Class, Advice)]) -> anyhow::Result<(String, usize)> {
    let mut document: DocumentMut = text.parse().context("not valid TOML")?;
    let mut n_changed = 0;
    for (key, kind) in [("label", ClassKind::Label), ("negative", ClassKind::Negative)] {
        let of_kind: Vec<&(&Class, Advice)> =
            advised.iter().filter(|it| it.0.kind == kind).collect();
        let mut tables = document.get_mut(key).map_or_else(Vec::new, tables);
        if tables.len() != of_kind.len() {
            bail!("the label set changed while its words were counted");
        }
        for (table, (class, advice)) in tables.iter_mut().zip(of_kind) {
            n_changed += usize::from(change(*table, class, advice));
        }
    }
    Ok((document.to_string(), n_changed))
}

/// The tables of `[[key]]`s, or of a list of inline tables.
fn tables(item: &mut Item) -> Vec<&mut dyn TableLike> {
    match item {
        Item::ArrayOfTables(it) => it.iter_mut().map(|it| it as &mut dyn TableLike).collect(),
        Item::Value(Value::Array(it)) => it
            .iter_mut()
            .filter_map(Value::as_inline_table_mut)
            .map(|it| it as &mut dyn TableLike)
            .collect(),
        _ => Vec::new(),
    }
}

fn change(table: &mut dyn TableLike, class: &Class, advice: &Advice) -> bool {
    let is_renamed = class.name != advice.name;
    let is_other = class.aliases != advice.aliases;
    if is_renamed {
        set(table, "name", advice.name.as_str().into());
        // It was made of the old name.
        if !table.contains_key("id") {
            set(table, "id", class.id.as_str().into());
        }
    }
    if is_other {
        if advice.aliases.is_empty() {
            table.remove("aliases");
        } else {
            set(table, "aliases", advice.aliases.iter().collect::<Array>().into());
        }
    }
    is_renamed || is_other
}

/// Sets a value and leaves the space and comments around it.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use lookout_core::Id;

    use super::*;

    fn class(id: &str, kind: ClassKind, name: &str, aliases: &[&str]) -> Class {
        Class {
            id: Id::new(id).unwrap(),
            kind,
            name: name.to_owned(),
            aliases: aliases.iter().map(|it| (*it).to_owned()).collect(),
            prompts: vec![],
            enter: None,
        }
    }

    fn advice(name: &str, aliases: &[&str]) -> Advice {
        let aliases = aliases.iter().map(|it| (*it).to_owned()).collect();
        Advice { name: name.to_owned(), aliases, dropped: vec![], vouched: true }
    }

    #[test]
    fn ids_comments_and_all_that_is_not_advised_stay() {
        let text = "# mine\ntemplates = [\"{}\"]\n\n[[label]]\nname = \"automobile\" # the red one\n\
                    aliases = [\"car\", \"motorcar\"]\nenter = 0.4\n\n[[label]]\nid = \"dog\"\nname = 'dog'\n\n\
                    [[negative]]\nname = \"empty street\"\n";
        let automobile = class("automobile", ClassKind::Label, "automobile", &["car", "motorcar"]);
        let dog = class("dog", ClassKind::Label, "dog", &[]);
        let street = class("empty_street", ClassKind::Negative, "empty street", &[]);
        let advised = [
            (&automobile, advice("car", &["automobile"])),
            (&dog, advice("dog", &[])),
            (&street, advice("empty street", &[])),
        ];
        let (edited, n_changed) = edit(text, &advised).unwrap();
        let expected = text
            .replace("name = \"automobile\"", "name = \"car\"")
            .replace("[\"car\", \"motorcar\"]", "[\"automobile\"]")
            .replace("enter = 0.4\n", "enter = 0.4\nid = \"automobile\"\n");
        assert_eq!((edited, n_changed), (expected, 1));
        assert!(edit(text, &advised[1..]).is_err(), "other classes");
    }

    #[test]
    fn a_list_of_inline_tables_is_edited_in_place() {
        let text = "label = [\n    { name = \"sofa\", aliases = [\"couch\"] }, # soft\n    { name = \"cat\" },\n]\n";
        let sofa = class("sofa", ClassKind::Label, "sofa", &["couch"]);
        let cat = class("cat", ClassKind::Label, "cat", &[]);
        let advised = [(&sofa, advice("couch", &[])), (&cat, advice("cat", &[]))];
        let (edited, n_changed) = edit(text, &advised).unwrap();
        assert_eq!(n_changed, 1);
        assert!(edited.contains("{ name = \"couch\", id = \"sofa\" }, # soft"), "{edited}");
    }

    #[test]
    fn nothing_is_replaced_unless_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.toml"), folder.path().join("out.toml"));
        fs::write(&input, "label = [{ name = \"sofa\" }, { name = \"cat\" }]\n").unwrap();
        fs::write(&output, "mine").unwrap();
        let (sofa, cat) = (
            class("sofa", ClassKind::Label, "sofa", &[]),
            class("cat", ClassKind::Label, "cat", &[]),
        );
        let advised = [(&sofa, advice("couch", &[])), (&cat, advice("cat", &[]))];
        assert!(write(&input, &output, false, &advised).is_err());
        assert_eq!(fs::read_to_string(&output).unwrap(), "mine");
        fs::set_permissions(&output, fs::Permissions::from_mode(0o660)).unwrap();
        assert_eq!(write(&input, &output, true, &advised).unwrap(), 1);
        let mode = fs::metadata(&output).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "{mode:o}: that of the file replaced");
        assert!(fs::read_to_string(&output).unwrap().contains("couch"));
        assert!(check_output(folder.path(), true).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
