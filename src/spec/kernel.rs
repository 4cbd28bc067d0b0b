//! From `kernels/*.yaml` to [`Kernel`]: checks one file at a time, then joins each variant with what it extends.
//!
//! Only joining needs other files; a variant whose base is wrong is left out silently, because the base's own file has the report.
//!
//! Read [`Draft`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::compatibility::{Lists, changes_of};
use super::marks::{Node, Place};
use super::problem::nearest;
use super::sheet::Sheet;
use super::words::{self, absolute, argument, boot_argument, file_below, inside, sha256, wrong};
use super::{
    Compatibility, Configuration, ConfigurationBase, Kernel, Location, Modules, Name, Source, Toolchain, prebuilt, raw, srpm, toolchain,
};

/// What one file says of a kernel; complete only together with its base.
#[derive(Debug)]
pub(super) struct Draft {
    pub name: Name,
    pub description: String,
    pub origin: Origin,
    pub fragments: Vec<PathBuf>,
    pub compatibility: Vec<Compatibility>,
    /// Each with its place, because a patch that the base has already is an error.
    pub patches: Vec<(PathBuf, Place)>,
    pub boot_arguments: Vec<String>,
}

/// What a kernel is built from.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each file, and a box would be every reader's trouble")]
pub(super) enum Origin {
    /// Its own source.
    Own { source: Source, toolchain: Toolchain, base: ConfigurationBase, modules: Modules },
    /// Another kernel; the place is that of its name.
    Extends { base: Name, place: Place },
}

/// Checks one file. `None` when something is missing without which there is no kernel; then the sheet says what.
pub(super) fn check(
    raw: raw::Kernel,
    marks: &Node,
    sheet: &mut Sheet,
    name: Option<Name>,
    root: &Path,
    known: &BTreeSet<String>,
    lists: &Lists,
) -> Option<Draft> {
    let raw::Kernel { name: _, description, extends, source, toolchain, configuration, compatibility, patches, boot_arguments } = raw;
    let folders = Folders { kernels: root.join("kernels"), patches: root.join("patches") };
    let description = sheet.description(description, marks);
    // A wrong or misspelled `extends` has its report; the file is read as the variant that it means to be.
    let is_variant = extends.is_some() || marks.excuses("extends");
    let settings = marks.at("configuration");
    if is_variant {
        refuse_inherited(sheet, marks, [("source", source.is_some()), ("toolchain", toolchain.is_some())]);
        let has = |is_there: fn(&raw::Configuration) -> bool| configuration.as_ref().is_some_and(is_there);
        refuse_inherited(
            sheet,
            settings,
            [("base", has(|settings| settings.base.is_some())), ("modules", has(|settings| settings.modules.is_some()))],
        );
    }
    let is_prebuilt = !is_variant && source.as_ref().is_some_and(|source| source.prebuilt.is_some());
    if is_prebuilt {
        let given = [toolchain.is_some(), configuration.is_some(), compatibility.is_some(), patches.is_some()];
        prebuilt::refuse_recipe(sheet, marks, given);
    }
    let is_configured = !is_variant && !is_prebuilt;
    let configuration = if is_configured { sheet.required(configuration, marks, "configuration") } else { configuration };
    let raw::Configuration { base, modules, fragments } = configuration.unwrap_or_default();
    let fragments = sheet.each_once(fragments, settings, "fragments", |text| file_below(&folders.kernels, "kernels", text));
    let compatibility = changes_of(sheet, compatibility, marks.at("compatibility"), &folders.patches, Some(lists));
    let patches = patches_of(sheet, patches, marks, &folders.patches);
    let boot_arguments = sheet.each(boot_arguments, marks, "boot-arguments", boot_argument);
    let origin = match extends {
        Some(base) => {
            let place = marks.at("extends").place;
            if !known.contains(&base) {
                sheet.say(place, format!("there is no kernel `{base}`"), nearest(&base, known.iter().map(String::as_str)));
            }
            Name::new(&base).ok().map(|base| Origin::Extends { base, place })
        }
        None if is_variant => None,
        None if is_prebuilt => {
            let source = source.and_then(|source| source_of(sheet, source, marks.at("source"), &folders));
            let (toolchain, base, modules) = (Toolchain::None, ConfigurationBase::Package, Modules::Keep);
            source.map(|source| Origin::Own { source, toolchain, base, modules })
        }
        None => own(sheet, marks, source, toolchain, (base, modules), &folders),
    };
    Some(Draft { name: name?, description: description?, origin: origin?, fragments, compatibility, patches, boot_arguments })
}

