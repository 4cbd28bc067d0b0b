//! The YAML of a definition, as it is written: the only place that names serde_yaml.
//!
//! Every key is optional here and every value a plain one, so that one wrong key doesn't hide the others: [`parse`] takes out what serde rejects,
//! notes where it was, and tries again. What is missing, dangling or impossible is for the modules that turn these structs into `spec`'s types.
//!
//! Read [`Kernel`] first, next to `kernels/debian-6.1.yaml`.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_path_to_error::{Path, Segment};
use serde_yaml::Value;

use super::marks::{self, Finding, MOST_FINDINGS, Node, Place, Shape, Step, Unreadable};
use super::mitigation::{RawExpect, RawMitigation};
use super::problem::nearest;
use super::{CgroupChoice, Layout, Modules};

/// `kernels/NAME.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a map of keys")]
pub(super) struct Kernel {
    pub name: Option<String>,
    pub description: Option<String>,
    pub extends: Option<String>,
    pub source: Option<Source>,
    pub toolchain: Option<Toolchain>,
    pub configuration: Option<Configuration>,
    pub compatibility: Option<Vec<Change>>,
    pub patches: Option<Vec<String>>,
    pub boot_arguments: Option<Vec<String>>,
}

/// `source:`, one of its keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a map such as `debian: {package: linux-source-6.1}`")]
pub(super) struct Source {
    pub debian: Option<Debian>,
    pub tarball: Option<Tarball>,
    pub git: Option<Git>,
    pub directory: Option<Directory>,
    pub prebuilt: Option<Prebuilt>,
    pub srpm: Option<Srpm>,
}

/// `source: debian:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `package` and `version`")]
pub(super) struct Debian {
    pub package: Option<String>,
    pub version: Option<String>,
}

/// `source: tarball:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `path` or `url`, and `sha256`")]
pub(super) struct Tarball {
    pub path: Option<String>,
    pub url: Option<String>,
    pub sha256: Option<String>,
}

/// `source: git:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `repository` and `revision`")]
pub(super) struct Git {
    pub repository: Option<String>,
    pub revision: Option<String>,
}

/// `source: directory:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `path`")]
pub(super) struct Directory {
    pub path: Option<String>,
}

/// `source: srpm:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `file`, `path`, `sha256`, `tarball` and `key`")]
pub(super) struct Srpm {
    pub file: Option<String>,
    pub path: Option<String>,
    pub sha256: Option<String>,
    pub tarball: Option<SrpmTarball>,
    pub key: Option<String>,
}

/// `source: srpm: tarball:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `name`, and `sha1` or `sha256`")]
pub(super) struct SrpmTarball {
    pub name: Option<String>,
    pub sha1: Option<String>,
    pub sha256: Option<String>,
}

/// `source: prebuilt:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `debian` (and `version`), `package` or `url`, and `sha256`, or `packages`")]
pub(super) struct Prebuilt {
    pub debian: Option<String>,
    pub version: Option<String>,
    pub package: Option<String>,
    pub url: Option<String>,
    pub sha256: Option<String>,
    pub packages: Option<Vec<PackageFile>>,
}

/// An item of `packages:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `package` or `url`, and `sha256`")]
pub(super) struct PackageFile {
    pub package: Option<String>,
    pub url: Option<String>,
    pub sha256: Option<String>,
}

/// `toolchain:`, one of its keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map such as `host: {compiler: gcc}`")]
pub(super) struct Toolchain {
    pub host: Option<Host>,
    pub debian: Option<Buildroot>,
    pub container: Option<Container>,
}

/// `toolchain: host:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `compiler`")]
pub(super) struct Host {
    pub compiler: Option<String>,
}

/// `toolchain: debian:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `suite`, `compiler` and `packages`")]
pub(super) struct Buildroot {
    pub suite: Option<String>,
    pub compiler: Option<String>,
    pub packages: Option<Vec<String>>,
}

/// `toolchain: container:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `image` and `compiler`")]
pub(super) struct Container {
    pub image: Option<String>,
    pub compiler: Option<String>,
}

/// `compatibility/NAME.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
pub(super) struct Changes {
    pub name: Option<String>,
    pub description: Option<String>,
    pub changes: Option<Vec<Change>>,
}

/// An item of `compatibility:` or `changes:`: a map, or a word for a patch that is always applied.
#[derive(Debug)]
pub(super) struct Change(pub ChangeMap);

/// A change, exactly one of the first six keys, and its conditions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a patch's file name, or a map such as `patch: x.patch`")]
pub(super) struct ChangeMap {
    pub list: Option<String>,
    pub patch: Option<String>,
    pub copy: Option<CopyOf>,
    pub make: Option<Parameters>,
    pub flags: Option<Vec<String>>,
    pub configuration: Option<Parameters>,
    pub when: Option<When>,
    pub because: Option<String>,
}

/// `copy:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `from` and `to`")]
pub(super) struct CopyOf {
    pub from: Option<String>,
    pub to: Option<String>,
}

