//! Compatibility changes: what a source needs to be built and booted with a toolchain that it wasn't written for.
//!
//! A change says what is done, when, and why; whether its conditions hold is found out by `build`, in the toolchain and the source. It is never the
//! user's patch: it applies to every kernel of a family alike.
//!
//! Read [`Compatibility`] first, next to `compatibility/el7.yaml`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::marks::Node;
use super::problem::nearest;
use super::raw;
use super::sheet::Sheet;
use super::words::{Wrong, file_below, inside, wrong};

/// A change, when it is made, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// What is done.
    pub change: Change,
    /// All of these have to hold.
    pub when: Vec<Condition>,
    /// Why; none for a patch that is always applied, whose file says it.
    pub because: Option<String>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A patch is applied. Absolute path of an existing file.
    Patch(PathBuf),
    /// A file of the tree is copied within it.
    Copy {
        /// The file, relative to the tree.
        from: PathBuf,
        /// Its copy, relative to the tree.
        to: PathBuf,
    },
    /// make is given variables, by name.
    Make(BTreeMap<String, String>),
    /// The compiler is called with these arguments always: they are part of `CC`.
    Flags(Vec<String>),
    /// Configuration symbols, without `CONFIG_`, get values (`n` for off). Fragments may say otherwise.
    Configuration(BTreeMap<String, String>),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A program of the toolchain has such a version; a compiler of the other kind has none.
    Version(Versioned, Vec<Requirement>),
    /// The source has this file.
    Has(PathBuf),
    /// The source doesn't have this file.
    Missing(PathBuf),
    /// The source has this file, and the file holds this text.
    Contains(PathBuf, String),
    /// The source has this file, and the file doesn't hold this text.
    Lacks(PathBuf, String),
}

/// A program of a toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioned {
    /// GCC.
    Gcc,
    /// Clang.
    Clang,
    /// The linker, which stands for binutils.
    Binutils,
    /// make.
    Make,
}

/// A bound of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// This one or a later one.
    AtLeast(Version),
    /// An earlier one.
    Below(Version),
}

/// A version: numbers between dots. What is missing counts as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(Vec<u32>);

impl Version {
    /// Reads `9.3.0`; none for anything else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let number = |part: &str| if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None };
        text.split('.').map(number).collect::<Option<_>>().map(Self)
    }

    /// Whether it is within a bound.
    #[must_use]
    pub fn is(&self, requirement: &Requirement) -> bool {
        match requirement {
            Requirement::AtLeast(other) => self.compare(other).is_ge(),
            Requirement::Below(other) => self.compare(other).is_lt(),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let part = |version: &Self, index: usize| version.0.get(index).copied().unwrap_or(0);
        (0..self.0.len().max(other.0.len()))
            .map(|index| part(self, index).cmp(&part(other, index)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(version) => write!(f, ">={version}"),
            Self::Below(version) => write!(f, "<{version}"),
        }
    }
}

impl Versioned {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcc => "gcc",
            Self::Clang => "clang",
            Self::Binutils => "binutils",
            Self::Make => "make",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(what, bounds) => {
                let bounds: Vec<_> = bounds.iter().map(ToString::to_string).collect();
                write!(f, "{} {}", what.name(), bounds.join(" "))
            }
            Self::Has(path) => write!(f, "has {}", path.display()),
            Self::Missing(path) => write!(f, "has no {}", path.display()),
            Self::Contains(path, text) => write!(f, "{} contains {text:?}", path.display()),
            Self::Lacks(path, text) => write!(f, "{} lacks {text:?}", path.display()),
        }
    }
}

/// The lists of `compatibility/`, by name. A list that is wrong is there with what is right of it: its own file has the report.
pub(super) type Lists = BTreeMap<String, Vec<Compatibility>>;

/// Checks one file of `compatibility/`.
pub(super) fn check(raw: raw::Changes, marks: &Node, sheet: &mut Sheet, patches: &Path) -> Vec<Compatibility> {
    let raw::Changes { name: _, description, changes } = raw;
    sheet.description(description, marks);
    let changes = sheet.required(changes, marks, "changes");
    changes_of(sheet, changes, marks.at("changes"), patches, None)
}

