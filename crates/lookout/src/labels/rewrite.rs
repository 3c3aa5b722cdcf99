//! A label set with the words that were advised: its file with these changed, and all else as it was.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use lookout_config::LabelSet;
use lookout_core::{Class, ClassKind, DEFAULT_TEMPLATE};
use toml_edit::{DocumentMut, Item, RawString, TableLike, Value};

use super::advice::Advice;
use super::list;
use crate::whole;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Where a label set goes.
#[derive(Debug)]
pub(super) struct Output {
    /// As the user wrote it.
    named: PathBuf,
    /// The file itself, which a link leads to.
    file: PathBuf,
    force: bool,
}

impl Output {
    /// Errs where `named` cannot be written, or something stands there that may not be replaced.
    pub(super) fn check(named: &Path, force: bool) -> anyhow::Result<Self> {
        let it = Self { named: named.to_path_buf(), file: resolved(named)?, force };
        it.check_free()?;
        // Gone again at once.
        whole::beside(&it.file).with_context(|| it.cannot())?;
        Ok(it)
    }

    fn check_free(&self) -> anyhow::Result<()> {
        match fs::symlink_metadata(&self.file) {
            Ok(it) if self.force && it.is_file() => Ok(()),
            Ok(it) if it.is_file() => bail!("{self} is there already; --force replaces it"),
            Ok(_) => bail!("{self} is there already, and no regular file; name another one"),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| self.to_string()),
        }
    }

    fn cannot(&self) -> String {
        format!("cannot write {self}")
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.named.display())?;
        match self.named == self.file {
            true => Ok(()),
            false => write!(f, " (a link to {})", self.file.display()),
        }
    }
}

/// What a link leads to, and any other path as it is: a link stays one, and its file is replaced.
fn resolved(path: &Path) -> anyhow::Result<PathBuf> {
    if !fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) {
        return Ok(path.to_path_buf());
    }
    fs::canonicalize(path).with_context(|| {
        format!("{} is a link that leads to no file; name the file itself", path.display())
    })
}

