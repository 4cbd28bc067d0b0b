//! `source: prebuilt:`, and what a prebuilt kernel can't have.
//!
//! Whether the package exists and holds a kernel is for the modules that bring it and take it apart.
//!
//! Read [`package_of`] first.

use super::kernel::url_of;
use super::marks::Node;
use super::sheet::Sheet;
use super::words::{absolute, argument, sha256};
use super::{Location, PackageFile, Prebuilt, raw};

/// Checks where the package comes from. `None` when that can't be said; then the sheet says why.
pub(super) fn package_of(sheet: &mut Sheet, prebuilt: raw::Prebuilt, marks: &Node) -> Option<Prebuilt> {
    let raw::Prebuilt { debian, version, package, url, sha256: digest, packages } = prebuilt;
    let refuse = |sheet: &mut Sheet, key: &str, why: &str| sheet.say(marks.key(key), why, "remove it");
    if debian.is_some() && digest.is_some() {
        refuse(sheet, "sha256", "apt's index has the digest of a Debian package");
    }
    if packages.is_some() && digest.is_some() {
        refuse(sheet, "sha256", "each item of `packages` has a digest of its own");
    }
    if debian.is_none() && version.is_some() {
        refuse(sheet, "version", "only a package that apt brings has a `version` to choose");
    }
    let version = version.map(|text| sheet.value(argument(&text, "Debian version", ".+:~-"), marks.at("version").place));
    match (debian, packages, package.is_some() || url.is_some()) {
        (Some(package), None, false) => {
            // Its value is wrong too, perhaps.
            let _ = digest.map(|text| sheet.value(sha256(&text), marks.at("sha256").place));
            let package = sheet.value(argument(&package, "Debian package", "+-."), marks.at("debian").place)?;
            Some(Prebuilt::Debian { package, version: given(version)? })
        }
        (None, Some(packages), false) => {
            let marks = marks.at("packages");
            if packages.is_empty() && marks.lost.is_empty() {
                sheet.say(marks.place, "a kernel without packages is none", "list the packages of one kernel");
                return None;
            }
            let files = packages.into_iter().enumerate().map(|(index, file)| file_of(sheet, file, marks.item(index)));
            // All of them are checked before the first failure counts.
            let files: Vec<_> = files.collect();
            files.into_iter().collect::<Option<_>>().map(Prebuilt::Files)
        }
        (None, None, true) => {
            let file = file_of(sheet, raw::PackageFile { package, url, sha256: digest }, marks)?;
            given(version)?;
            Some(Prebuilt::Files(vec![file]))
        }
        _ => {
            if marks.lost.is_empty() {
                let message =
                    "a prebuilt kernel is exactly one of `debian`, `package` (a file), `url` and `packages` (files or URLs of one kernel)";
                sheet.say(marks.place, message, "write one of the four");
            }
            None
        }
    }
}

/// What a definition says of a digest that nobody published.
const UNKNOWN: &str = "unknown";

fn file_of(sheet: &mut Sheet, file: raw::PackageFile, marks: &Node) -> Option<PackageFile> {
    let raw::PackageFile { package, url, sha256: digest } = file;
    let is_unknown = digest.as_deref() == Some(UNKNOWN) && url.is_some();
    let known = digest.filter(|_| !is_unknown).map(|text| sheet.value(sha256(&text), marks.at("sha256").place));
    let location = match (package, url) {
        (Some(path), None) => sheet.value(absolute(&path), marks.at("package").place).map(Location::Path),
        (None, Some(url)) => {
            if known.is_none() && !is_unknown && !marks.excuses("sha256") {
                let remedy = "add `sha256:` with the package's digest, or `sha256: unknown` for one that users have to bring themselves";
                sheet.say(marks.key("url"), "a URL without `sha256` can't be trusted", remedy);
            }
            sheet.value(url_of(&url), marks.at("url").place).map(Location::Url)
        }
        _ => {
            if marks.lost.is_empty() {
                sheet.say(marks.place, "a package is exactly one of `package` (a file) and `url`", "write one of the two");
            }
            None
        }
    };
    Some(PackageFile { location: location?, sha256: given(known)? })
}

/// A value that isn't given is fine; one that is given and wrong has its report.
fn given(value: Option<Option<String>>) -> Option<Option<String>> {
    match value {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

/// Refuses what would change a kernel that is taken as it is. `given` says which of the keys are there.
pub(super) fn refuse_recipe(sheet: &mut Sheet, marks: &Node, given: [bool; 4]) {
    let keys = ["toolchain", "configuration", "compatibility", "patches"];
    for (key, _) in keys.into_iter().zip(given).filter(|(_, is_there)| *is_there) {
        let message = format!("a prebuilt kernel is taken as it is, without `{key}`");
        sheet.say(marks.key(key), message, "remove it, or give a source that is built");
    }
}