/// Checks a list of changes. A kernel's may refer to `lists`; a list's own may not.
pub(super) fn changes_of(
    sheet: &mut Sheet,
    changes: Option<Vec<raw::Change>>,
    marks: &Node,
    patches: &Path,
    lists: Option<&Lists>,
) -> Vec<Compatibility> {
    let mut checked = Vec::new();
    for (index, raw::Change(change)) in changes.unwrap_or_default().into_iter().enumerate() {
        if sheet.is_full() {
            break;
        }
        let marks = marks.item(index);
        let new: Vec<Compatibility> = match (change, lists) {
            (
                raw::ChangeMap {
                    list: Some(name),
                    patch: None,
                    copy: None,
                    make: None,
                    flags: None,
                    configuration: None,
                    when: None,
                    because: None,
                },
                Some(lists),
            ) => {
                if !lists.contains_key(&name) {
                    let remedy = nearest(&name, lists.keys().map(String::as_str));
                    sheet.say(marks.at("list").place, format!("there is no list `{name}` in `compatibility/`"), remedy);
                }
                lists.get(&name).cloned().unwrap_or_default()
            }
            (change, _) => change_of(sheet, change, marks, patches).into_iter().collect(),
        };
        for change in new {
            if checked.contains(&change) {
                sheet.say(marks.place, "this change is listed twice", "keep one of the two");
            } else {
                checked.push(change);
            }
        }
    }
    checked
}

fn change_of(sheet: &mut Sheet, raw: raw::ChangeMap, marks: &Node, patches: &Path) -> Option<Compatibility> {
    let raw::ChangeMap { list, patch, copy, make, flags, configuration, when, because } = raw;
    let when = when.map_or_else(Vec::new, |when| conditions_of(sheet, when, marks.at("when")));
    let change = match (list, patch, copy, make, flags, configuration) {
        (None, Some(patch), None, None, None, None) => {
            sheet.value(file_below(patches, "patches", &patch), marks.at("patch").place).map(Change::Patch)
        }
        (None, None, Some(raw::CopyOf { from, to }), None, None, None) => {
            let marks = marks.at("copy");
            let mut path = |path: Option<String>, key: &str| {
                let path = sheet.required(path, marks, key)?;
                sheet.value(inside(&path, "the source tree"), marks.at(key).place)
            };
            let (from, to) = (path(from, "from"), path(to, "to"));
            from.zip(to).map(|(from, to)| Change::Copy { from, to })
        }
        (None, None, None, Some(raw::Parameters(variables)), None, None) => {
            pairs(sheet, variables, marks.at("make"), variable).map(Change::Make)
        }
        (None, None, None, None, Some(flags), None) => {
            let flags = sheet.each(Some(flags), marks, "flags", flag);
            (!flags.is_empty()).then_some(Change::Flags(flags))
        }
        (None, None, None, None, None, Some(raw::Parameters(symbols))) => {
            pairs(sheet, symbols, marks.at("configuration"), symbol).map(Change::Configuration)
        }
        _ => {
            if marks.lost.is_empty() {
                let message = "a change is exactly one of `patch`, `copy`, `make`, `flags` and `configuration`";
                sheet.say(
                    marks.place,
                    message,
                    "write one of them; a kernel's may also be a `list` of `compatibility/`, without `when` and `because`",
                );
            }
            None
        }
    }?;
    // A map says why; only a patch's plain file name doesn't, because the file does.
    let is_map = matches!(marks.shape, super::marks::Shape::Map(_));
    let because = if is_map { sheet.required(because, marks, "because") } else { because };
    Some(Compatibility { change, when, because })
}

fn pairs(
    sheet: &mut Sheet,
    pairs: Vec<(String, String)>,
    marks: &Node,
    check: impl Fn(&str, &str) -> Result<(), Wrong>,
) -> Option<BTreeMap<String, String>> {
    for (key, value) in &pairs {
        sheet.value(check(key, value), marks.at(key).place);
    }
    if pairs.is_empty() && marks.lost.is_empty() {
        sheet.say(marks.place, "there is nothing in it", "add a name and its value");
    }
    (!pairs.is_empty()).then(|| pairs.into_iter().collect())
}