struct Folders {
    kernels: PathBuf,
    patches: PathBuf,
}

fn refuse_inherited<const N: usize>(sheet: &mut Sheet, parent: &Node, keys: [(&str, bool); N]) {
    for (key, _) in keys.into_iter().filter(|(_, is_there)| *is_there) {
        let message = format!("a variant inherits `{key}` from the kernel that it extends");
        sheet.say(parent.key(key), message, "remove it, or define a kernel without `extends`");
    }
}

fn patches_of(sheet: &mut Sheet, patches: Option<Vec<String>>, marks: &Node, folder: &Path) -> Vec<(PathBuf, Place)> {
    let list = marks.at("patches");
    let items = patches.unwrap_or_default().into_iter().enumerate();
    let (mut checked, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, item) in items {
        if sheet.is_full() {
            break;
        }
        let place = list.item(index).place;
        let Some(path) = sheet.value(file_below(folder, "patches", &item), place) else { continue };
        if !seen.insert(path.clone()) {
            sheet.say(place, format!("`{item}` is listed twice"), "keep one of the two");
        }
        checked.push((path, place));
    }
    checked
}

fn own(
    sheet: &mut Sheet,
    marks: &Node,
    source: Option<raw::Source>,
    toolchain: Option<raw::Toolchain>,
    (base, modules): (Option<raw::ConfigurationBase>, Option<Modules>),
    folders: &Folders,
) -> Option<Origin> {
    if source.is_none() && !marks.excuses("source") {
        sheet.say(marks.key("source"), "a kernel needs `source` or `extends`", "add one of the two");
    }
    let source = source.and_then(|source| source_of(sheet, source, marks.at("source"), folders));
    let toolchain =
        sheet.required(toolchain, marks, "toolchain").and_then(|written| toolchain::check(sheet, written, marks.at("toolchain")));
    let settings = marks.at("configuration");
    // With no `configuration` at all that is the report.
    let base = if base.is_some() || settings.place != marks.place { sheet.required(base, settings, "base") } else { None };
    let place = settings.at("base").place;
    let base = base.and_then(|base| match base {
        raw::ConfigurationBase::Defconfig => Some(ConfigurationBase::Defconfig),
        raw::ConfigurationBase::Allnoconfig => Some(ConfigurationBase::Allnoconfig),
        raw::ConfigurationBase::File(path) => {
            sheet.value(file_below(&folders.kernels, "kernels", &path), place).map(ConfigurationBase::File)
        }
        raw::ConfigurationBase::Vendor(path) => sheet.value(inside(&path, "the source tree"), place).map(ConfigurationBase::Vendor),
    });
    Some(Origin::Own { source: source?, toolchain: toolchain?, base: base?, modules: modules.unwrap_or_default() })
}

