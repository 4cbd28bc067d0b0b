//! `source: prebuilt:`, and what a prebuilt kernel can't have.
//!
//! Whether the package exists and holds a kernel is for the modules that bring it and take it apart.
//!
//! Read [`package_of`] first.

use super::kernel::url_of;
use super::marks::Node;
use super::sheet::Sheet;
use super::words::{absolute, argument, sha256};
use super::{Location, Prebuilt, raw};

/// Checks where the package comes from. `None` when that can't be said; then the sheet says why.
pub(super) fn package_of(sheet: &mut Sheet, prebuilt: raw::Prebuilt, marks: &Node) -> Option<Prebuilt> {
    let raw::Prebuilt { debian, version, package, url, sha256: digest } = prebuilt;
    let refuse = |sheet: &mut Sheet, key: &str, why: &str| sheet.say(marks.key(key), why, "remove it");
    if debian.is_some() && digest.is_some() {
        refuse(sheet, "sha256", "apt's index has the digest of a Debian package");
    }
    if debian.is_none() && version.is_some() {
        refuse(sheet, "version", "only a package that apt brings has a `version` to choose");
    }
    let version = version.map(|text| sheet.value(argument(&text, "Debian version", ".+:~-"), marks.at("version").place));
    let digest = digest.map(|text| sheet.value(sha256(&text), marks.at("sha256").place));
    let location = match (debian, package, url) {
        (Some(package), None, None) => {
            let package = sheet.value(argument(&package, "Debian package", "+-."), marks.at("debian").place)?;
            return Some(Prebuilt::Debian { package, version: given(version)? });
        }
        (None, Some(path), None) => sheet.value(absolute(&path), marks.at("package").place).map(Location::Path),
        (None, None, Some(url)) => {
            if digest.is_none() && !marks.excuses("sha256") {
                sheet.say(marks.key("url"), "a URL without `sha256` can't be trusted", "add `sha256:` with the package's digest");
            }
            sheet.value(url_of(&url), marks.at("url").place).map(Location::Url)
        }
        _ => {
            if marks.lost.is_empty() {
                let message = "a prebuilt kernel is exactly one of `debian`, `package` (a file) and `url`";
                sheet.say(marks.place, message, "write one of the three");
            }
            None
        }
    };
    Some(Prebuilt::File { location: location?, sha256: given(digest)? })
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
