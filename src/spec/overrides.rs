//! What an invocation changes in the definitions: another source, toolchain or configuration for a kernel, another value for a reproducer's parameter.
//!
//! An override is checked as strictly as a definition, and changes a copy in memory; it never writes a file.
//!
//! Read [`Definitions::with_source`] first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::nearest;
use super::words::{self, parameter_value};
use super::{ConfigurationBase, Definitions, Kernel, Location, Name, PackageFile, Prebuilt, Source, Srpm, Toolchain, srpm, toolchain};
use crate::input;

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
    /// A variant is built in a clone of its base's built tree, so its source, its toolchain and the base of its configuration are its base's.
    #[error("`{kernel}` takes its {what} from `{origin}`; replace the {what} of `{origin}`")]
    Inherited {
        /// The variant.
        kernel: Name,
        /// What it takes.
        what: &'static str,
        /// The kernel that has it.
        origin: Name,
    },
    /// A package can't take the place of a source tree, nor a source tree that of a package.
    #[error("`{kernel}` {}", if *prebuilt { "is prebuilt: name a kernel package (.deb or .rpm)" } else { "is built from source: name a source tree or a tar archive" })]
    Kind {
        /// The kernel.
        kernel: Name,
        /// Whether its definition says that it is prebuilt.
        prebuilt: bool,
    },
    /// A prebuilt kernel has neither a toolchain nor a configuration of ours.
    #[error("`{kernel}` is prebuilt and has no {what} to replace: leave the option out")]
    Unbuilt {
        /// The kernel.
        kernel: Name,
        /// What it doesn't have.
        what: &'static str,
    },
    /// A vault is neither a URL nor a folder.
    #[error("{vault:?} is no vault: name a URL that begins with https://, or a folder that holds source packages")]
    NoVault {
        /// What was given.
        vault: String,
    },
    /// A word names no toolchain.
    #[error("{message}; {remedy}")]
    NoToolchain {
        /// What is wrong.
        message: String,
        /// What to do about it.
        remedy: String,
    },
    /// A path is no configuration.
    #[error("{} is no configuration: {problem}; name a file such as a kernel's `.config`", path.display())]
    NoConfiguration {
        /// The path.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Several sources that can't be those of one kernel.
    #[error("`{kernel}` has several sources: name one, or the packages (.deb or .rpm) of one prebuilt kernel")]
    SeveralSources {
        /// The kernel.
        kernel: Name,
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
const PACKAGES: [&str; 2] = [".deb", ".rpm"];

/// How long a reproducer runs: `40s`, `2min` or `8h`.
///
/// # Errors
/// When it is none, with what to write instead.
pub fn duration(word: &str) -> Result<Duration, String> {
    words::seconds(word).map_err(|wrong| format!("{}; {}", wrong.message, wrong.remedy))
}

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
        } else if let (true, true, Some(srpm)) = (found.is_file(), name.ends_with(srpm::ENDING), Srpm::at(&found)) {
            Ok(Self::Srpm(srpm))
        } else if found.is_file() && PACKAGES.iter().any(|ending| name.ends_with(ending)) {
            Ok(Self::Prebuilt(Prebuilt::Files(vec![PackageFile { location: Location::Path(found), sha256: None }])))
        } else {
            let endings = ARCHIVES.iter().chain(&[srpm::ENDING]).copied().collect::<Vec<_>>().join(", ");
            Err(no_source(&format!("neither a folder nor a file that ends in {endings}, {}", PACKAGES.join(" or "))))
        }
    }

    /// A source that takes another one's place. If it is the same source package by its name, what the definition knows of that is still to hold; another
    /// one (an erratum's) is the user's word.
    fn instead_of(self, defined: &Self) -> Self {
        match (self, defined) {
            (Self::Srpm(given), Self::Srpm(defined)) if given.file == defined.file => {
                Self::Srpm(Srpm { file: given.file, path: given.path, vault: given.vault, ..defined.clone() })
            }
            (given, _) => given,
        }
    }

    /// The source of a kernel at several paths, which are the packages between which a distribution divided it.
    ///
    /// # Errors
    /// When a path is no source, or several aren't all packages.
    pub fn from_paths(kernel: &Name, paths: &[&Path]) -> Result<Self, OverrideError> {
        let mut sources = paths.iter().map(|path| Self::from_path(path)).collect::<Result<Vec<_>, _>>()?;
        if let [_] = sources.as_slice() {
            return Ok(sources.remove(0));
        }
        let files = sources.into_iter().map(|source| match source {
            Self::Prebuilt(Prebuilt::Files(files)) => Ok(files),
            _ => Err(OverrideError::SeveralSources { kernel: kernel.clone() }),
        });
        Ok(Self::Prebuilt(Prebuilt::Files(files.collect::<Result<Vec<_>, _>>()?.concat())))
    }
}

