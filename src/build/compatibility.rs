//! Which compatibility changes a kernel needs: their conditions looked up in the toolchain and the source, before anything is built.
//!
//! A condition speaks of the source as it was fetched, so that a variant's patch can't change what its base needed. Nothing is applied here.
//!
//! Read [`chosen`] first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::BuildError;
use super::manifest::FileRecord;
use super::toolchain::Tools;
use crate::spec::{Change, Compatibility, Condition, Definitions, Version, Versioned};

/// A change that was made, in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// What was done: `patch x.patch`, `make HOSTCFLAGS=-O2`, ...
    pub change: String,
    /// Conditions that hold, with what was found.
    pub when: Vec<String>,
    /// Why it is needed.
    pub because: Option<String>,
    /// BLAKE3 of a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl Applied {
    /// What tells it from others in a key.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.blake3.as_deref().unwrap_or(&self.change)
    }

    /// The patch, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<FileRecord> {
        let path = self.change.strip_prefix(PATCH)?;
        Some(FileRecord { path: path.into(), blake3: self.blake3.clone()? })
    }

    /// It and its reason, in a line.
    #[must_use]
    pub fn shown(&self) -> String {
        let when = if self.when.is_empty() { String::new() } else { format!(" ({})", self.when.join(", ")) };
        let because = self.because.as_ref().map(|because| format!(": {because}")).unwrap_or_default();
        format!("{}{when}{because}", self.change)
    }
}

/// How a patch is shown.
const PATCH: &str = "patch ";

/// The changes whose conditions hold, in order, each with its record.
///
/// # Errors
/// When a patch can't be read.
pub fn chosen(
    all: &[Compatibility],
    tools: &Tools,
    source: &Path,
    definitions: &Definitions,
) -> Result<Vec<(Change, Applied)>, BuildError> {
    let mut chosen = Vec::new();
    for Compatibility { change, when, because } in all {
        let Some(when) = when.iter().map(|condition| holds(condition, tools, source)).collect::<Option<Vec<_>>>() else { continue };
        let blake3 = match change {
            Change::Patch(path) => Some(FileRecord::of(path, path)?.blake3),
            Change::Copy { .. } | Change::Make(_) | Change::Flags(_) | Change::Configuration(_) => None,
        };
        chosen.push((change.clone(), Applied { change: shown(change, definitions), when, because: because.clone(), blake3 }));
    }
    Ok(chosen)
}

