//! The node's id in topics when the configuration names none.

use std::path::Path;

use anyhow::{Context, bail};
use lookout_core::Id;
use sha2::{Digest, Sha256};

/// Where systemd keeps the machine's id.
const MACHINE_ID: &str = "/etc/machine-id";

/// The first 12 hexadecimal digits of a hash of the machine id, keyed by this program's name:
/// stable on one machine, and the machine id itself, which is confidential, cannot be read back.
pub(crate) fn derived() -> anyhow::Result<Id> {
    from_file(Path::new(MACHINE_ID))
}

fn from_file(path: &Path) -> anyhow::Result<Id> {
    let advice = || format!("no node id can be derived from {}; set `node`", path.display());
    let machine_id = std::fs::read_to_string(path).with_context(advice)?;
    let machine_id = machine_id.trim();
    if machine_id.len() != 32 || !machine_id.chars().all(|it| it.is_ascii_hexdigit()) {
        bail!("{}: must hold 32 hexadecimal digits, got {machine_id:?}", advice());
    }
    let digest =
        Sha256::new().chain_update(b"lookout node id\0").chain_update(machine_id).finalize();
    let digits: String = digest.iter().take(6).map(|it| format!("{it:02x}")).collect();
    Ok(Id::new(digits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_and_hides_the_machine_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        let from = |text: &str| {
            std::fs::write(&path, text).unwrap();
            from_file(&path).map(|it| it.to_string())
        };
        let id = "0123456789abcdef0123456789abcdef";
        let node = from(id).unwrap();
        assert_eq!(from(&format!("{id}\n")).unwrap(), node);
        assert!(node.len() == 12 && !id.contains(&node));
        assert_ne!(from(&id.replace('0', "1")).unwrap(), node);
        assert!(from("uninitialized\n").unwrap_err().to_string().contains("set `node`"));
        assert!(from_file(&folder.path().join("none")).is_err());
    }
}
