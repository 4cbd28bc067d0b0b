//! A binary kernel out of a distribution's package: the image, its configuration, its symbols and its modules, at their paths in the package.
//!
//! A package is a stranger's as any archive is. Its scripts are not run, and its links and special files are not made: a kernel has none that matter.
//! What the files are worth is for the module that uses them.
//!
//! Read [`unpack`] first.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Component, Path};

use super::archive::checked;
use super::stop::Stop;
use super::{ArchiveError, Limits, Refusal, SourceError, decompressed, payload, srpm, unpack_some};

/// Debian's `linux-image-amd64` of 6.1 has 4,000 entries and 400 MB, EL8's packages less: ten times that.
const LIMITS: Limits = Limits { bytes: 4 << 30, entries: 100_000, path: 4095 };

/// Unpacks the kernel of a Debian or rpm package into `tree`, which may hold that of another package. `shown` is the package in messages.
///
/// # Errors
/// When it is neither, or one that is damaged or hostile.
pub fn unpack(package: impl Read, shown: &str, tree: &Path, stop: &Stop) -> Result<(), SourceError> {
    let mut package = BufReader::new(package);
    let start = package.fill_buf().map_err(|cause| refused(shown, ArchiveError::Damaged(cause)))?;
    if start.starts_with(&srpm::MAGIC) { unpack_rpm(package, shown, tree, stop) } else { unpack_deb(package, shown, tree, stop) }
}

fn refused(shown: &str, cause: ArchiveError) -> SourceError {
    SourceError::Archive { archive: format!("package {shown}"), cause }
}

fn unpack_deb(package: impl Read, shown: &str, tree: &Path, stop: &Stop) -> Result<(), SourceError> {
    let refused = |cause| refused(shown, cause);
    // deb(5): an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`, in this order.
    let mut members = ar::Archive::new(package);
    let mut is_package = false;
    while let Some(member) = members.next_entry() {
        // Without its magic bytes at the start it is no ar archive at all.
        let member = member.map_err(|cause| {
            if is_package { refused(ArchiveError::Damaged(cause)) } else { SourceError::NoPackageFile { package: shown.to_owned() } }
        })?;
        is_package = true;
        if member.header().identifier().starts_with(b"data.tar") {
            let files = decompressed(member).map_err(refused)?;
            return unpack_some(files, tree, LIMITS, is_of_kernel, stop).map_err(refused);
        }
    }
    Err(SourceError::NoPackageFile { package: shown.to_owned() })
}

fn unpack_rpm(mut package: impl Read, shown: &str, tree: &Path, stop: &Stop) -> Result<(), SourceError> {
    srpm::pass_headers(&mut package, shown)?;
    let refused = |cause| refused(shown, cause);
    payload::each(decompressed(package).map_err(refused)?, LIMITS, stop, refused, |entry, content| {
        let no = |why| refused(ArchiveError::Refused { entry: entry.name.clone(), why });
        let path = checked(entry.name.as_bytes(), LIMITS.path).map_err(no)?;
        if !entry.is_file() || !is_of_kernel(&path) {
            return Ok(());
        }
        let target = tree.join(path);
        let write = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => no(Refusal::Twice),
            _ => refused(ArchiveError::Write { path: target.clone(), cause }),
        };
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(write)?;
        let mut file = File::create_new(&target).map_err(write)?;
        let copied = io::copy(content, &mut file).map_err(|cause| refused(ArchiveError::Damaged(cause)))?;
        if copied == entry.size { Ok(()) } else { Err(refused(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()))) }
    })
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
