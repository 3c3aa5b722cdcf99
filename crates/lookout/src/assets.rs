//! Finds what comes with the program: beside an installed one under `share/lookout`, or at the
//! root of the repository that it was built in.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The starter model bundle.
pub(crate) const STARTER: &str = "models/starter";

/// The file of the caption index in a bundle's folder.
pub(crate) const INDEX_FILE: &str = "captions.lidx";

/// The demo's configuration.
pub(crate) const DEMO_CONFIG: &str = "configs/demo.toml";

/// The bundle at `model`, else the starter.
pub(crate) fn model_dir(model: Option<&Path>) -> anyhow::Result<PathBuf> {
    model.map_or_else(|| find(STARTER), |it| Ok(it.to_path_buf()))
}

/// The folder or file `name` that came with the program.
pub(crate) fn find(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where this program is")?;
    find_from(&exe, name).with_context(|| {
        format!(
            "{name} comes with the program, and is neither in a folder above {} nor under \
             share/lookout there; run the program where it was built or installed, or name a \
             model where the verb has --model",
            exe.display()
        )
    })
}

fn find_from(exe: &Path, name: &str) -> Option<PathBuf> {
    exe.ancestors()
        .skip(1)
        .flat_map(|folder| [folder.join(name), folder.join("share/lookout").join(name)])
        .find(|it| it.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_an_installed_program_or_above_a_built_one() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(root.path().join(path)).unwrap();
        make("repo/target/release");
        make("repo/models/starter");
        make("usr/bin");
        make("usr/share/lookout/models/starter");
        let find = |exe: &str| find_from(&root.path().join(exe), STARTER);
        assert_eq!(
            find("repo/target/release/lookout"),
            Some(root.path().join("repo/models/starter"))
        );
        assert_eq!(
            find("usr/bin/lookout"),
            Some(root.path().join("usr/share/lookout/models/starter"))
        );
        assert_eq!(find("lookout"), None);
    }
}
