//! What the processor has, and what is hidden from the contestants.

use std::fs;
use std::process::Command;

use anyhow::Context;

/// The processor, from `/proc/cpuinfo`.
pub(crate) struct Machine {
    name: String,
    cores: usize,
    flags: Vec<String>,
}

/// Which instructions both sides may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// All, and there is no AMX: the gate.
    Everything,
    /// All but AMX: the gate.
    WithoutAmx,
    /// Nothing beyond AVX2.
    Avx2Only,
    /// All, AMX too.
    WithAmx,
}

impl Setting {
    /// What `hide.c` is told.
    pub(crate) fn hides(self) -> Option<&'static str> {
        match self {
            Self::Everything | Self::WithAmx => None,
            Self::WithoutAmx => Some("amx"),
            Self::Avx2Only => Some("avx2"),
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Everything => "the whole processor (the gate; this machine has no AMX)",
            Self::WithoutAmx => "AMX refused to both (the gate)",
            Self::Avx2Only => "both kept to AVX2",
            Self::WithAmx => "unhindered, with AMX",
        }
    }
}

impl Machine {
    pub(crate) fn here() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        Ok(Self::parse(&text))
    }

    /// `text` is that of `/proc/cpuinfo`, on x86 or ARM.
    fn parse(text: &str) -> Self {
        let field = |key: &str| {
            let mut lines = text.lines().filter_map(|it| it.split_once(':'));
            lines.find(|(it, _)| it.trim() == key).map(|(_, value)| value.trim())
        };
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        Self {
            name: field("model name").unwrap_or("processor without a name").to_owned(),
            cores: text.lines().filter(|it| it.starts_with("processor")).count(),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|it| it == flag)
    }

    fn has_amx(&self) -> bool {
        self.has("amx_tile")
    }

    fn is_beyond_avx2(&self) -> bool {
        self.has("avx512f") || self.has("avx_vnni")
    }

    /// What is measured here, the gate first.
    pub(crate) fn settings(&self) -> &'static [Setting] {
        match (self.has_amx(), self.is_beyond_avx2()) {
            (true, _) => &[Setting::WithoutAmx, Setting::Avx2Only, Setting::WithAmx],
            (false, true) => &[Setting::Everything, Setting::Avx2Only],
            (false, false) => &[Setting::Everything],
        }
    }

    /// A line for each row that a machine with more would have.
    pub(crate) fn missing_rows(&self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if self.has("avx2") && !self.is_beyond_avx2() {
            lines.push(
                "This machine has nothing beyond AVX2, so the rows are those on AVX2 alone as well.",
            );
        }
        if !self.has_amx() {
            lines.push("This machine has no AMX, so there is no row with it.");
        }
        lines
    }

    /// The instruction set that onnxruntime's matrix library takes for a form by its own rule
    /// (`MLAS_PLATFORM` in its `platform.cpp`), AMX aside, from what it is left to see. Its choice
    /// cannot be asked for.
    pub(crate) fn mlas(&self, setting: Setting, form: &str) -> &'static str {
        let order: &[(&str, &str)] = if form.starts_with("float") {
            &[("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon")]
        } else if form.ends_with("unsigned") && self.has("avx2") {
            // VNNI multiplies unsigned by signed bytes alone.
            &[("avx512bw", "avx512"), ("avx2", "avx2")]
        } else {
            &[
                ("avx512_vnni", "avx512-vnni"),
                ("avx_vnni", "avx-vnni"),
                ("avx512bw", "avx512"),
                ("avx2", "avx2"),
                ("i8mm", "neon-i8mm"),
                ("asimddp", "neon-dotprod"),
                ("asimd", "neon"),
            ]
        };
        let is_hidden = |name: &str| {
            setting == Setting::Avx2Only && (name.contains("vnni") || name.contains("512"))
        };
        let seen = order.iter().find(|(flag, name)| self.has(flag) && !is_hidden(name));
        seen.map_or("portable", |(_, name)| name)
    }

    /// The head of the report: processor, date, how busy it is.
    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("date")?;
        let date = String::from_utf8_lossy(&date.stdout);
        Ok(format!(
            "{}, {} cores, {}, one thread; load average at the start: {}.\n\
             The weights of tiny16, b32 and b16 are random, of true shape, which is right for speed and \
             says nothing of accuracy;\nthe starter's float form has its 8-bit weights, widened.",
            self.name,
            self.cores,
            date.trim(),
            load_average()?,
        ))
    }
}

/// Of the last minute, five and fifteen.
pub(crate) fn load_average() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(flags: &str) -> Machine {
        let one = format!("processor\t: 0\nmodel name\t: Some CPU: fast\nflags\t\t: {flags}\n\n");
        Machine::parse(&one.repeat(2))
    }

    #[test]
    fn the_gate_refuses_amx_where_there_is_some() {
        let server = with("avx2 avx512f avx512bw avx512_vnni amx_tile amx_int8");
        let [gate, avx2, whole] = server.settings() else { panic!("three rows") };
        assert_eq!(gate.hides(), Some("amx"));
        assert_eq!(server.mlas(*gate, "dynamic"), "avx512-vnni");
        assert_eq!(server.mlas(*gate, "float, fused"), "avx512");
        assert_eq!(server.mlas(*gate, "dynamic, unsigned"), "avx512");
        assert_eq!(avx2.hides(), Some("avx2"));
        assert_eq!(server.mlas(*avx2, "static"), "avx2");
        assert_eq!(whole.hides(), None);
        assert!(server.missing_rows().is_empty());
    }

    #[test]
    fn a_machine_that_ends_at_avx2_has_one_row_and_says_so() {
        let box_ = with("fma avx2");
        assert_eq!((box_.name.as_str(), box_.cores), ("Some CPU: fast", 2));
        assert_eq!(box_.settings(), [Setting::Everything]);
        assert_eq!(box_.mlas(Setting::Everything, "static"), "avx2");
        assert_eq!(box_.missing_rows().len(), 2);
    }

    #[test]
    fn a_machine_between_has_two_rows() {
        let desktop = with("avx2 avx_vnni");
        assert_eq!(desktop.settings(), [Setting::Everything, Setting::Avx2Only]);
        assert_eq!(desktop.mlas(Setting::Everything, "static"), "avx-vnni");
        assert_eq!(desktop.mlas(Setting::Avx2Only, "static"), "avx2");
        assert_eq!(desktop.missing_rows().len(), 1);
    }
}
