//! Makes a pipeline's mitigations ready: each program of the host with its libraries, laid beside the reproducer.
//!
//! No mitigation runs here. Arguments become words, never shell text. Which program it was is recorded, since a package's next version may do otherwise.
//!
//! Read [`Beside`] first, then [`prepare`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::image::{ImageError, Payload};
use crate::input;
use crate::spec::{Mitigation, Name};

/// What a mitigation's trials have in the guest.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What is laid over the root filesystem: the reproducer's, and the mitigation's program.
    pub payload: Payload,
    /// The program and its arguments, in the guest; nothing for `none`.
    pub words: Vec<String>,
    /// Which program that is; nothing for `none`.
    pub program: Option<Provenance>,
}

/// Which program a mitigation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provenance {
    /// SHA-256 of the program's file.
    pub sha256: String,
    /// The Debian package that brought it, with its version; none if dpkg knows of none.
    pub package: Option<String>,
}

impl Provenance {
    fn of(program: &Path) -> Result<Self, MitigationError> {
        let content = input::read(program, input::LARGEST_TEXT)
            .map_err(|cause| MitigationError::Unreadable { program: program.to_owned(), cause })?;
        Ok(Self { sha256: format!("{:x}", sha2::Sha256::digest(content)), package: package_of(program) })
    }
}

/// The package of a file. dpkg may know the file by the path from before `/bin` became a link.
fn package_of(program: &Path) -> Option<String> {
    let ask = |arguments: &[&OsStr]| {
        let output = Command::new("dpkg-query").args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let old = program.strip_prefix("/usr").ok().map(|path| Path::new("/").join(path));
    let said = std::iter::once(program).chain(old.as_deref()).find_map(|path| ask(&["--search".as_ref(), "--".as_ref(), path.as_ref()]))?;
    let (packages, _) = said.lines().next()?.split_once(": ")?;
    let package = packages.split(", ").next()?;
    let version = ask(&["--show", "--showformat=${Version}", "--", package].map(OsStr::new))?;
    Some(format!("{} {version}", package.split(':').next()?))
}

/// Why a mitigation can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum MitigationError {
    /// Its program isn't there.
    #[error(
        "the mitigation `{name}` needs {}, which is not on this machine: install the package that brings it, or choose others with --mitigation",
        program.display()
    )]
    Missing {
        /// The mitigation.
        name: Name,
        /// The program.
        program: PathBuf,
    },
    /// Its program can't be read.
    #[error("read {}: {cause}", program.display())]
    Unreadable {
        /// The program.
        program: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It can't be put into the payload.
    #[error(transparent)]
    Payload(#[from] ImageError),
}

/// Makes the mitigations ready, each with the reproducer's payload.
///
/// # Errors
/// When a program, or a library that it needs, isn't there.
pub fn prepare<'a>(
    mitigations: impl IntoIterator<Item = &'a Mitigation>,
    reproducer: &Payload,
) -> Result<BTreeMap<Name, Beside>, MitigationError> {
    let ready = |mitigation: &Mitigation| {
        let Mitigation { name, program, arguments, expected: _ } = mitigation;
        let mut payload = reproducer.clone();
        let mut words = Vec::new();
        let mut provenance = None;
        if let Some(program) = program {
            if !program.is_file() {
                return Err(MitigationError::Missing { name: name.clone(), program: program.clone() });
            }
            payload.program(program)?;
            provenance = Some(Provenance::of(program)?);
            words.push(program.display().to_string());
            words.extend(arguments.iter().cloned());
        }
        Ok((name.clone(), Beside { payload, words, program: provenance }))
    };
    mitigations.into_iter().map(ready).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn mitigation(name: &str, program: Option<&str>) -> Mitigation {
        let arguments = program.iter().map(|_| "-c".to_owned()).collect();
        Mitigation { name: Name::new(name).unwrap(), program: program.map(PathBuf::from), arguments, expected: BTreeMap::new() }
    }

    #[test]
    fn a_mitigation_is_its_program_and_arguments_or_nothing() {
        let ready = prepare(&[mitigation("none", None), mitigation("shell", Some("/bin/sh"))], &Payload::new()).unwrap();
        assert!(ready[&Name::new("none").unwrap()].words.is_empty());
        assert_eq!(ready[&Name::new("none").unwrap()].program, None);
        assert_eq!(ready[&Name::new("shell").unwrap()].words, ["/bin/sh", "-c"]);
    }

    #[test]
    fn a_program_is_recorded_with_its_digest_and_its_package() {
        let sum = Command::new("sha256sum").arg("/usr/bin/fio").output().unwrap();
        let sha256 = String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap().to_owned();
        let version = Command::new("dpkg-query").args(["-W", "-f", "fio ${Version}", "fio"]).output().unwrap();
        let package = Some(String::from_utf8(version.stdout).unwrap());
        assert_eq!(Provenance::of(Path::new("/usr/bin/fio")).unwrap(), Provenance { sha256, package });
        // Known to dpkg as /bin/bash.
        assert!(package_of(Path::new("/usr/bin/bash")).unwrap().starts_with("bash "));
        let own = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Provenance::of(own.path()).unwrap().package, None);
    }

    #[test]
    fn a_missing_program_is_named_with_a_remedy() {
        let error = prepare(&[mitigation("oomd", Some("/no/such/oomd"))], &Payload::new()).unwrap_err().to_string();
        let expected = "the mitigation `oomd` needs /no/such/oomd, which is not on this machine: install the package that brings it, \
                        or choose others with --mitigation";
        assert_eq!(error, expected);
    }
}