impl Toolchain {
    /// The toolchain of a word: `host:COMPILER`, `debian:SUITE:COMPILER` or `container:IMAGE:COMPILER`.
    ///
    /// # Errors
    /// When it has another form.
    pub fn from_word(word: &str) -> Result<Self, OverrideError> {
        toolchain::from_word(word).map_err(|wrong| OverrideError::NoToolchain { message: wrong.message, remedy: wrong.remedy })
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
    pub fn with_source(self, kernel: &Name, source: &Source) -> Result<Self, OverrideError> {
        let is_prebuilt = |source: &Source| matches!(source, Source::Prebuilt(_));
        // A name that isn't there is `with_root`'s to report.
        if let Some(prebuilt) = self.kernels.get(kernel).filter(|kernel| kernel.base.is_none()).map(|kernel| is_prebuilt(&kernel.source))
            && prebuilt != is_prebuilt(source)
        {
            return Err(OverrideError::Kind { kernel: kernel.clone(), prebuilt });
        }
        self.with_root(kernel, "source", |kernel| kernel.source = source.clone().instead_of(&kernel.source))
    }

    /// Replaces the toolchain of a kernel and of all that extend it.
    ///
    /// # Errors
    /// When there is no such kernel, or it is a variant.
    pub fn with_toolchain(self, kernel: &Name, toolchain: &Toolchain) -> Result<Self, OverrideError> {
        self.is_built(kernel, "toolchain")?;
        self.with_root(kernel, "toolchain", |kernel| kernel.toolchain.clone_from(toolchain))
    }

    /// Replaces the base of the configuration of a kernel and of all that extend it by a file.
    ///
    /// # Errors
    /// When there is no such kernel, it is a variant, or the file can't be read.
    pub fn with_configuration(self, kernel: &Name, file: &Path) -> Result<Self, OverrideError> {
        let no_configuration = |problem: String| OverrideError::NoConfiguration { path: file.to_owned(), problem };
        let found = file.canonicalize().map_err(|error| no_configuration(error.to_string()))?;
        if !found.is_file() {
            return Err(no_configuration("not a file".to_owned()));
        }
        self.is_built(kernel, "configuration")?;
        let text = input::read(&found, input::LARGEST_TEXT).map_err(|error| no_configuration(error.to_string()))?;
        let changed =
            self.with_root(kernel, "configuration", |kernel| kernel.configuration.base = ConfigurationBase::File(found.clone()))?;
        if String::from_utf8_lossy(&text).lines().any(|line| line.trim_start_matches("# ").starts_with("CONFIG_")) {
            return Ok(changed);
        }
        Err(no_configuration("it has no line that begins with CONFIG_".to_owned()))
    }

    /// Only a source can take the place of a prebuilt kernel's.
    fn is_built(&self, kernel: &Name, what: &'static str) -> Result<(), OverrideError> {
        let is_prebuilt = self.kernels.get(kernel).is_some_and(|kernel| matches!(kernel.source, Source::Prebuilt(_)));
        if is_prebuilt { Err(OverrideError::Unbuilt { kernel: kernel.clone(), what }) } else { Ok(()) }
    }

    fn with_root(mut self, kernel: &Name, what: &'static str, change: impl Fn(&mut Kernel)) -> Result<Self, OverrideError> {
        let unknown = || OverrideError::UnknownKernel {
            name: kernel.to_string(),
            remedy: nearest(kernel.as_str(), self.kernels.keys().map(Name::as_str)),
        };
        let origin = self.origin(kernel).ok_or_else(unknown)?;
        if origin != kernel {
            return Err(OverrideError::Inherited { kernel: kernel.clone(), what, origin: origin.clone() });
        }
        let line: Vec<Name> = self.kernels.keys().filter(|name| self.origin(name) == Some(kernel)).cloned().collect();
        self.kernels.iter_mut().filter(|(name, _)| line.contains(name)).for_each(|(_, kernel)| change(kernel));
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
