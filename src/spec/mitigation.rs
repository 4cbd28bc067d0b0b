//! From `mitigations:` and `expect:` of a pipeline to [`Mitigation`]s: a program beside the reproducer as a dimension of the scoreboard.
//!
//! It doesn't look whether a program is on this machine: definitions are the same everywhere, and a run says it.
//!
//! Read [`Mitigation`] first, then [`check`] and [`expectations`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::marks::Node;
use super::problem::nearest;
use super::sheet::Sheet;
use super::words::{Wrong, absolute, wrong};
use super::{Expected, Name};

/// What runs in the guest beside the reproducer, outside its memory cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mitigation {
    /// Its name; `none` is nothing at all.
    pub name: Name,
    /// The host's program that is copied in with its libraries, an absolute path; none for `none`.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is expected of a kernel with it, by kernel; a kernel that isn't in here has no expectation.
    pub expected: BTreeMap<Name, Expected>,
}

/// How a definition names the absence of a mitigation.
const NONE: &str = "none";

/// An item of `mitigations:`, as it is written.
#[derive(Debug)]
pub(super) enum RawMitigation {
    None,
    Program(RawProgram),
}

/// An item of `mitigations:` that is a map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `name`, `program` and `arguments`")]
pub(super) struct RawProgram {
    pub name: Option<String>,
    pub program: Option<String>,
    pub arguments: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for RawMitigation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneOrProgram;
        impl<'de> Visitor<'de> for NoneOrProgram {
            type Value = RawMitigation;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, or a map of `name`, `program` and `arguments`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawMitigation, E> {
                if text == NONE { Ok(RawMitigation::None) } else { Err(E::unknown_variant(text, &[NONE])) }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawMitigation, A::Error> {
                RawProgram::deserialize(MapAccessDeserializer::new(map)).map(RawMitigation::Program)
            }
        }
        deserializer.deserialize_any(NoneOrProgram)
    }
}

/// `expect:`, as it is written: a word for the kernel as it is, or one for each mitigation.
#[derive(Debug)]
pub(super) enum RawExpect {
    Word(Expected),
    Each(Vec<(String, Expected)>),
}

impl<'de> Deserialize<'de> for RawExpect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = RawExpect;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word, or a map such as `{none: hang, earlyoom: pass}`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawExpect, E> {
                Expected::deserialize(StrDeserializer::new(text)).map(RawExpect::Word)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawExpect, A::Error> {
                let mut each = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    each.push(entry);
                }
                Ok(RawExpect::Each(each))
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

/// Checks `mitigations:`. Nothing for a pipeline without that dimension.
pub(super) fn check(sheet: &mut Sheet, raw: Option<Vec<RawMitigation>>, marks: &Node) -> Vec<Mitigation> {
    let Some(items) = raw else { return Vec::new() };
    let marks = marks.at("mitigations");
    if items.is_empty() && marks.lost.is_empty() {
        sheet.say(marks.place, "a list of no mitigations leaves nothing to run", "list `none` and a program, or remove `mitigations`");
    }
    let mut checked: Vec<Mitigation> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let marks = marks.item(index);
        let (written, place) = match &item {
            RawMitigation::None => (Some(NONE.to_owned()), marks.place),
            RawMitigation::Program(raw) => (sheet.required(raw.name.clone(), marks, "name"), marks.at("name").place),
        };
        let name = written.and_then(|text| sheet.value(name_of(&text, matches!(item, RawMitigation::None)), place));
        let (program, arguments) = match item {
            RawMitigation::None => (None, Vec::new()),
            RawMitigation::Program(raw) => {
                let program = sheet.required(raw.program, marks, "program");
                let program = program.and_then(|program| sheet.value(absolute(&program), marks.at("program").place));
                let arguments = sheet.each(raw.arguments, marks, "arguments", argument);
                let Some(program) = program else { continue };
                (Some(program), arguments)
            }
        };
        let Some(name) = name else { continue };
        if checked.iter().any(|earlier| earlier.name == name) {
            sheet.say(place, format!("the mitigation `{name}` is listed twice"), "keep one of the two, or give it another name");
            continue;
        }
        checked.push(Mitigation { name, program, arguments, expected: BTreeMap::new() });
    }
    checked
}

fn name_of(text: &str, is_none: bool) -> Result<Name, Wrong> {
    if text == NONE && !is_none {
        return wrong("`none` is the name of running nothing beside the reproducer", "choose another name, or write the item `none`");
    }
    Name::new(text).or_else(|_| {
        wrong(format!("{text:?} is not a name"), "use up to 64 of a-z, 0-9, `.`, `_` and `-`, and begin with a letter or digit")
    })
}

fn argument(text: &str) -> Result<String, Wrong> {
    if text.chars().any(char::is_control) {
        return wrong("an argument holds a control character", "write it on one line");
    }
    Ok(text.to_owned())
}

/// Notes a kernel's expectations with the mitigations, and returns the one without.
pub(super) fn expectations(
    sheet: &mut Sheet,
    kernel: &Name,
    expect: Option<RawExpect>,
    marks: &Node,
    mitigations: &mut [Mitigation],
) -> Option<Expected> {
    let names = || mitigations.iter().map(|mitigation| mitigation.name.as_str());
    match expect? {
        RawExpect::Word(_) if !mitigations.is_empty() && names().all(|name| name != NONE) => {
            let message = "the expectation is for the kernel without a mitigation, which isn't run";
            sheet.say(marks.place, message, "name the mitigation, as in `{earlyoom: pass}`, or list `none` in `mitigations`");
            None
        }
        RawExpect::Word(expected) => Some(expected),
        RawExpect::Each(each) => {
            let mut alone = None;
            for (name, expected) in each {
                if name == NONE && (mitigations.is_empty() || mitigations.iter().any(|mitigation| mitigation.name.as_str() == NONE)) {
                    alone = Some(expected);
                } else if let Some(mitigation) = mitigations.iter_mut().find(|mitigation| mitigation.name.as_str() == name) {
                    mitigation.expected.insert(kernel.clone(), expected);
                } else {
                    let known = mitigations.iter().map(|mitigation| mitigation.name.as_str());
                    let remedy = if mitigations.is_empty() { "list it in `mitigations`".to_owned() } else { nearest(&name, known) };
                    sheet.say(marks.key(&name), format!("there is no mitigation `{name}`"), remedy);
                }
            }
            alone
        }
    }
}
