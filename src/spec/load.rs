//! Reads a folder of definitions, and finds that folder.
//!
//! Files are read in the order of their names and all of them are read to the end, so that one invocation reports everything. What a definition
//! may say is the business of the modules for kernels, images and pipelines; this one knows files, names, and who refers to whom.
//!
//! Read [`load`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::marks::{Node, Place};
use super::pipeline::Known;
use super::problem::{Problem, Problems};
use super::sheet::Sheet;
use super::{Definitions, Name, compatibility, image, kernel, pipeline, raw};

/// Reads `compatibility/*.yaml`, `kernels/*.yaml`, `images/*.yaml` and `pipelines/*/pipeline.yaml` below `root`.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn load(root: &Path) -> Result<Definitions, Problems> {
    let (definitions, problems) = read(root);
    if problems.is_empty() { Ok(definitions) } else { Err(Problems(problems)) }
}

/// As [`load`], for somebody who needs one pipeline or none. The others' files are in nobody's way: those that are wrong are left out, and what is wrong with them is
/// said apart.
///
/// # Errors
/// Everything that is wrong with any other file.
pub fn load_for(root: &Path, pipeline: Option<&Name>) -> Result<(Definitions, Vec<Problem>), Problems> {
    let (mut definitions, problems) = read(root);
    let others = |problem: &Problem| {
        let mut below = problem.file.components().map(|component| component.as_os_str());
        below.next().is_some_and(|first| first == "pipelines")
            && below.next().is_some_and(|name| pipeline.is_none_or(|pipeline| name != pipeline.as_str()))
    };
    let (others, needed): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(others);
    if !needed.is_empty() {
        return Err(Problems(needed));
    }
    let wrong: BTreeSet<PathBuf> = others.iter().map(|problem| definitions.root.join(&problem.file)).collect();
    definitions.pipelines.retain(|_, pipeline| !wrong.contains(&pipeline.defined_in));
    Ok((definitions, others))
}

/// What can be read, and everything that is wrong.
fn read(root: &Path) -> (Definitions, Vec<Problem>) {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let mut problems = Vec::new();
    if !is_root(&root) {
        let remedy = "name a folder that holds `kernels/` and `pipelines/`";
        problems.push(without_line(PathBuf::from(&root), "is no folder of definitions", remedy));
        return (Definitions::default(), problems);
    }
    let mut sheets = Vec::new();
    let changes = read_all::<raw::Changes>(&root, files_in(&root, "compatibility", &mut problems), "list", &mut sheets);
    let kernels = read_all::<raw::Kernel>(&root, files_in(&root, "kernels", &mut problems), "kernel", &mut sheets);
    let images = read_all::<raw::Image>(&root, files_in(&root, "images", &mut problems), "image", &mut sheets);
    let files = pipeline_files(&root, &mut problems);
    let pipelines = read_all::<raw::Pipeline>(&root, files, "pipeline", &mut sheets);

    let known = Known { kernels: kernels.known, images: images.known };
    let mut lists: compatibility::Lists = changes.known.into_iter().map(|name| (name, Vec::new())).collect();
    for Read { name, raw, marks, sheet } in changes.read {
        let Some(sheet) = sheets.get_mut(sheet) else { continue };
        let list = compatibility::check(raw, &marks, sheet, &root.join("patches"));
        lists.extend(name.map(|name| (name.to_string(), list)));
    }
    let mut drafts = BTreeMap::new();
    for Read { name, raw, marks, sheet } in kernels.read {
        let Some(its) = sheets.get_mut(sheet) else { continue };
        if let Some(draft) = kernel::check(raw, &marks, its, name, &root, &known.kernels, &lists) {
            drafts.insert(draft.name.clone(), (draft, sheet));
        }
    }
    let kernels = kernel::join(&drafts, &mut sheets);
    let mut definitions = Definitions { root, kernels, ..Definitions::default() };
    for Read { name, raw, marks, sheet } in images.read {
        let Some(sheet) = sheets.get_mut(sheet) else { continue };
        let image = image::check(raw, &marks, sheet, name);
        definitions.images.extend(image.map(|image| (image.name.clone(), image)));
    }
    for Read { name, raw, marks, sheet } in pipelines.read {
        let Some(sheet) = sheets.get_mut(sheet) else { continue };
        let pipeline = pipeline::check(raw, &marks, sheet, name, &known);
        definitions.pipelines.extend(pipeline.map(|pipeline| (pipeline.name.clone(), pipeline)));
    }
    for sheet in sheets {
        let path = sheet.path.clone();
        let (its, absent) = sheet.problems();
        problems.extend(its);
        if !absent.is_empty() {
            definitions.absent.insert(path, absent);
        }
    }
    problems.sort_by_cached_key(Problem::order);
    (definitions, problems)
}