fn shown(change: &Change, definitions: &Definitions) -> String {
    let list = |pairs: &BTreeMap<String, String>, prefix: &str| {
        pairs.iter().map(|(name, value)| format!("{prefix}{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    match change {
        Change::Patch(path) => format!("{PATCH}{}", definitions.shown(path).display()),
        Change::Copy { from, to } => format!("copy {} to {}", from.display(), to.display()),
        Change::Make(variables) => format!("make {}", list(variables, "")),
        Change::Flags(flags) => format!("compiler flags {}", flags.join(" ")),
        Change::Configuration(symbols) => format!("configuration {}", list(symbols, "CONFIG_")),
    }
}

/// The condition with what was found, if it holds.
fn holds(condition: &Condition, tools: &Tools, source: &Path) -> Option<String> {
    let is_there = |path: &PathBuf| source.join(path).is_file();
    let text = |path: &PathBuf| fs::read(source.join(path)).ok().map(|text| String::from_utf8_lossy(&text).into_owned());
    match condition {
        Condition::Version(what, bounds) => {
            let found = version(*what, tools)?;
            bounds.iter().all(|bound| found.is(bound)).then(|| format!("{} is {found}", what.name()))
        }
        Condition::Has(path) => is_there(path).then(|| condition.to_string()),
        Condition::Missing(path) => (!is_there(path)).then(|| condition.to_string()),
        Condition::Contains(path, wanted) => text(path).filter(|text| text.contains(wanted)).map(|_| condition.to_string()),
        Condition::Lacks(path, wanted) => text(path).filter(|text| !text.contains(wanted)).map(|_| condition.to_string()),
    }
}

/// The version of a program; none for a compiler of the other kind.
fn version(what: Versioned, tools: &Tools) -> Option<Version> {
    let is_clang = tools.compiler.contains("clang");
    let line = match what {
        Versioned::Gcc => (!is_clang).then_some(&tools.compiler),
        Versioned::Clang => is_clang.then_some(&tools.compiler),
        Versioned::Binutils => Some(&tools.binutils),
        Versioned::Make => Some(&tools.make),
    };
    number(line?)
}

/// The version in the first line of `--version`: the first word that begins with a digit and isn't in brackets, up to what is no number.
fn number(line: &str) -> Option<Version> {
    let mut depth = 0_i32;
    let outside: String = line
        .chars()
        .filter(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0 && *c != ')'
        })
        .collect();
    let word = outside.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    Version::new(word[..end].trim_end_matches('.'))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::spec::load;

    /// The shipped list, for the compiler that EL7 was made with and for the one that the definitions name, and for the two forms that its sources have.
    #[test]
    fn the_shipped_list_is_for_later_toolchains_only() {
        let definitions = load(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let list = &definitions.kernels[&crate::spec::Name::new("centos7-1160").unwrap()].compatibility;
        let tools = |compiler: &str, binutils: &str, make: &str| Tools {
            command: "gcc".into(),
            compiler: compiler.into(),
            binutils: binutils.into(),
            make: make.into(),
            inside: None,
        };
        let own = tools("gcc (GCC) 4.8.5 20150623 (Red Hat 4.8.5-44)", "GNU ld version 2.27-44.base.el7", "GNU Make 3.82");
        // 7.3 and 7.4 were made with an assembler that leaves jumps long.
        let its = Tools { binutils: "GNU ld version 2.25.1-31.base.el7".into(), ..own.clone() };
        let later = tools("gcc-9 (Debian 9.3.0-22) 9.3.0", "GNU ld (GNU Binutils for Debian) 2.35.2", "GNU Make 4.3");
        let tenth = tools("gcc-10 (Debian 10.2.1-6) 10.2.1 20210110", &later.binutils, &later.make);
        // One line of each file that tells the forms apart, as it stands there.
        let old: &[(&str, &str)] = &[
            ("include/linux/compiler-gcc5.h", ""),
            ("arch/x86/kernel/head_64.S", "early_idt_handlers:\n"),
            ("scripts/Kbuild.include", r"make-cmd = $(subst \\,\\\\,$(subst \#,\\\#,$(cmd_$(1))))"),
            ("mm/Kconfig", "config HMM_MIRROR\nconfig HMM_MIGRATE\n"),
        ];
        let new: &[(&str, &str)] = &[
            ("arch/x86/kernel/head_64.S", "early_idt_handler_array:\n"),
            ("scripts/Kbuild.include", r"make-cmd = $(call escsq,$(subst \#,\\\#,$(cmd_$(1))))"),
            ("mm/Kconfig", "config HMM_MIRROR\n"),
        ];
        let changes = |tools: &Tools, files: &[(&str, &str)]| {
            let tree = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = tree.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let chosen = chosen(list, tools, tree.path(), &definitions).unwrap();
            chosen.into_iter().map(|(_, applied)| applied.change).collect::<Vec<_>>().join("; ")
        };
        let always = "configuration CONFIG_MODULE_SIG=n; configuration CONFIG_AMD_MEM_ENCRYPT=n";
        let hmm = "configuration CONFIG_HMM_MIGRATE=n CONFIG_HMM_MIRROR=n";
        assert_eq!(changes(&own, new), always);
        assert_eq!(changes(&its, old), format!("{always}; {hmm}"));
        let flags = "compiler flags -fno-pie -no-pie";
        let pages = "patch patches/el7-max-page-size.patch";
        let objtool = "configuration CONFIG_STACK_VALIDATION=n";
        assert_eq!(changes(&later, new), format!("{flags}; {pages}; patch patches/el7-make-pound.patch; {objtool}; {always}"));
        assert_eq!(
            changes(&later, old),
            format!(
                "{flags}; {pages}; patch patches/el7-make-pound-514.patch; copy include/linux/compiler-gcc5.h to include/linux/compiler-gcc9.h; \
                 patch patches/el7-early-idt.patch; {objtool}; {always}; {hmm}"
            )
        );
        let host = "make HOSTCFLAGS=-O2 -fcommon";
        assert_eq!(changes(&tenth, new), format!("{flags}; {host}; {pages}; patch patches/el7-make-pound.patch; {objtool}; {always}"));
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let lines = [
            ("gcc-9 (Debian 9.3.0-22) 9.3.0", "9.3.0"),
            ("gcc (GCC) 4.8.5 20150623 (Red Hat 4.8.5-44)", "4.8.5"),
            ("Debian clang version 14.0.6", "14.0.6"),
            ("GNU ld (GNU Binutils for Debian) 2.35.2", "2.35.2"),
            ("GNU ld version 2.27-44.base.el7", "2.27"),
            ("GNU Make 3.82", "3.82"),
        ];
        for (line, expected) in lines {
            assert_eq!(number(line), Version::new(expected), "{line}");
        }
        assert_eq!(number("GNU Make"), None);
    }
}