/// `when:`; all that is there has to hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map such as `make: \">=4.3\"`")]
pub(super) struct When {
    pub gcc: Option<String>,
    pub clang: Option<String>,
    pub binutils: Option<String>,
    pub make: Option<String>,
    pub has: Option<String>,
    pub missing: Option<String>,
    pub contains: Option<Text>,
    pub lacks: Option<Text>,
}

/// `contains:` and `lacks:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `file` and `text`")]
pub(super) struct Text {
    pub file: Option<String>,
    pub text: Option<String>,
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = Change;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a map")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Change, E> {
                Ok(Change(ChangeMap { patch: Some(text.to_owned()), ..ChangeMap::default() }))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Change, A::Error> {
                ChangeMap::deserialize(MapAccessDeserializer::new(map)).map(Change)
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

/// `configuration:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `base`, `modules` and `fragments`")]
pub(super) struct Configuration {
    #[serde(default, with = "serde_yaml::with::singleton_map")]
    pub base: Option<ConfigurationBase>,
    pub modules: Option<Modules>,
    pub fragments: Option<Vec<String>>,
}

/// `configuration: base:`, a word or a word with a path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ConfigurationBase {
    Defconfig,
    Allnoconfig,
    File(String),
    Vendor(String),
}

/// `images/NAME.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of keys")]
pub(super) struct Image {
    pub name: Option<String>,
    pub description: Option<String>,
    pub layout: Option<Layout>,
    pub size: Option<Word>,
    pub features: Option<Vec<String>>,
    pub programs: Option<Vec<String>>,
}

/// `pipelines/NAME/pipeline.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a map of keys")]
pub(super) struct Pipeline {
    pub name: Option<String>,
    pub description: Option<String>,
    pub kernels: Option<Vec<Arm>>,
    pub mitigations: Option<Vec<RawMitigation>>,
    pub image: Option<String>,
    pub machine: Option<Machine>,
    pub boot_arguments: Option<Vec<String>>,
    pub cgroup: Option<CgroupChoice>,
    pub reproducer: Option<Reproducer>,
    pub limits: Option<Limits>,
    pub trigger: Option<Trigger>,
    pub hang: Option<Hang>,
    pub proof: Option<Proof>,
    pub repeats: Option<u32>,
}

/// An item of `kernels:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map such as `kernel: debian-6.1`")]
pub(super) struct Arm {
    pub kernel: Option<String>,
    pub expect: Option<RawExpect>,
}

/// `machine:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `cpus` and `memory`")]
pub(super) struct Machine {
    pub cpus: Option<u32>,
    pub memory: Option<Word>,
}

/// `reproducer:`; either `c` or `file`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `c` or `file`, `parameters` and `adds`")]
pub(super) struct Reproducer {
    pub c: Option<String>,
    pub file: Option<String>,
    pub parameters: Option<Parameters>,
    pub adds: Option<Vec<String>>,
}

/// `limits:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `duration`, `boot`, `stall` and `silence`")]
pub(super) struct Limits {
    pub duration: Option<Word>,
    pub boot: Option<Word>,
    pub stall: Option<Word>,
    pub silence: Option<Word>,
}

/// `proof:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `duration`")]
pub(super) struct Proof {
    pub duration: Option<Word>,
}

/// `trigger:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a map of `oom-kills` and `commits`")]
pub(super) struct Trigger {
    pub oom_kills: Option<u64>,
    pub commits: Option<u64>,
}

/// `hang:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map of `signature`")]
pub(super) struct Hang {
    pub signature: Option<Vec<StuckTask>>,
}

/// An item of `hang: signature:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a map such as `in: jbd2_log_wait_commit`")]
pub(super) struct StuckTask {
    pub task: Option<String>,
    #[serde(rename = "in")]
    pub function: Option<String>,
}

/// `parameters:`, in the file's order.
#[derive(Debug, Default)]
pub(super) struct Parameters(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Parameters;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map such as `processes: 2`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
                let mut parameters = Vec::new();
                while let Some((key, Word(value))) = map.next_entry()? {
                    parameters.push((key, value));
                }
                Ok(Parameters(parameters))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A string or a whole number, as it is written. Not a fraction, whose text (`0.10`) serde_yaml doesn't keep. Sizes and durations are words so that
/// one without a unit is told about units, and not about quotes.
#[derive(Debug)]
pub(super) struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsWritten;
        impl Visitor<'_> for AsWritten {
            type Value = Word;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a whole number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(AsWritten)
    }
}

/// A file's structs, where everything is, and what serde rejected on the way.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub raw: T,
    pub marks: Node,
    pub findings: Vec<Finding>,
}