/// Names the folder of definitions instead of looking for it.
const VARIABLE: &str = "HANGPROOF_DEFINITIONS";

/// There is no folder of definitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoot {
    /// Neither the folder nor one above it is one.
    #[error("no folder of definitions at or above {}: change into one that holds `kernels/` and `pipelines/`, or set {VARIABLE}", .0.display())]
    NotFound(PathBuf),
    /// The environment names one that isn't.
    #[error("{VARIABLE} names {}, which is no folder of definitions: name one that holds `kernels/` and `pipelines/`", .0.display())]
    Named(PathBuf),
}

impl Definitions {
    /// Whether this machine has the programs that these files name for their guests: to be asked before anything is built for them.
    ///
    /// # Errors
    /// With each program that isn't there.
    pub fn present<'a>(&self, files: impl IntoIterator<Item = &'a Path>) -> Result<(), Problems> {
        let absent: Vec<Problem> = files.into_iter().filter_map(|file| self.absent.get(file)).flatten().cloned().collect();
        if absent.is_empty() { Ok(()) } else { Err(Problems(absent)) }
    }

    /// The folder that the environment names, or else the first one at or above `start` that holds `kernels/` and `pipelines/`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find_root(start: &Path) -> Result<PathBuf, NoRoot> {
        find_root(start, std::env::var_os(VARIABLE))
    }
}

fn find_root(start: &Path, named: Option<OsString>) -> Result<PathBuf, NoRoot> {
    let start = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let named = start.join(named);
        return if is_root(&named) { Ok(named) } else { Err(NoRoot::Named(named)) };
    }
    start.ancestors().find(|folder| is_root(folder)).map(Path::to_owned).ok_or(NoRoot::NotFound(start))
}

fn is_root(folder: &Path) -> bool {
    ["kernels", "pipelines"].iter().all(|below| folder.join(below).is_dir())
}

fn without_line(file: PathBuf, message: impl Into<String>, remedy: &str) -> Problem {
    Problem { file, line: 0, column: 0, message: message.into(), remedy: remedy.to_owned(), source: None }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Written so, a definition would be passed over without a word.
fn is_nearly_yaml(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    !is_yaml(path) && (extension == "yaml" || extension == "yml")
}

/// Each file with the name that its definition has to have.
fn files_in(root: &Path, folder: &str, problems: &mut Vec<Problem>) -> Vec<(String, PathBuf)> {
    let entries = entries(&root.join(folder));
    for path in entries.iter().filter(|path| is_nearly_yaml(path)) {
        let shown = path.strip_prefix(root).unwrap_or(path).to_owned();
        problems.push(without_line(shown, "is not read, because of its ending", "let it end in `.yaml`"));
    }
    let files = entries.into_iter().filter(|path| is_yaml(path));
    files.map(|path| (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path)).collect()
}

fn pipeline_files(root: &Path, problems: &mut Vec<Problem>) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for folder in entries(&root.join("pipelines")).into_iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_folder: Vec<PathBuf> =
            ["pipeline.yaml", "pipeline.yml"].map(|file| folder.join(file)).into_iter().filter(|path| path.exists()).collect();
        if of_folder.is_empty() {
            let shown = folder.strip_prefix(root).unwrap_or(&folder).to_owned();
            problems.push(without_line(shown, "there is no `pipeline.yaml` in it", "add one or move the folder"));
        }
        files.extend(of_folder.into_iter().map(|path| (name.clone(), path)));
    }
    files
}

/// A file that could be parsed.
struct Read<T> {
    /// Absent if it is wrong, or another file has it.
    name: Option<Name>,
    raw: T,
    marks: Node,
    /// Number of its sheet.
    sheet: usize,
}

