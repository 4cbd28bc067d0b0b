//! Files of a package that its spec file runs as programs, and whether they patch.
//!
//! They are never run here, so a script that patches makes another kernel than ours: it is refused. Scripts that reduce a configuration or check one, as
//! EL8's do, are no matter. A program that hides what it does from a reader of its lines isn't found out.
//!
//! Read [`run`] first.

use std::collections::BTreeMap;

use super::shell::{Line, patches, programs};

/// What patches in a program of any language: the words that it hands to a shell.
const TELLING: [&str; 4] = ["patch -p", "git apply", "git am", "quilt push"];

/// The files of `sources` (`SourceN` by N, with its line) that a line runs: by name, or by `%{SOURCEN}`.
pub fn run(line: &Line, sources: &BTreeMap<u32, (String, usize)>) -> Vec<String> {
    let file = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or(word);
        let number = name.trim_matches(['%', '{', '}']).to_ascii_uppercase();
        let number = number.strip_prefix("SOURCE").or_else(|| number.strip_prefix("S:")).and_then(|digits| digits.parse().ok());
        let numbered = number.and_then(|number: u32| sources.get(&number));
        numbered.or_else(|| sources.values().find(|(source, _)| source == name)).map(|(source, _)| source.clone())
    };
    line.commands.iter().flat_map(|words| programs(words)).filter_map(|word| file(word)).collect()
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
