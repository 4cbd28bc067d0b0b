//! Configuration: what compatibility changes and fragments ask for, laid over a base, and whether Kconfig kept it.
//!
//! Kconfig drops what it can't satisfy without a word, and then the kernel under test isn't the one that was meant; so every requested symbol is
//! looked up afterwards and all that didn't stick are told at once. This file runs no program.
//!
//! Read [`Requests`] first.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{BuildError, unreadable};
use crate::input;

/// What compatibility changes and fragments ask for, the later ones having won.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<String, Request>);

/// One symbol's request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    /// `n` for `is not set`.
    value: String,
    by: By,
}

/// Who asks for a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A fragment, with the line.
    Fragment(PathBuf, usize),
    /// A compatibility change, as it is shown.
    Compatibility(String),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment(file, line) => write!(f, "{}:{line}", file.display()),
            Self::Compatibility(change) => write!(f, "compatibility change `{change}`"),
        }
    }
}

/// A requested symbol that Kconfig didn't keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSet {
    /// The symbol, with `CONFIG_`.
    pub symbol: String,
    /// What was asked for.
    pub wanted: String,
    /// What it is.
    pub actual: String,
    /// Who asked for it.
    pub requested: By,
    /// Whether any Kconfig file of the source defines it.
    pub known: bool,
}

impl fmt::Display for NotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { symbol, wanted, actual, requested, known } = self;
        let why = if *known { "what it depends on isn't met" } else { "this source has no such symbol" };
        write!(f, "{requested}: {symbol}: wanted {wanted}, got {actual} ({why})")
    }
}

