//! Files of a package that its spec file runs as programs, and whether they patch; and what else of its lines changes the tree.
//!
//! They are never run here, so a script that patches makes another kernel than ours: it is refused. Scripts that reduce a configuration or check one, as
//! EL8's do, are no matter. A program that hides what it does from a reader of its lines isn't found out.
//!
//! Read [`run`] first.

use std::collections::BTreeMap;

use super::shell::{Line, patches, program as name, programs};

/// What patches in a program of any language: the words that it hands to a shell.
const TELLING: [&str; 4] = ["patch -p", "git apply", "git am", "quilt push"];

/// The files of `sources` and `patches` (`SourceN` and `PatchN` by N, with its line) that a line runs: by name, or by `%{SOURCEN}`.
pub fn run(line: &Line, sources: &BTreeMap<u32, (String, usize)>, patches: &BTreeMap<u32, (String, usize)>) -> Vec<String> {
    line.commands
        .iter()
        .flat_map(|words| programs(words).map(|place| &words[place]))
        .filter_map(|word| source(word, sources).or_else(|| named(word, patches)))
        .collect()
}

/// The one of these files that a word names.
fn named(word: &str, files: &BTreeMap<u32, (String, usize)>) -> Option<String> {
    let name = word.rsplit('/').next().unwrap_or(word);
    files.values().find(|(file, _)| file == name).map(|(file, _)| file.clone())
}

/// The source that a word names, or gives the number of.
fn source(word: &str, sources: &BTreeMap<u32, (String, usize)>) -> Option<String> {
    let number = word.trim_matches(['%', '{', '}']).to_ascii_uppercase();
    let number = number.strip_prefix("SOURCE").or_else(|| number.strip_prefix("S:")).and_then(|digits| digits.parse().ok());
    number.and_then(|number: u32| sources.get(&number)).map(|(source, _)| source.clone()).or_else(|| named(word, sources))
}

/// Programs that change the file that they are given.
const EDITORS: [&str; 3] = ["ed", "ex", "dos2unix"];
/// Those that do with an option.
const IN_PLACE: [&str; 2] = ["sed", "perl"];
/// Those that write what they are given somewhere else.
const COPIERS: [&str; 6] = ["cp", "mv", "install", "tar", "unzip", "ln"];

/// Whether a line seems to change the tree: by an editor, or by a file of the package that it puts there. Configurations don't count, which are taken
/// from the package in another way.
pub fn edits(line: &Line, sources: &BTreeMap<u32, (String, usize)>) -> bool {
    let edits = |words: &Vec<String>| programs(words).any(|place| command_edits(&name(&words[place]), &words[place + 1..], sources));
    line.commands.iter().any(edits)
}

fn command_edits(program: &str, arguments: &[String], sources: &BTreeMap<u32, (String, usize)>) -> bool {
    let is_configuration = |word: &String| word.ends_with(".config") || word == ".";
    let targets = || arguments.iter().filter(|word| !word.starts_with('-'));
    let in_place =
        || arguments.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('i') || word == "--in-place");
    let from_package =
        || targets().any(|word| word.contains("RPM_SOURCE_DIR") || word.contains("_sourcedir") || source(word, sources).is_some());
    EDITORS.contains(&program)
        || IN_PLACE.contains(&program) && in_place() && !targets().next_back().is_some_and(is_configuration)
        || COPIERS.contains(&program) && from_package() && !targets().all(is_configuration)
}

/// The line of a program's text, from 1, that patches.
pub fn patching(text: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(text);
    let is_shell = text.lines().next().is_some_and(|first| first.starts_with("#!") && first.contains("sh")) || !text.starts_with("#!");
    (1..).zip(text.lines()).find_map(|(number, line)| {
        let line = line.trim();
        let tells = || TELLING.iter().any(|words| line.contains(words));
        (!line.starts_with('#') && (is_shell && patches(line, true) || tells())).then_some(number)
    })
}
