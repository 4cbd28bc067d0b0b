//! A binary kernel out of a distribution's package: the image, its configuration, its symbols and its modules, at their paths in the package.
//!
//! A package is a stranger's as any archive is. Its scripts are not run, and its links and special files are not made: a kernel has none that matter.
//! What the files are worth is for the module that uses them.
//!
//! Read [`unpack`] first.

use std::io::Read;
use std::path::{Component, Path};

use super::stop::Stop;
use super::{ArchiveError, Limits, Provenance, Remembered, SourceError, TREE, decompressed, unpack_some};
use crate::store::Scratch;

/// Debian's `linux-image-amd64` of 6.1 has 4,000 entries and 400 MB: ten times that.
const LIMITS: Limits = Limits { bytes: 4 << 30, entries: 100_000, path: 4095 };

/// What is known of a package that was unpacked.
pub fn remembered(package: String, version: Option<String>, sha256: String) -> Remembered {
    Remembered { digest: format!("package-{sha256}"), provenance: Provenance::Prebuilt { package, version, sha256 } }
}

/// Unpacks the kernel of a Debian package into the scratch folder's tree. `shown` is the package in messages.
///
/// # Errors
/// When it is no Debian package, or one that is damaged or hostile.
pub fn unpack(package: impl Read, shown: &str, scratch: &Scratch, stop: &Stop) -> Result<(), SourceError> {
    let refused = |cause| SourceError::Archive { archive: format!("package {shown}"), cause };
    let damaged = |cause| refused(ArchiveError::Damaged(cause));
    let tree = scratch.path().join(TREE);
    std::fs::create_dir(&tree).map_err(super::failed("create", &tree))?;
    // deb(5): an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`, in this order.
    let mut members = ar::Archive::new(package);
    let mut is_package = false;
    while let Some(member) = members.next_entry() {
        // Without its magic bytes at the start it is no ar archive at all.
        let member =
            member.map_err(|cause| if is_package { damaged(cause) } else { SourceError::NotDebian { package: shown.to_owned() } })?;
        is_package = true;
        if member.header().identifier().starts_with(b"data.tar") {
            let files = decompressed(member).map_err(refused)?;
            return unpack_some(files, &tree, LIMITS, is_of_kernel, stop).map_err(refused);
        }
    }
    Err(SourceError::NotDebian { package: shown.to_owned() })
}

/// Files of `/boot` that are taken, by how their names begin. The image and the configuration may lie with the modules instead.
const OF_BOOT: [&str; 3] = ["vmlinuz-", "config-", "System.map-"];

fn is_of_kernel(path: &Path) -> bool {
    let parts: Vec<&str> =
        path.components().filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None }).collect();
    match parts.as_slice() {
        ["boot", file] => OF_BOOT.iter().any(|start| file.starts_with(start)),
        ["lib", "modules", _, _, ..] | ["usr", "lib", "modules", _, _, ..] => true,
        _ => false,
    }
}
