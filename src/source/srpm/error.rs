//! Why a source package can't be used: each message with its remedy.
//!
//! Nothing is done here.
//!
//! Read [`SrpmError`] first.

use std::path::PathBuf;

use crate::fault::Whose;

/// Why a source package can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SrpmError {
    /// It is no source package, or its headers are damaged.
    #[error("{package} is no usable source package: {why}; fetch it again")]
    Header {
        /// The package.
        package: String,
        /// What is wrong.
        why: String,
    },
    /// The key file can't be used.
    #[error("{} holds no usable key: {why}; name an ASCII-armoured file of OpenPGP public keys", key.display())]
    Key {
        /// The key file.
        key: PathBuf,
        /// Why not.
        why: String,
    },
    /// No key of the file made the package's signature.
    #[error("{package} isn't signed by a key of {}: {why}; fetch it again, or name the key of who made it", key.display())]
    Signature {
        /// The package.
        package: String,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The signature says nothing of the files.
    #[error("{package} is signed, but the signature covers no SHA-256 of its files: leave out `key` and give `sha256`")]
    WeakSignature {
        /// The package.
        package: String,
    },
    /// A file of the payload isn't what the package's header says.
    #[error("{package}: {file} isn't what the package's header says: fetch it again")]
    NotAsListed {
        /// The package.
        package: String,
        /// The file.
        file: String,
    },
    /// Something has to be in the package and isn't.
    #[error("{package} holds {found}, expected {expected}: correct the definition, or name a kernel's source package")]
    Lacks {
        /// The package.
        package: String,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: String,
    },
    /// The spec file has something that isn't understood.
    #[error("{package}, {spec} line {line}: {why}; {remedy}")]
    Spec {
        /// The package.
        package: String,
        /// The spec file.
        spec: String,
        /// The line.
        line: usize,
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A patch of the package doesn't apply to its tarball.
    #[error(
        "{package}: its patch {patch} doesn't apply: {why}; the package is damaged, or its spec file isn't understood: bring a patched tree with --source KERNEL=FOLDER"
    )]
    Patch {
        /// The package.
        package: String,
        /// The patch.
        patch: String,
        /// Which hunk of which file, or what else is wrong.
        why: String,
    },
    /// The Makefile has no line to set.
    #[error("{package}: the tree's Makefile has no EXTRAVERSION line, which {spec} sets: name a kernel's source package")]
    Extraversion {
        /// The package.
        package: String,
        /// The spec file.
        spec: String,
    },
    /// The folder has neither the package nor its tarball.
    #[error("{} has neither {}: put one of them there, or name another folder with --vault", folder.display(), wanted.join(" nor "))]
    NotInVault {
        /// The folder.
        folder: PathBuf,
        /// The files that would do.
        wanted: Vec<String>,
    },
    /// The vault can't be reached, or doesn't have the file.
    #[error("download {url}: {why}; bring {wanted} into a folder by other means, and name it with --vault FOLDER or HANGPROOF_VAULT")]
    Vault {
        /// The URL.
        url: String,
        /// Why not.
        why: String,
        /// The files that would do.
        wanted: String,
    },
}

impl SrpmError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::Header { .. }
            | Self::Key { .. }
            | Self::Signature { .. }
            | Self::WeakSignature { .. }
            | Self::NotAsListed { .. }
            | Self::Lacks { .. }
            | Self::Spec { .. }
            | Self::Patch { .. }
            | Self::Extraversion { .. }
            | Self::NotInVault { .. } => Whose::Definition,
            Self::Vault { .. } => Whose::Ours,
        }
    }
}
