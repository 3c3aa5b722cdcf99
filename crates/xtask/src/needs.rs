//! What the build and the tests need from the system: looked for, named, installed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Something that cargo does not bring.
#[derive(Debug)]
pub(crate) struct Need {
    what: &'static str,
    why: &'static str,
    is_there: fn() -> bool,
    from: Source,
}

/// Where it comes from.
#[derive(Debug)]
enum Source {
    /// A Debian package.
    Apt(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
}

impl Need {
    /// To build the program.
    pub(crate) const FOR_BUILD: &[&Self] = &[&C_COMPILER, &LIBCLANG, &CLANG_HEADERS];
    /// To pass the gate.
    pub(crate) const FOR_TEST: &[&Self] =
        &[&C_COMPILER, &LIBCLANG, &CLANG_HEADERS, &MOSQUITTO, &RUSTFMT, &CLIPPY];
    /// To measure against usearch.
    pub(crate) const FOR_INDEX_BENCH: &[&Self] = &[&C_COMPILER];
    /// To fuzz.
    pub(crate) const FOR_FUZZ: &[&Self] = &[&CPP_COMPILER];
    /// To measure against onnxruntime.
    pub(crate) const FOR_BENCH: &[&Self] = &[&C_COMPILER, &LIBCLANG, &CLANG_HEADERS, &PYTHON];
}

const C_COMPILER: Need = Need {
    what: "a C compiler and the headers of the C library",
    why: "the cryptography of TLS is partly C",
    is_there: || compiles("cc", "c", b"#include <stdlib.h>\nint x;\n"),
    from: Source::Apt("build-essential"),
};
const CPP_COMPILER: Need = Need {
    what: "a C++ compiler and the headers of its library",
    why: "libFuzzer is C++",
    is_there: || compiles("c++", "c++", b"#include <vector>\nint x;\n"),
    from: Source::Apt("build-essential"),
};
const LIBCLANG: Need = Need {
    what: "libclang",
    why: "the V4L2 bindings are generated from the kernel's headers",
    is_there: has_libclang,
    from: Source::Apt("libclang-dev"),
};
const CLANG_HEADERS: Need = Need {
    what: "the headers of clang itself (stddef.h)",
    why: "libclang cannot read the kernel's headers without them",
    is_there: has_clang_headers,
    from: Source::Apt("libclang-dev"),
};
const MOSQUITTO: Need = Need {
    what: "the mosquitto broker",
    why: "tests speak to a real broker",
    is_there: has_mosquitto,
    from: Source::Apt("mosquitto"),
};
const PYTHON: Need = Need {
    what: "Python with virtual environments",
    why: "onnxruntime is set up in one",
    is_there: || runs("python3", &["-c", "import ensurepip, venv"]),
    from: Source::Apt("python3-venv"),
};
const RUSTFMT: Need = Need {
    what: "rustfmt",
    why: "the gate checks the format",
    is_there: || runs("cargo", &["fmt", "--version"]),
    from: Source::Rustup("rustfmt"),
};
const CLIPPY: Need = Need {
    what: "clippy",
    why: "the gate checks the lints",
    is_there: || runs("cargo", &["clippy", "--version"]),
    from: Source::Rustup("clippy"),
};

/// Makes sure that `needs` are there: installs what is missing when that was `agreed` to, else
/// fails with the lines that would.
pub(crate) fn provide(needs: &[&Need], agreed: bool) -> anyhow::Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing:");
    for need in &missing {
        eprintln!("  {}: {}", need.what, need.why);
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    let lines = install_lines(&missing, is_root);
    if !agreed {
        let lines: Vec<String> = lines.iter().map(|it| format!("  {}", it.join(" "))).collect();
        bail!("run\n{}\nor let this command do it: --yes\n{OTHER_SYSTEMS}", lines.join("\n"));
    }
    for line in &lines {
        eprintln!("$ {}", line.join(" "));
        let [program, args @ ..] = &line[..] else { continue };
        let status = Command::new(program)
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .with_context(|| format!("`{program}` cannot be started\n{OTHER_SYSTEMS}"))?;
        if !status.success() {
            bail!("`{}` failed ({status})\n{OTHER_SYSTEMS}", line.join(" "));
        }
    }
    let still: Vec<&str> = self::missing(needs).iter().map(|it| it.what).collect();
    if still.is_empty() {
        Ok(())
    } else {
        bail!("still not found after installing: {}\n{OTHER_SYSTEMS}", still.join(", "))
    }
}

const OTHER_SYSTEMS: &str = "\
Without apt-get: Fedora has gcc, clang-devel and mosquitto, Arch has gcc, clang and mosquitto.
A libclang elsewhere is found through LIBCLANG_PATH. Without rustup, rustfmt and clippy come with
your distribution's Rust.";

fn missing<'a>(needs: &[&'a Need]) -> Vec<&'a Need> {
    needs.iter().copied().filter(|it| !(it.is_there)()).collect()
}