fn source_of(sheet: &mut Sheet, source: raw::Source, marks: &Node, folders: &Folders) -> Option<Source> {
    let raw::Source { debian, tarball, git, directory, srpm, prebuilt } = source;
    let given = [debian.is_some(), tarball.is_some(), git.is_some(), directory.is_some(), srpm.is_some(), prebuilt.is_some()];
    if given.into_iter().filter(|is_given| *is_given).count() != 1 {
        if marks.lost.is_empty() {
            let message = "a source is exactly one of `debian`, `tarball`, `git`, `directory`, `srpm` and `prebuilt`";
            sheet.say(marks.place, message, "write one of them");
        }
        return None;
    }
    let debian = debian.map(|debian| debian_of(sheet, debian, marks.at("debian")));
    let tarball = tarball.map(|tarball| tarball_of(sheet, tarball, marks.at("tarball")));
    let git = git.map(|git| git_of(sheet, git, marks.at("git")));
    let directory = directory.map(|directory| directory_of(sheet, directory, marks.at("directory")));
    let srpm = srpm.map(|package| srpm::check(sheet, package, marks.at("srpm"), &folders.kernels));
    let prebuilt = prebuilt.map(|package| prebuilt::package_of(sheet, package, marks.at("prebuilt")).map(Source::Prebuilt));
    debian.or(tarball).or(git).or(directory).or(srpm).or(prebuilt)?
}

fn debian_of(sheet: &mut Sheet, debian: raw::Debian, marks: &Node) -> Option<Source> {
    let package = sheet.required(debian.package, marks, "package")?;
    let package = sheet.value(argument(&package, "Debian package", "+-."), marks.at("package").place);
    let version = debian.version.map(|version| sheet.value(argument(&version, "Debian version", ".+:~-"), marks.at("version").place));
    let version = match version {
        Some(version) => Some(version?),
        None => None,
    };
    Some(Source::Debian { package: package?, version })
}

fn git_of(sheet: &mut Sheet, git: raw::Git, marks: &Node) -> Option<Source> {
    let repository = sheet.required(git.repository, marks, "repository");
    let revision = sheet.required(git.revision, marks, "revision");
    let repository = repository.and_then(|text| sheet.value(repository_of(&text), marks.at("repository").place));
    let revision = revision.and_then(|text| sheet.value(argument(&text, "git revision", "._/-^~+"), marks.at("revision").place));
    Some(Source::Git { repository: repository?, revision: revision? })
}

fn directory_of(sheet: &mut Sheet, directory: raw::Directory, marks: &Node) -> Option<Source> {
    let path = sheet.required(directory.path, marks, "path")?;
    Some(Source::Directory { path: sheet.value(absolute(&path), marks.at("path").place)? })
}

fn tarball_of(sheet: &mut Sheet, tarball: raw::Tarball, marks: &Node) -> Option<Source> {
    let digest = tarball.sha256.map(|text| sheet.value(sha256(&text), marks.at("sha256").place));
    let location = match (tarball.path, tarball.url) {
        (Some(path), None) => sheet.value(absolute(&path), marks.at("path").place).map(Location::Path),
        (None, Some(url)) => {
            if digest.is_none() && !marks.excuses("sha256") {
                sheet.say(marks.key("url"), "a URL without `sha256` can't be trusted", "add `sha256:` with the archive's digest");
            }
            sheet.value(url_of(&url), marks.at("url").place).map(Location::Url)
        }
        _ => {
            if marks.lost.is_empty() {
                sheet.say(marks.place, "a tarball is exactly one of `path` and `url`", "write one of the two");
            }
            None
        }
    };
    let sha256 = match digest {
        Some(digest) => Some(digest?),
        None => None,
    };
    Some(Source::Tarball { location: location?, sha256 })
}

pub(super) fn url_of(text: &str) -> Result<String, words::Wrong> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fine = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    if rest.is_some_and(fine) { Ok(text.to_owned()) } else { wrong(format!("{text:?} is no URL"), "write `https://...` or `http://...`") }
}

fn repository_of(text: &str) -> Result<String, words::Wrong> {
    let schemes = ["https://", "http://", "git://", "ssh://", "file://"];
    let has_scheme = schemes.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if (has_scheme && text.chars().all(|c| c.is_ascii_graphic())) || absolute(text).is_ok() {
        return Ok(text.to_owned());
    }
    wrong(format!("{text:?} is no repository"), "write a URL such as `https://...`, or an absolute path")
}

