//! The reproducers' shared text: each is one file that is copied to a machine and compiled there, so what they have in common is in all of them, and
//! this test keeps it the same.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const REPRODUCERS: [&str; 4] = ["ext4-oom", "ext4-oom-loop", "ext4-oom-mixed", "ext4-oom-writers"];

/// Functions that several reproducers have, and which of those have the same text. A repair belongs into each of
/// them, and a line changes here only if a function is to differ.
const SHARED: &str = "\
allocate: ext4-oom = ext4-oom-loop
bad_usage: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
bytes: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
complain: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
count: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
fatal_in_process: ext4-oom = ext4-oom-loop = ext4-oom-writers
find_mount: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
has_word: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
is_soft: ext4-oom = ext4-oom-loop = ext4-oom-writers
kill_all: ext4-oom = ext4-oom-mixed = ext4-oom-writers, ext4-oom-loop
main: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
make_cgroup: ext4-oom, ext4-oom-loop, ext4-oom-mixed, ext4-oom-writers
make_cgroups: ext4-oom = ext4-oom-loop = ext4-oom-writers, ext4-oom-mixed
make_files: ext4-oom, ext4-oom-loop, ext4-oom-mixed, ext4-oom-writers
now: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
oom_kills: ext4-oom = ext4-oom-loop = ext4-oom-writers, ext4-oom-mixed
parse: ext4-oom, ext4-oom-loop, ext4-oom-mixed, ext4-oom-writers
put: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
reap: ext4-oom = ext4-oom-writers, ext4-oom-loop, ext4-oom-mixed
remove_cgroups: ext4-oom = ext4-oom-loop = ext4-oom-writers, ext4-oom-mixed
remove_files: ext4-oom = ext4-oom-loop = ext4-oom-writers, ext4-oom-mixed
run: ext4-oom, ext4-oom-loop, ext4-oom-mixed, ext4-oom-writers
run_process: ext4-oom = ext4-oom-loop, ext4-oom-writers
say: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
seconds: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
start_process: ext4-oom = ext4-oom-loop = ext4-oom-writers, ext4-oom-mixed
supervise: ext4-oom = ext4-oom-writers, ext4-oom-loop, ext4-oom-mixed
timespec_of: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
unmount_cgroups: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
usage: ext4-oom, ext4-oom-loop, ext4-oom-mixed, ext4-oom-writers
use_v1: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
use_v2: ext4-oom = ext4-oom-loop = ext4-oom-mixed = ext4-oom-writers
write_one_file: ext4-oom, ext4-oom-loop, ext4-oom-writers
";

/// The functions of a C file in the kernel's style, by name: a definition's braces stand at the beginning of a line, and nothing else's do.
fn functions(name: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("pipelines/{name}/{name}.c"));
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = BTreeMap::new();
    for open in (0..lines.len()).filter(|line| lines[*line] == "{") {
        let before = |line: &&usize| !lines[**line].is_empty() && !lines[**line].ends_with(';') && lines[**line] != "}";
        let start = (0..open).rev().collect::<Vec<_>>().iter().take_while(before).last().copied().unwrap();
        let end = open + lines[open..].iter().position(|line| *line == "}").unwrap();
        let signature = lines[start..open].join(" ");
        let words = signature.split('(').filter_map(|before| before.rsplit([' ', '*']).next());
        let function = words.into_iter().find(|word| !word.is_empty() && !word.starts_with("__attribute__")).unwrap();
        // Messages begin with the program's name.
        let whole = lines[start..=end].join("\n").replace(&format!("\"{name}: "), "\"NAME: ");
        assert!(functions.insert(function.to_owned(), whole).is_none(), "{name}: {function} is there twice");
    }
    functions
}

#[test]
fn functions_of_several_reproducers_are_kept_in_step() {
    let mut by_function: BTreeMap<String, Vec<(String, Vec<&str>)>> = BTreeMap::new();
    for name in REPRODUCERS {
        for (function, text) in functions(name) {
            let versions = by_function.entry(function).or_default();
            match versions.iter_mut().find(|(other, _)| *other == text) {
                Some((_, names)) => names.push(name),
                None => versions.push((text, vec![name])),
            }
        }
    }
    let mut found = String::new();
    for (function, versions) in &by_function {
        if versions.iter().map(|(_, names)| names.len()).sum::<usize>() > 1 {
            let groups: Vec<String> = versions.iter().map(|(_, names)| names.join(" = ")).collect();
            found += &format!("{function}: {}\n", groups.join(", "));
        }
    }
    assert!(by_function.len() > 20, "it finds the functions");
    assert_eq!(found, SHARED, "a function of several reproducers differs from what it was: make the same change in each");
}