/// Reads a file's text.
///
/// # Errors
/// Everything that is wrong with it, when that leaves nothing to go on with.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<Parsed<T>, Vec<Finding>> {
    let marks = marks::read(text).map_err(|unreadable| match unreadable {
        Unreadable::Refused(findings) => findings,
        Unreadable::Syntax(finding) => vec![syntax(text).unwrap_or(finding)],
    })?;
    let mut value: Value = serde_yaml::from_str(text).map_err(|_| syntax(text).into_iter().collect::<Vec<_>>())?;
    let Some(mut marks @ Node { shape: Shape::Map(_), .. }) = marks else {
        return Err(vec![finding(Place::START, "a definition is a map of keys", "begin with `name:`")]);
    };
    let mut findings = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(raw) => return Ok(Parsed { raw, marks, findings }),
            Err(error) => error,
        };
        let path = steps(error.path());
        let taken = marks.take(&path).filter(|_| take(&mut value, &path));
        let message = error.into_inner().to_string();
        match taken {
            Some((key, place)) => findings.push(explain(&message, key, place)),
            None => findings.push(explain(&message, marks.deepest(&path), marks.deepest(&path))),
        }
        if taken.is_none() || findings.len() >= MOST_FINDINGS {
            return Err(findings);
        }
    }
}

fn finding(place: Place, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { place, message: message.into(), remedy: remedy.into() }
}

/// serde_yaml's word on malformed YAML, if it agrees that it is.
fn syntax(text: &str) -> Option<Finding> {
    let error = serde_yaml::from_str::<Value>(text).err()?;
    let place = error.location().map_or(Place::START, |location| Place {
        line: location.line(),
        column: location.column(),
        offset: location.index().min(text.len()),
        length: 0,
    });
    // The place is reported apart from the message; serde_yaml puts it into the message as well.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    // A value of YAML that serde_yaml's own type for one can't hold.
    if message.contains("as u128") || message.contains("as i128") {
        return Some(finding(place, "the number is too large", "write a smaller one"));
    }
    let remedy = if message.contains("anchor") { "write the value out: an alias is not accepted" } else { marks::SYNTAX_REMEDY };
    Some(finding(place, format!("malformed YAML: {message}"), remedy))
}

fn steps(path: &Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        // A word where serde expects a word with a value, or the other way round: the whole value is wrong.
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map_while(step).collect()
}

/// Takes out of the values what [`Node::take`] took out of the marks.
fn take(value: &mut Value, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let parent = parents.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key.as_str()),
        Step::Item(index) => value.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Mapping(map)), Step::Key(key)) => map.shift_remove(key.as_str()).is_some(),
        (Some(Value::Sequence(items)), Step::Item(index)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

/// Turns serde's words into ours. Their form is serde's own (`serde::de::Error`), and the snapshots in `tests/definitions` hold it fast.
fn explain(message: &str, key: Place, value: Place) -> Finding {
    let unknown = |rest: &str| {
        let mut words = rest.split('`').skip(1).step_by(2);
        let word = words.next().unwrap_or_default().to_owned();
        let remedy = nearest(&word, words);
        (word, remedy)
    };
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (word, remedy) = unknown(rest);
        return finding(key, format!("unknown key `{word}`"), remedy);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (word, remedy) = unknown(rest);
        return finding(value, format!("`{word}` is not known here"), remedy);
    }
    let mismatch = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = mismatch.and_then(|rest| rest.rsplit_once(", expected ")) {
        if ["integer", "floating"].iter().any(|kind| found.starts_with(kind))
            && let Some(most) = most(expected)
        {
            return finding(value, format!("expected a whole number, found {}", plain(found)), format!("write one from 0 to {most}"));
        }
        let expected = plain(expected);
        let quotable = ["integer", "floating", "boolean"].iter().any(|kind| found.starts_with(kind));
        let remedy = if quotable && expected.contains("string") { "put it in quotes".to_owned() } else { format!("write {expected}") };
        return finding(value, format!("expected {expected}, found {}", plain(found)), remedy);
    }
    finding(value, message, "see the definitions that hangproof ships for examples")
}

/// The largest number of a type that has no negative ones.
fn most(words: &str) -> Option<u64> {
    match words {
        "u32" => Some(u64::from(u32::MAX)),
        "u64" => Some(u64::MAX),
        _ => None,
    }
}

/// serde's words for types, in the words of someone who writes YAML.
fn plain(words: &str) -> String {
    match words {
        "u32" | "u64" => return "a whole number".to_owned(),
        "sequence" | "a sequence" => return "a list".to_owned(),
        "map" => return "a map".to_owned(),
        // serde_yaml's own words for an enum.
        "a Value::Tagged enum" => return "a word".to_owned(),
        "string or singleton map" | "map with a single key" | "enum ConfigurationBase" => return "a word, or a map of one key".to_owned(),
        "unit value" => return "nothing".to_owned(),
        _ => {}
    }
    let renamed =
        [("floating point ", "the number "), ("integer ", "the number "), ("boolean ", "the truth value "), ("string ", "the string ")];
    let found = renamed.iter().find_map(|(serdes, ours)| words.strip_prefix(serdes).map(|rest| format!("{ours}{rest}")));
    found.unwrap_or_else(|| words.to_owned())
}