/// A line of a configuration: the symbol with `CONFIG_`, and its value (`n` for `is not set`). None for a comment or an empty line.
fn parse_line(line: &str) -> Result<Option<(&str, &str)>, ()> {
    let line = line.trim();
    let symbol_is_fine = |symbol: &str| {
        symbol.strip_prefix("CONFIG_").is_some_and(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
    };
    if let Some(symbol) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"))
        && symbol_is_fine(symbol)
    {
        return Ok(Some((symbol, "n")));
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    match line.split_once('=') {
        Some((symbol, value)) if symbol_is_fine(symbol) && !value.is_empty() => Ok(Some((symbol, value))),
        _ => Err(()),
    }
}

impl Requests {
    /// Adds the symbols (without `CONFIG_`) that a compatibility change asks for.
    pub fn ask(&mut self, symbols: &BTreeMap<String, String>, change: &str) {
        let request = |value: &String| Request { value: value.clone(), by: By::Compatibility(change.to_owned()) };
        self.0.extend(symbols.iter().map(|(symbol, value)| (format!("CONFIG_{symbol}"), request(value))));
    }

    /// Adds what fragments ask for, in order.
    ///
    /// # Errors
    /// When one can't be read or has a line that is none of a configuration.
    pub fn read(&mut self, fragments: &[PathBuf]) -> Result<(), BuildError> {
        for fragment in fragments {
            let text = input::read_text(fragment).map_err(unreadable(fragment))?;
            for (line, content) in (1..).zip(text.lines()) {
                let parsed = parse_line(content);
                let wrong = || BuildError::Fragment { path: fragment.clone(), line, text: content.to_owned() };
                if let Some((symbol, value)) = parsed.map_err(|()| wrong())? {
                    self.0.insert(symbol.to_owned(), Request { value: value.to_owned(), by: By::Fragment(fragment.clone(), line) });
                }
            }
        }
        Ok(())
    }

    /// The configuration `base` with the requests in place of what it says of their symbols.
    #[must_use]
    pub fn laid_over(&self, base: &str) -> String {
        let kept = base.lines().filter(|line| !matches!(parse_line(line), Ok(Some((symbol, _))) if self.0.contains_key(symbol)));
        let mut merged: String = kept.flat_map(|line| [line, "\n"]).collect();
        for (symbol, Request { value, .. }) in &self.0 {
            merged += &if value == "n" { format!("# {symbol} is not set\n") } else { format!("{symbol}={value}\n") };
        }
        merged
    }

    /// The requests that `config`, Kconfig's result, doesn't keep. `tree` is looked through for the symbols only if there are any.
    #[must_use]
    pub fn not_set(&self, config: &str, tree: &Path) -> Vec<NotSet> {
        let actual = values(config);
        let mut lost: Vec<_> = self
            .0
            .iter()
            .map(|(symbol, request)| (symbol, request, actual.get(symbol.as_str()).copied().unwrap_or("n")))
            .filter(|(_, request, actual)| *actual != request.value)
            .map(|(symbol, request, actual)| NotSet {
                symbol: symbol.clone(),
                wanted: request.value.clone(),
                actual: actual.to_owned(),
                requested: request.by.clone(),
                known: false,
            })
            .collect();
        if !lost.is_empty() {
            let known = defined_symbols(tree);
            for one in &mut lost {
                one.known = one.symbol.strip_prefix("CONFIG_").is_some_and(|symbol| known.contains(symbol));
            }
        }
        lost
    }
}

/// What has to be asked of one configuration so that it becomes another one: symbols with their values, in the other one's order, in which what a symbol
/// depends on mostly comes before it. A number or a text that the other one lacks is left as it is: nothing asks for it there.
#[must_use]
pub fn differences(from: &str, to: &str) -> Vec<(String, String)> {
    let read = |config: &'_ str| -> Vec<(String, String)> {
        let parsed = config.lines().filter_map(|line| parse_line(line).ok().flatten());
        parsed.map(|(symbol, value)| (symbol.to_owned(), value.to_owned())).collect()
    };
    let (from, to) = (read(from), read(to));
    let [before, after]: [BTreeMap<&str, &str>; 2] =
        [&from, &to].map(|all| all.iter().map(|(symbol, value)| (symbol.as_str(), value.as_str())).collect());
    let value = |all: &BTreeMap<&str, &str>, symbol: &str| all.get(symbol).map_or("n", |value| *value).to_owned();
    let changed = to.iter().filter(|(symbol, wanted)| value(&before, symbol) != *wanted).cloned();
    let switch = |value: &str| matches!(value, "y" | "m");
    let gone = from.iter().filter(|(symbol, value)| switch(value) && !after.contains_key(symbol.as_str()));
    changed.chain(gone.map(|(symbol, _)| (symbol.clone(), "n".to_owned()))).collect()
}

/// A line that asks for a symbol.
#[must_use]
pub fn request(symbol: &str, value: &str) -> String {
    if value == "n" { format!("# {symbol} is not set\n") } else { format!("{symbol}={value}\n") }
}

/// A configuration with every module off.
#[must_use]
pub fn without_modules(config: &str) -> String {
    let line = |line: &str| match line.strip_suffix("=m") {
        Some(symbol) if matches!(parse_line(line), Ok(Some(_))) => format!("# {symbol} is not set\n"),
        Some(_) | None => format!("{line}\n"),
    };
    config.lines().map(line).collect()
}

fn values(config: &str) -> BTreeMap<&str, &str> {
    config.lines().filter_map(|line| parse_line(line).ok().flatten()).collect()
}

/// Whether `config` has `symbol` (with `CONFIG_`) as `y`.
#[must_use]
pub fn is_on(config: &str, symbol: &str) -> bool {
    config.lines().any(|line| line.strip_prefix(symbol) == Some("=y"))
}

/// How many symbols `config` has as `y`.
#[must_use]
pub fn count_on(config: &str) -> usize {
    config.lines().filter(|line| line.ends_with("=y")).count()
}

/// The symbols that a source's Kconfig files define.
fn defined_symbols(tree: &Path) -> HashSet<String> {
    let files = walkdir::WalkDir::new(tree).into_iter().flatten();
    let kconfig =
        files.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("Kconfig")) && entry.file_type().is_file());
    let texts = kconfig.filter_map(|entry| std::fs::read(entry.path()).ok());
    texts.flat_map(|text| symbols_of(&String::from_utf8_lossy(&text))).collect()
}

