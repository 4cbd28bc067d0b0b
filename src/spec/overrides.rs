//! What an invocation changes in the definitions: another source for a kernel, another value for a reproducer's parameter.
//!
//! An override is checked as strictly as a definition, and changes a copy in memory; it never writes a file.
//!
//! Read [`Definitions::with_source`] first.

use std::path::{Path, PathBuf};

use super::problem::nearest;
use super::words::parameter_value;
use super::{Definitions, Location, Name, Prebuilt, Source, Srpm, srpm};

/// Why an override makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// No such kernel.
    #[error("there is no kernel `{name}`; {remedy}")]
    UnknownKernel {
        /// What was asked for.
        name: String,
        /// What to do about it.
        remedy: String,
    },
    /// No such pipeline.
    #[error("there is no pipeline `{name}`; {remedy}")]
    UnknownPipeline {
        /// What was asked for.
        name: String,
        /// What to do about it.
        remedy: String,
    },
    /// The pipeline's reproducer has no such parameter.
    #[error("the reproducer of `{pipeline}` has no parameter `{key}`; {remedy}")]
    UnknownParameter {
        /// The pipeline.
        pipeline: Name,
        /// What was asked for.
        key: String,
        /// What to do about it.
        remedy: String,
    },
    /// A parameter's value is impossible.
    #[error("`{key}`: {message}; {remedy}")]
    BadValue {
        /// The parameter.
        key: String,
        /// What is wrong.
        message: String,
        /// What to do about it.
        remedy: String,
    },
    /// A variant is built in a clone of its base's built tree, so it can't have another source than its base.
    #[error("`{kernel}` takes its source from `{origin}`; replace the source of `{origin}`")]
    Variant {
        /// The variant.
        kernel: Name,
        /// The kernel that has the source.
        origin: Name,
    },
    /// A package can't take the place of a source tree, nor a source tree that of a package.
    #[error("`{kernel}` {}", if *prebuilt { "is prebuilt: name a kernel package (.deb)" } else { "is built from source: name a source tree or a tar archive" })]
    Kind {
        /// The kernel.
        kernel: Name,
        /// Whether its definition says that it is prebuilt.
        prebuilt: bool,
    },
    /// A vault is neither a URL nor a folder.
    #[error("{vault:?} is no vault: name a URL that begins with https://, or a folder that holds source packages")]
    NoVault {
        /// What was given.
        vault: String,
    },
    /// A path is neither a folder nor an archive.
    #[error("{} is no source: {problem}; name a source tree, a tar archive, a source package or a kernel package", path.display())]
    NoSource {
        /// The path.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
}

/// How the names of tar archives end.
const ARCHIVES: [&str; 7] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tzst"];

/// How the names of kernel packages end.
const PACKAGE: &str = ".deb";

impl Source {
    /// The source at a path of this machine: a folder, a tar archive, a source package or a kernel package, relative to the current folder or absolute.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn from_path(path: &Path) -> Result<Self, OverrideError> {
        let no_source = |problem: &str| OverrideError::NoSource { path: path.to_owned(), problem: problem.to_owned() };
        let found = path.canonicalize().map_err(|error| no_source(&error.to_string()))?;
        let name = found.file_name().unwrap_or_default().to_string_lossy();
        if found.is_dir() {
            Ok(Self::Directory { path: found })
        } else if found.is_file() && ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
            Ok(Self::Tarball { location: Location::Path(found), sha256: None })
        } else if found.is_file() && name.ends_with(PACKAGE) {
            Ok(Self::Prebuilt(Prebuilt::File { location: Location::Path(found), sha256: None }))
        } else if let (true, true, Some(srpm)) = (found.is_file(), name.ends_with(srpm::ENDING), Srpm::at(&found)) {
            Ok(Self::Srpm(srpm))
        } else {
            let endings = ARCHIVES.join(", ");
            Err(no_source(&format!("neither a folder nor a file that ends in {endings}, {} or {PACKAGE}", srpm::ENDING)))
        }
    }
}

impl Definitions {
    /// The kernel whose source `name` is built from: itself, or the last one that it extends. `None` for an unknown name.
    #[must_use]
    pub fn origin<'a>(&'a self, name: &'a Name) -> Option<&'a Name> {
        let base = |name: &&'a Name| self.kernels.get(*name).and_then(|kernel| kernel.base.as_ref());
        self.kernels.get(name)?;
        std::iter::successors(Some(name), base).last()
    }

    /// Replaces the source of a kernel and of all that extend it.
    ///
    /// # Errors
    /// When there is no such kernel, it is a variant, or one of the two is prebuilt and the other isn't.
    pub fn with_source(mut self, kernel: &Name, source: &Source) -> Result<Self, OverrideError> {
        let unknown = || OverrideError::UnknownKernel {
            name: kernel.to_string(),
            remedy: nearest(kernel.as_str(), self.kernels.keys().map(Name::as_str)),
        };
        let origin = self.origin(kernel).ok_or_else(unknown)?;
        if origin != kernel {
            return Err(OverrideError::Variant { kernel: kernel.clone(), origin: origin.clone() });
        }
        let is_prebuilt = |source: &Source| matches!(source, Source::Prebuilt(_));
        let prebuilt = self.kernels.get(kernel).is_some_and(|kernel| is_prebuilt(&kernel.source));
        if prebuilt != is_prebuilt(source) {
            return Err(OverrideError::Kind { kernel: kernel.clone(), prebuilt });
        }
        let line: Vec<Name> = self.kernels.keys().filter(|name| self.origin(name) == Some(kernel)).cloned().collect();
        for (_, kernel) in self.kernels.iter_mut().filter(|(name, _)| line.contains(name)) {
            kernel.source = source.clone();
        }
        Ok(self)
    }

    /// Replaces the value of a parameter of a pipeline's reproducer.
    ///
    /// # Errors
    /// When there is no such pipeline or parameter, or the value is impossible.
    pub fn with_parameter(mut self, pipeline: &Name, key: &str, value: &str) -> Result<Self, OverrideError> {
        if !self.pipelines.contains_key(pipeline) {
            let remedy = nearest(pipeline.as_str(), self.pipelines.keys().map(Name::as_str));
            return Err(OverrideError::UnknownPipeline { name: pipeline.to_string(), remedy });
        }
        parameter_value(key, value).map_err(|wrong| OverrideError::BadValue {
            key: key.to_owned(),
            message: wrong.message,
            remedy: wrong.remedy,
        })?;
        for (known, current) in self.pipelines.get_mut(pipeline).into_iter().flat_map(|pipeline| &mut pipeline.reproducer.parameters) {
            if known == key {
                value.clone_into(current);
                return Ok(self);
            }
        }
        let parameters = self.pipelines.get(pipeline).into_iter().flat_map(|pipeline| &pipeline.reproducer.parameters);
        let remedy = nearest(key, parameters.map(|(known, _)| known.as_str()));
        Err(OverrideError::UnknownParameter { pipeline: pipeline.clone(), key: key.to_owned(), remedy })
    }
}