/// Writes the label set of `input` as advised to `output`, whole or not at all, and returns how many
/// classes have changed. The classes are those of `input`.
pub(super) fn write(
    input: &Path,
    output: &Output,
    advised: &[(&Class, Advice)],
) -> anyhow::Result<usize> {
    let text = fs::read_to_string(input).with_context(|| input.display().to_string())?;
    let (text, n_changed) = edit(&text, advised).with_context(|| input.display().to_string())?;
    let name = || output.cannot();
    let mut file = whole::beside(&output.file).with_context(name)?;
    file.write_all(text.as_bytes()).with_context(name)?;
    check(file.path(), advised)?;
    output.check_free()?;
    whole::put(file, &output.file, output.force).with_context(name)?;
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

/// The text with its byte order mark, and with CRLF where most of its lines end so: a document keeps neither.
fn edit(text: &str, advised: &[(&Class, Advice)]) -> anyhow::Result<(String, usize)> {
    let body = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mark = &text[..text.len() - body.len()];
    let is_crlf = text.matches('\n').count() < 2 * text.matches("\r\n").count();
    let body = if is_crlf { body.replace("\r\n", "\n") } else { body.to_owned() };
    let (edited, n_changed) = edit_body(&body, advised)?;
    let edited = if is_crlf { edited.replace('\n', "\r\n") } else { edited };
    Ok((format!("{mark}{edited}"), n_changed))
}

fn edit_body(text: &str, advised: &[(&Class, Advice)]) -> anyhow::Result<(String, usize)> {
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
        match table.get_mut("aliases").and_then(Item::as_array_mut) {
            Some(aliases) => list::change(aliases, &advice.aliases),
            None => {
                table.insert("aliases", Item::Value(advice.aliases.iter().collect()));
            }
        }
        let is_commented = || {
            let list = table.get("aliases").map(Item::to_string).unwrap_or_default();
            let key = table.key("aliases").and_then(|it| it.leaf_decor().prefix());
            let above = key.and_then(RawString::as_str).unwrap_or_default();
            list.contains('#') || above.contains('#')
        };
        if advice.aliases.is_empty() && !is_commented() {
            table.remove("aliases");
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
        Advice { name: name.to_owned(), aliases, dropped: vec![], taken: vec![], vouched: true }
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
        assert_eq!((&edited, n_changed), (&expected, 1));
        assert!(edit(text, &advised[1..]).is_err(), "other classes");
        // Line ends and a byte order mark too.
        let of_windows = |it: &str| format!("{BYTE_ORDER_MARK}{}", it.replace('\n', "\r\n"));
        assert_eq!(edit(&of_windows(text), &advised).unwrap().0, of_windows(&expected));
    }

    #[test]
    fn lists_keep_the_line_ends_of_windows_and_few_of_them_change_nothing() {
        let text = "[[label]]\r\nname = \"automobile\"\r\naliases = [\r\n    \"car\", # common\r\n    \
                    \"motorcar\",\r\n] # all\r\n[[label]]\nname = \"dog\"";
        let automobile = class("automobile", ClassKind::Label, "automobile", &["car", "motorcar"]);
        let dog = class("dog", ClassKind::Label, "dog", &[]);
        let advised =
            [(&automobile, advice("automobile", &["auto", "car"])), (&dog, advice("dog", &[]))];
        let edited = edit(text, &advised).unwrap().0;
        assert!(edited.contains("[\r\n    \"auto\",\r\n    \"car\", # common\r\n"), "{edited:?}");
        assert_eq!(edited.matches('\n').count(), edited.matches("\r\n").count(), "{edited:?}");
        let few = text.replace("\r\n", "\n").replace("common\n", "common\r\n");
        assert!(!edit(&few, &advised).unwrap().0.contains('\r'), "as most lines");
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
    fn comments_in_and_around_a_list_stay() {
        let text = "[[label]]\nname = \"automobile\"\n# what else\naliases = [\n    \"car\", # common\n    \
                    # old\n    \"motorcar\",\n] # all\n\n[[label]]\nname = \"dog\"\n# none\n\
                    aliases = [\"pooch\"]\n";
        let automobile = class("automobile", ClassKind::Label, "automobile", &["car", "motorcar"]);
        let dog = class("dog", ClassKind::Label, "dog", &["pooch"]);
        let advised = [(&automobile, advice("car", &["automobile"])), (&dog, advice("dog", &[]))];
        let (edited, n_changed) = edit(text, &advised).unwrap();
        assert_eq!(n_changed, 2);
        for comment in ["# what else", "# common", "# old", "# all", "# none"] {
            assert!(edited.contains(comment), "{comment}: {edited}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("set.toml"), &edited).unwrap();
        check(&folder.path().join("set.toml"), &advised).unwrap();
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("set.toml"), "label = [{ name = \"sofa\" }, { name = \"cat\" }]\n").unwrap();
        for (to, link) in [("set.toml", "link.toml"), ("gone.toml", "dangling.toml")] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        let error = Output::check(&at("link.toml"), false).unwrap_err().to_string();
        assert!(error.contains("link.toml (a link to ") && error.contains("--force"), "{error}");
        let error = Output::check(&at("dangling.toml"), true).unwrap_err().to_string();
        assert!(error.contains("dangling.toml is a link that leads to no file"), "{error}");
        let (sofa, cat) = (
            class("sofa", ClassKind::Label, "sofa", &[]),
            class("cat", ClassKind::Label, "cat", &[]),
        );
        let advised = [(&sofa, advice("couch", &[])), (&cat, advice("cat", &[]))];
        let output = Output::check(&at("link.toml"), true).unwrap();
        assert_eq!(write(&at("link.toml"), &output, &advised).unwrap(), 1);
        assert!(fs::symlink_metadata(at("link.toml")).unwrap().is_symlink());
        assert!(fs::read_to_string(at("set.toml")).unwrap().contains("couch"));
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
        assert!(Output::check(&output, false).is_err());
        let late = Output { named: output.clone(), file: output.clone(), force: false };
        assert!(write(&input, &late, &advised).is_err(), "it came meanwhile");
        assert_eq!(fs::read_to_string(&output).unwrap(), "mine");
        let no = folder.path().join("no");
        let error = format!("{:#}", Output::check(&no.join("x"), true).unwrap_err());
        let no = no.display();
        assert_eq!(error, format!("cannot write {no}/x: there is no folder {no}"));
        fs::set_permissions(&output, fs::Permissions::from_mode(0o660)).unwrap();
        let forced = Output::check(&output, true).unwrap();
        assert_eq!(write(&input, &forced, &advised).unwrap(), 1);
        let mode = fs::metadata(&output).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "{mode:o}: that of the file replaced");
        assert!(fs::read_to_string(&output).unwrap().contains("couch"));
        assert!(Output::check(folder.path(), true).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
