//! The outside programs that images are made with and from, and the Debian packages that bring them. It installs nothing.
//!
//! Read [`Needed`] first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ImageError;
use crate::program::Program;

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// The program's file name.
    pub program: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

/// A whole small user land in one static program.
pub const BUSYBOX: Needed = Needed { program: "busybox", package: "busybox-static" };
/// Makes and assembles md arrays.
pub const MDADM: Needed = Needed { program: "mdadm", package: "mdadm" };
/// Makes ext4 filesystems.
pub const MKE2FS: Needed = Needed { program: "mke2fs", package: "e2fsprogs" };
/// The guest's ssh server.
pub const DROPBEAR: Needed = Needed { program: "dropbear", package: "dropbear-bin" };
/// Makes the ssh server's host key.
pub const DROPBEARKEY: Needed = Needed { program: "dropbearkey", package: "dropbear-bin" };
/// The load generator.
pub const FIO: Needed = Needed { program: "fio", package: "fio" };
/// Linux as an ordinary program.
pub const UML: Needed = Needed { program: "linux.uml", package: "user-mode-linux" };

/// Everything that making an image needs.
pub const ALL: [Needed; 7] = [BUSYBOX, MDADM, MKE2FS, DROPBEAR, DROPBEARKEY, FIO, UML];

impl Needed {
    /// Where it is: in `PATH`, or in the folders that an ordinary user's `PATH` lacks.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
        std::env::split_paths(&path).chain(usual).map(|folder| folder.join(self.program)).find(|file| is_program(file))
    }

    /// It, to be run.
    ///
    /// # Errors
    /// When it is nowhere.
    pub fn program(self) -> Result<Program, ImageError> {
        Ok(Program::new(self.required()?, self.package))
    }

    /// Where it is, or the error that tells what to install.
    ///
    /// # Errors
    /// When it is nowhere.
    pub fn required(self) -> Result<PathBuf, ImageError> {
        self.find().ok_or_else(|| ImageError::Programs(vec![self]))
    }
}

/// Checks that all are there.
///
/// # Errors
/// When some are missing: one error names them all.
pub fn require(needed: &[Needed]) -> Result<(), ImageError> {
    let missing: Vec<_> = needed.iter().copied().filter(|needed| needed.find().is_none()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ImageError::Programs(missing)) }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `mdadm (package mdadm), fio (package fio)`.
pub(super) fn named(missing: &[Needed]) -> String {
    missing.iter().map(|needed| format!("{} (package {})", needed.program, needed.package)).collect::<Vec<_>>().join(", ")
}

/// The packages, each once.
pub(super) fn packages(missing: &[Needed]) -> String {
    missing.iter().map(|needed| needed.package).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_names_every_program_and_each_package_once() {
        let error = ImageError::Programs(vec![FIO, DROPBEAR, DROPBEARKEY]).to_string();
        let expected = "fio (package fio), dropbear (package dropbear-bin), dropbearkey (package dropbear-bin) missing: apt-get install dropbear-bin fio";
        assert_eq!(error, expected);
    }
}