fn symbols_of(kconfig: &str) -> Vec<String> {
    let names = kconfig.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next(), Some("config" | "menuconfig")).then(|| words.next()).flatten()
    });
    names.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn requests(fragments: &[&str]) -> (tempfile::TempDir, Result<Requests, BuildError>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, &&str)| {
            let path = folder.path().join(format!("{number}.config"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths: Vec<_> = fragments.iter().enumerate().map(write).collect();
        let mut requests = Requests::default();
        let read = requests.read(&paths);
        (folder, read.map(|()| requests))
    }

    #[test]
    fn a_later_fragment_wins_and_the_base_is_replaced() {
        let (_folder, requests) = requests(&["CONFIG_A=y\nCONFIG_B=\"x=y\"\n# a comment\n", "# CONFIG_A is not set\n\nCONFIG_C=0x10\n"]);
        let merged = requests.unwrap().laid_over("CONFIG_A=m\n# CONFIG_C is not set\nCONFIG_D=y\n");
        assert_eq!(merged, "CONFIG_D=y\n# CONFIG_A is not set\nCONFIG_B=\"x=y\"\nCONFIG_C=0x10\n");
    }

    #[test]
    fn modules_go() {
        let base = "CONFIG_A=m\nCONFIG_B=\"x=m\"\nCONFIG_C=y\n# CONFIG_D=m\n";
        assert_eq!(without_modules(base), "# CONFIG_A is not set\nCONFIG_B=\"x=m\"\nCONFIG_C=y\n# CONFIG_D=m\n");
    }

    #[test]
    fn a_fragment_wins_over_a_compatibility_change() {
        let (folder, requests) = requests(&["CONFIG_C=y\n"]);
        let (mut all, symbols) = (Requests::default(), [("C", "n"), ("E", "3")]);
        all.ask(&symbols.map(|(symbol, value)| (symbol.to_owned(), value.to_owned())).into(), "configuration CONFIG_C=n CONFIG_E=3");
        assert_eq!(all.laid_over("CONFIG_C=y\nCONFIG_F=y\n"), "CONFIG_F=y\n# CONFIG_C is not set\nCONFIG_E=3\n");
        all.0.extend(requests.unwrap().0);
        let lost: Vec<_> = all.not_set("CONFIG_C=y\nCONFIG_E=4\n", folder.path()).iter().map(ToString::to_string).collect();
        let said = "compatibility change `configuration CONFIG_C=n CONFIG_E=3`: CONFIG_E: wanted 3, got 4 (this source has no such symbol)";
        assert_eq!(lost, [said]);
    }

    #[test]
    fn all_that_did_not_stick_is_told_at_once() {
        let (folder, requests) = requests(&["CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=n\nCONFIG_E=3\n"]);
        std::fs::write(folder.path().join("Kconfig.x"), "config B\n\tbool\nmenuconfig C\n\tbool\n").unwrap();
        let lost = requests.unwrap().not_set("# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_E=3\n", folder.path());
        let shown: Vec<_> = lost.iter().map(|one| one.to_string().replace(folder.path().to_str().unwrap(), "DIR")).collect();
        assert_eq!(
            shown,
            [
                "DIR/0.config:1: CONFIG_A: wanted y, got n (this source has no such symbol)",
                "DIR/0.config:2: CONFIG_B: wanted y, got n (what it depends on isn't met)",
                "DIR/0.config:3: CONFIG_C: wanted n, got y (what it depends on isn't met)",
            ]
        );
    }

    #[test]
    fn a_line_that_is_none_is_an_error() {
        let (_folder, requests) = requests(&["CONFIG_A=y\nCONFG_B=y\n"]);
        assert!(requests.unwrap_err().to_string().contains("0.config:2: \"CONFG_B=y\" is neither"));
    }
}