fn conditions_of(sheet: &mut Sheet, when: raw::When, marks: &Node) -> Vec<Condition> {
    let raw::When { gcc, clang, binutils, make, has, missing, contains, lacks } = when;
    let mut conditions = Vec::new();
    let versions = [(Versioned::Gcc, gcc), (Versioned::Clang, clang), (Versioned::Binutils, binutils), (Versioned::Make, make)];
    for (what, text) in versions.into_iter().filter_map(|(what, text)| Some((what, text?))) {
        let bounds = sheet.value(requirements(&text), marks.at(what.name()).place);
        conditions.extend(bounds.map(|bounds| Condition::Version(what, bounds)));
    }
    type OfFile = fn(PathBuf) -> Condition;
    let files = [("has", has, Condition::Has as OfFile), ("missing", missing, Condition::Missing)];
    for (key, text, condition) in files.into_iter().filter_map(|(key, text, condition)| Some((key, text?, condition))) {
        conditions.extend(sheet.value(inside(&text, "the source tree"), marks.at(key).place).map(condition));
    }
    type OfText = fn(PathBuf, String) -> Condition;
    let texts = [("contains", contains, Condition::Contains as OfText), ("lacks", lacks, Condition::Lacks)];
    for (key, raw::Text { file, text }, condition) in texts.into_iter().filter_map(|(key, text, condition)| Some((key, text?, condition))) {
        let marks = marks.at(key);
        let file = sheet.required(file, marks, "file");
        let file = file.and_then(|file| sheet.value(inside(&file, "the source tree"), marks.at("file").place));
        let text = sheet.required(text, marks, "text");
        conditions.extend(file.zip(text).map(|(file, text)| condition(file, text)));
    }
    conditions
}

/// `>=9`, `<10`, or both with a space between.
fn requirements(text: &str) -> Result<Vec<Requirement>, Wrong> {
    let one = |word: &str| {
        let at_least = word.strip_prefix(">=").and_then(Version::new).map(Requirement::AtLeast);
        at_least.or_else(|| word.strip_prefix('<').and_then(Version::new).map(Requirement::Below))
    };
    match text.split(' ').map(one).collect::<Option<Vec<_>>>() {
        Some(bounds) => Ok(bounds),
        None => wrong(format!("{text:?} is no condition on a version"), "write `>=9`, `<10.2`, or `>=9 <10`"),
    }
}

/// Variables that hangproof sets itself. The compiler has `flags`.
const OURS: [&str; 2] = ["CC", "HOSTCC"];

fn variable(name: &str, value: &str) -> Result<(), Wrong> {
    if OURS.contains(&name) {
        return wrong(format!("make's `{name}` is set by hangproof itself"), "write `flags:` for arguments of the compiler");
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(fine) {
        return wrong(format!("{name:?} is no variable of make"), "use letters, digits and `_`, and begin with a letter");
    }
    // make expands `$` and runs what comes of it in a shell; a definition's words don't get there.
    plain(value, "value of a variable")
}

fn flag(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('-') || text.contains(' ') {
        return wrong(format!("{text:?} is no flag of a compiler"), "write one word that begins with `-`");
    }
    plain(text, "flag of a compiler").map(|()| text.to_owned())
}

fn plain(text: &str, what: &str) -> Result<(), Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || " -+=,./_:".contains(c);
    if text.chars().all(fine) {
        return Ok(());
    }
    wrong(format!("{text:?} is no {what}"), "use letters, digits, spaces and `- + = , . / _ :`")
}

fn symbol(name: &str, value: &str) -> Result<(), Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with("CONFIG_") || !name.chars().all(fine) {
        return wrong(format!("{name:?} is no configuration symbol"), "write it without `CONFIG_`");
    }
    if value.is_empty() || value.chars().any(char::is_control) {
        return wrong(format!("{value:?} is no value of a configuration symbol"), "write `y`, `n`, a number or a quoted string");
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let version = |text: &str| Version::new(text).unwrap();
        for (bounds, inside, outside) in
            [(">=4.3", "4.3", "4.2.99"), (">=2.31", "2.40", "2.9"), ("<10", "9.3.0", "10.0"), (">=9 <10", "9.5", "10")]
        {
            let bounds = requirements(bounds).unwrap();
            let holds = |text: &str| bounds.iter().all(|bound| version(text).is(bound));
            assert!(holds(inside) && !holds(outside), "{bounds:?}");
        }
        for bad in ["", "4.3", ">4.3", ">=", ">=a", ">=4.", ">=4.3  <5", "==4", ">=-1"] {
            assert!(requirements(bad).is_err(), "{bad}");
        }
    }
}