/// Joins every draft with its base. `sheet_of` names the sheet of each kernel, which receives what joining finds.
pub(super) fn join(drafts: &BTreeMap<Name, (Draft, usize)>, sheets: &mut [Sheet]) -> BTreeMap<Name, Kernel> {
    let mut joined = BTreeMap::new();
    for (name, (draft, sheet)) in drafts {
        let Some(sheet) = sheets.get_mut(*sheet) else { continue };
        match line_of(name, drafts) {
            Line::Broken => {}
            Line::Cycle(names) => {
                // Every member of the cycle sees the same one; the first of them in the alphabet reports it.
                if let (true, Origin::Extends { place, .. }) = (names.iter().min() == Some(&name), &draft.origin) {
                    let shown: Vec<&str> = names.iter().chain([&name]).map(|name| name.as_str()).collect();
                    sheet.say(
                        *place,
                        format!("the kernels extend each other in a circle: {}", shown.join(" -> ")),
                        "let one of them have a `source`",
                    );
                }
            }
            Line::Whole(line) => {
                if let Some(kernel) = kernel_of(draft, &line, sheet) {
                    joined.insert(name.clone(), kernel);
                }
            }
        }
    }
    joined
}

enum Line<'a> {
    /// From the kernel with a source down to the one in question.
    Whole(Vec<&'a Draft>),
    /// From the one in question back to it.
    Cycle(Vec<&'a Name>),
    /// A kernel in it has a report of its own.
    Broken,
}

fn line_of<'a>(name: &'a Name, drafts: &'a BTreeMap<Name, (Draft, usize)>) -> Line<'a> {
    let (mut line, mut names, mut next) = (Vec::new(), Vec::new(), name);
    loop {
        let Some((draft, _)) = drafts.get(next) else { return Line::Broken };
        line.insert(0, draft);
        names.push(next);
        match &draft.origin {
            Origin::Own { .. } => return Line::Whole(line),
            Origin::Extends { base, .. } if base == name => return Line::Cycle(names),
            Origin::Extends { base, .. } if names.contains(&base) => return Line::Broken,
            Origin::Extends { base, .. } => next = base,
        }
    }
}

fn kernel_of(draft: &Draft, line: &[&Draft], sheet: &mut Sheet) -> Option<Kernel> {
    let (first, base) = (
        line.first()?,
        match &draft.origin {
            Origin::Own { .. } => None,
            Origin::Extends { base, .. } => Some(base.clone()),
        },
    );
    let Origin::Own { source, toolchain, base: configuration, modules } = &first.origin else { return None };
    let (_, bases) = line.split_last()?;
    if let (Source::Prebuilt(_), Origin::Extends { base, place }) = (source, &draft.origin) {
        // A variant of a variant of it isn't told again.
        if bases.len() == 1 {
            sheet.say(*place, format!("`{base}` is prebuilt and can't be extended"), "extend a kernel that is built from source");
        }
        return None;
    }
    let inherited: Vec<&PathBuf> = bases.iter().flat_map(|base| &base.patches).map(|(path, _)| path).collect();
    for (path, place) in draft.patches.iter().filter(|(path, _)| inherited.contains(&path)) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        sheet.say(*place, format!("the patch `{file}` comes from the base already"), "remove it: a patch applies once");
    }
    let all = |list: fn(&Draft) -> &[PathBuf]| line.iter().flat_map(|draft| list(draft)).cloned().collect();
    Some(Kernel {
        name: draft.name.clone(),
        description: draft.description.clone(),
        defined_in: sheet.path.clone(),
        base,
        source: source.clone(),
        toolchain: toolchain.clone(),
        configuration: Configuration { base: configuration.clone(), modules: *modules, fragments: all(|draft| &draft.fragments) },
        compatibility: line.iter().flat_map(|draft| &draft.compatibility).cloned().collect(),
        patches: line.iter().flat_map(|draft| &draft.patches).map(|(path, _)| path.clone()).collect(),
        inherited_patches: inherited.len(),
        boot_arguments: line.iter().flat_map(|draft| &draft.boot_arguments).cloned().collect(),
    })
}