/// The files of one kind, and the names that the others may use.
struct Kind<T> {
    read: Vec<Read<T>>,
    known: BTreeSet<String>,
}

/// A definition that has a name.
trait Named: DeserializeOwned {
    fn name(&mut self) -> Option<String>;
}

impl Named for raw::Kernel {
    fn name(&mut self) -> Option<String> {
        self.name.take()
    }
}

impl Named for raw::Changes {
    fn name(&mut self) -> Option<String> {
        self.name.take()
    }
}

impl Named for raw::Image {
    fn name(&mut self) -> Option<String> {
        self.name.take()
    }
}

impl Named for raw::Pipeline {
    fn name(&mut self) -> Option<String> {
        self.name.take()
    }
}

/// Parses files of one kind. A file that can't be parsed still makes its name known: those that refer to it aren't wrong.
fn read_all<T: Named>(root: &Path, files: Vec<(String, PathBuf)>, what: &str, sheets: &mut Vec<Sheet>) -> Kind<T> {
    let mut known: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let mut read = Vec::new();
    let mut claims = Vec::new();
    for (wanted, path) in files {
        let mut sheet = Sheet::open(root, path);
        match raw::parse::<T>(&sheet.text) {
            _ if !sheet.is_readable() => {}
            Err(findings) => sheet.extend(findings),
            Ok(raw::Parsed { mut raw, marks, findings }) => {
                sheet.extend(findings);
                if let Some(text) = sheet.required(raw.name(), &marks, "name") {
                    claims.push(Claim { text, wanted, place: marks.at("name").place, read: read.len(), sheet: sheets.len() });
                }
                read.push(Read { name: None, raw, marks, sheet: sheets.len() });
            }
        }
        sheets.push(sheet);
    }
    // The file that is called after the name has the first claim on it, wherever it comes in the alphabet.
    claims.sort_by_key(|claim| claim.text != claim.wanted);
    let mut owners = BTreeMap::new();
    for claim in &claims {
        let (Some(sheet), Some(read)) = (sheets.get_mut(claim.sheet), read.get_mut(claim.read)) else { continue };
        read.name = name_of(claim, what, sheet, &mut owners);
        known.extend(read.name.iter().map(Name::to_string));
    }
    Kind { read, known }
}

/// A file's claim on a name.
struct Claim {
    text: String,
    /// What the file's or folder's name says.
    wanted: String,
    place: Place,
    read: usize,
    sheet: usize,
}

/// Checks a name: its form, that no other file has it, that the file is called after it.
fn name_of(claim: &Claim, what: &str, sheet: &mut Sheet, owners: &mut BTreeMap<Name, PathBuf>) -> Option<Name> {
    let Claim { text, wanted, place, .. } = claim;
    let Ok(name) = Name::new(text) else {
        sheet.say(
            *place,
            format!("{text:?} is not a name"),
            "use up to 64 of a-z, 0-9, `.`, `_` and `-`, and begin with a letter or digit",
        );
        return None;
    };
    if let Some(owner) = owners.get(&name) {
        let remedy = "rename it or remove one of the two files";
        sheet.say(*place, format!("the {what} `{name}` is defined in {} already", owner.display()), remedy);
        return None;
    }
    owners.insert(name.clone(), sheet.shown.clone());
    if text != wanted {
        let remedy = format!("write `name: {wanted}`, or rename the file or folder");
        sheet.say(*place, format!("the {what} is called `{name}`, but its place says `{wanted}`"), remedy);
    }
    Some(name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_below_and_the_variable_wins() {
        let folder = tempfile::tempdir().unwrap();
        for below in ["a/kernels", "a/pipelines/x/y", "b/kernels", "b/pipelines"] {
            fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        assert_eq!(find_root(&a.join("pipelines/x/y"), None), Ok(a.clone()));
        assert_eq!(find_root(&a, Some(b.clone().into())), Ok(b));
        assert_eq!(find_root(&a, Some("".into())), Ok(a.clone()));
        assert_eq!(find_root(&a, Some("c".into())), Err(NoRoot::Named(a.join("c"))));
        assert_eq!(find_root(folder.path(), None), Err(NoRoot::NotFound(folder.path().to_owned())));
    }
}