/// The commands that install `missing`.
fn install_lines(missing: &[&Need], is_root: bool) -> Vec<Vec<String>> {
    let mut packages = Vec::new();
    let mut components = Vec::new();
    for need in missing {
        match need.from {
            Source::Apt(it) if !packages.contains(&it) => packages.push(it),
            Source::Apt(_) => (),
            Source::Rustup(it) => components.push(it),
        }
    }
    let line = |start: &[&str], rest: &[&str]| -> Vec<String> {
        start.iter().chain(rest).map(|it| (*it).to_owned()).collect()
    };
    let sudo: &[&str] = if is_root { &[] } else { &["sudo"] };
    let mut lines = Vec::new();
    if !packages.is_empty() {
        lines.push(line(sudo, &["apt-get", "update"]));
        let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
        lines.push(line(&line_ref(sudo, &install), &packages));
    }
    if !components.is_empty() {
        lines.push(line(&["rustup", "component", "add"], &components));
    }
    lines
}

fn line_ref<'a>(start: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    start.iter().chain(rest).copied().collect()
}

fn runs(program: &str, args: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|it| it.success())
}

/// Compiles a program, because a compiler without the headers is of no use.
fn compiles(compiler: &str, language: &str, program: &[u8]) -> bool {
    let child = Command::new(compiler)
        .args(["-x", language, "-", "-c", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    child.is_ok_and(|mut child| {
        let written = child.stdin.take().is_some_and(|mut it| it.write_all(program).is_ok());
        child.wait().is_ok_and(|it| it.success()) && written
    })
}

fn has_mosquitto() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).any(|it| it.join("mosquitto").is_file())
}

/// Where the library may be, as bindgen looks for it.
fn libclang_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(given) = std::env::var_os("LIBCLANG_PATH") {
        folders.push(PathBuf::from(given));
    }
    for top in ["/usr/lib", "/usr/lib64", "/usr/local/lib"] {
        folders.push(PathBuf::from(top));
        for sub in subfolders(Path::new(top)) {
            folders.push(sub.join("lib"));
            folders.push(sub);
        }
    }
    folders
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|it| it.path()).filter(|it| it.is_dir()).collect()
}

fn has_libclang() -> bool {
    let is_library = |name: &str| {
        (name.starts_with("libclang.so") || name.starts_with("libclang-"))
            && name.contains(".so")
            && !name.starts_with("libclang-cpp")
    };
    libclang_folders().iter().any(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        // A link whose library is gone does not count.
        entries
            .filter(|it| it.path().is_file())
            .any(|it| it.file_name().to_str().is_some_and(is_library))
            || folder.to_str().is_some_and(is_library) && folder.is_file()
    })
}

fn has_clang_headers() -> bool {
    libclang_folders().iter().any(|folder| {
        let versions = subfolders(&folder.join("clang"));
        versions.iter().any(|it| it.join("include/stddef.h").is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(missing: &[&Need], is_root: bool) -> Vec<String> {
        install_lines(missing, is_root).iter().map(|it| it.join(" ")).collect()
    }

    #[test]
    fn the_lines_name_each_package_once() {
        assert!(lines(&[], true).is_empty());
        assert_eq!(
            lines(Need::FOR_TEST, false),
            [
                "sudo apt-get update",
                "sudo apt-get install --yes --no-install-recommends build-essential libclang-dev mosquitto",
                "rustup component add rustfmt clippy",
            ]
        );
        assert_eq!(lines(&[&CLIPPY], true), ["rustup component add clippy"]);
        assert_eq!(lines(&[&MOSQUITTO], true)[0], "apt-get update");
    }

    #[test]
    fn nothing_is_done_without_consent() {
        const ABSENT: Need = Need {
            what: "a unicorn",
            why: "it cannot be had",
            is_there: || false,
            from: Source::Apt("unicorn"),
        };
        let error = provide(&[&C_COMPILER, &ABSENT], false).unwrap_err().to_string();
        assert!(error.contains("apt-get install --yes --no-install-recommends unicorn"), "{error}");
        assert!(provide(&[&C_COMPILER], false).is_ok());
    }
}
