//! A distribution's own kernel: taken out of its package instead of built, with the modules that a guest needs to reach its disks.
//!
//! The result is a [`Built`] like any other but for what a package doesn't hold: vmlinux. Nothing is patched, configured or compiled.
//!
//! Read [`built`] first.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::config::count_on;
use super::error::{BuildError, failed};
use super::manifest::{ConfigurationRecord, FORMAT, Manifest};
use super::modules::{Module, REQUIRED, Tables, WELCOME};
use super::{Built, CONFIG, IMAGE, MANIFEST, MODULES, SYSTEM_MAP};
use crate::event::{Event, Events};
use crate::image::initramfs;
use crate::input;
use crate::program::Program;
use crate::source::stop::blocking;
use crate::source::{self, Fetched, decompressed};
use crate::spec::{Kernel, Modules};
use crate::store::{Kept, Store};

/// Largest table of modules: `modules.alias` of Debian's 6.1 has 1.3 MB.
const LARGEST_TABLE: u64 = 64 << 20;

/// Why a package's kernel can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PrebuiltError {
    /// There is no kernel image in it.
    #[error("package {package} holds no kernel (boot/vmlinuz-*): name the package with the kernel itself")]
    NoImage {
        /// The package.
        package: String,
    },
    /// There are several.
    #[error("package {package} holds several kernels ({}): name a package with one", images.join(", "))]
    SeveralImages {
        /// The package.
        package: String,
        /// The images.
        images: Vec<String>,
    },
    /// The image isn't one that QEMU starts.
    #[error("{image} of package {package} is no x86 bzImage: name a package for amd64 (x86_64)")]
    NotBzImage {
        /// The package.
        package: String,
        /// The image.
        image: String,
    },
    /// The configuration isn't in it.
    #[error("package {package} holds no {file}: name the distribution's own package, which has it")]
    NoConfiguration {
        /// The package.
        package: String,
        /// Where it should be.
        file: String,
    },
    /// Drivers are neither modules of the package nor built in.
    #[error(
        "the kernel of package {package} lacks {}, neither as modules nor built in, and no guest gets ready without: name a package that brings them",
        missing.join(", ")
    )]
    MissingModules {
        /// The package.
        package: String,
        /// The drivers.
        missing: Vec<String>,
    },
    /// The package's table of modules names a file that isn't below its folder.
    #[error("modules.dep of package {package} is damaged or hostile, at {line:?}: fetch the package again, from somebody you trust")]
    Table {
        /// The package.
        package: String,
        /// The line.
        line: String,
    },
    /// One of the package's tables of modules can't be read.
    #[error("{table} of package {package} can't be read ({why}): fetch the package again, from somebody you trust")]
    UnreadableTable {
        /// The package.
        package: String,
        /// The table.
        table: &'static str,
        /// Why not.
        why: String,
    },
    /// A module can't be read.
    #[error("module {} of package {package}: {why}; fetch the package again", module.display())]
    Module {
        /// The package.
        package: String,
        /// The module's file in the kernel's folder.
        module: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Most bytes of a kernel's chosen modules together: all that Debian's 6.1 gives a guest have 4 MiB, and amdgpu, its largest module, 13 MiB.
const MOST_MODULES: u64 = 256 << 20;

/// The kernel of a package: from the store, or taken out of it now.
///
/// # Errors
/// When the package can't be had, or holds no kernel that a guest can start with.
pub async fn built(store: &Store, kernel: &Kernel, events: &Events) -> Result<Built, BuildError> {
    let started = Instant::now();
    let fetched = source::fetch(store, &kernel.source, events).await?;
    let key = key(&fetched);
    let finished = |cached| Event::BuildFinished { kernel: kernel.name.clone(), cached, seconds: started.elapsed().as_secs_f64() };
    if let Some(mut found) = Built::find(store, &key)? {
        found.manifest.kernel.clone_from(&kernel.name);
        events.send(finished(true));
        return Ok(found);
    }
    events.send(Event::BuildStarted { kernel: kernel.name.clone() });
    events.send(Event::BuildStep { kernel: kernel.name.clone(), step: "choosing modules".to_owned() });
    let files = Files::find(&fetched)?;
    let modules = files.modules().await?;
    events.send(Event::BuildStep { kernel: kernel.name.clone(), step: format!("taking {} modules", modules.len()) });
    let (store, name) = (store.clone(), kernel.name.clone());
    let built = blocking(move |stop| {
        let scratch = store.work()?;
        let results = scratch.path().join("results");
        fs::create_dir(&results).map_err(failed("create", &results))?;
        let copy = |from: &Path, name: &str| fs::copy(from, results.join(name)).map(drop).map_err(failed("keep", from));
        copy(&files.image, IMAGE)?;
        copy(&files.config, CONFIG)?;
        if let Some(system_map) = &files.system_map {
            copy(system_map, SYSTEM_MAP)?;
        }
        let (mut loose, mut left) = (Vec::new(), MOST_MODULES);
        for module in &modules {
            stop.check().map_err(failed("copy", &module.file))?;
            let file = scratch.path().join(format!("{}.ko", module.name));
            left -= files.take_module(module, &file, left)?;
            loose.push((module.name.clone(), file));
        }
        if !loose.is_empty() {
            initramfs::of_modules(&loose, &results.join(MODULES))?;
        }
        let config = input::read(&files.config, input::LARGEST_TEXT).map_err(failed("read", &files.config))?;
        let manifest = Manifest {
            kernel: name,
            key: key.clone(),
            base: None,
            base_key: None,
            source: fetched.provenance.clone(),
            toolchain: None,
            configuration: ConfigurationRecord {
                base: files.in_package(&files.config),
                modules: Modules::Keep,
                fragments: Vec::new(),
                config_blake3: blake3::hash(&config).to_hex().to_string(),
                options_on: count_on(&String::from_utf8_lossy(&config)),
            },
            compatibility: Vec::new(),
            patches: Vec::new(),
            settings: std::collections::BTreeMap::new(),
            seconds: started.elapsed().as_secs_f64(),
            objects: 0,
            elf_signature: None,
            unchanged_from_base: false,
            modules: modules.into_iter().map(|module| module.name).collect(),
        };
        let path = results.join(MANIFEST);
        let written = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).and_then(|text| fs::write(&path, text));
        written.map_err(failed("write", &path))?;
        store.keep(Kept::Builds, &key, &results)?;
        Built::find(&store, &key)?.ok_or_else(|| failed("find", Path::new(&key))(io::ErrorKind::NotFound.into()))
    });
    let built = built.await?;
    events.send(finished(false));
    Ok(built)
}

fn key(fetched: &Fetched) -> String {
    let inputs = format!("{FORMAT} prebuilt {} {REQUIRED:?} {WELCOME:?}", fetched.digest);
    blake3::hash(inputs.as_bytes()).to_hex().to_string()
}

/// Where a kernel's files are in the tree of its package.
#[derive(Debug, Clone)]
struct Files {
    package: String,
    tree: PathBuf,
    image: PathBuf,
    config: PathBuf,
    system_map: Option<PathBuf>,
    /// `lib` or `usr/lib` of the tree, and the kernel's release: its modules are in `modules/RELEASE` below the former, if it has any.
    library: PathBuf,
    release: String,
}

impl Files {
    fn find(fetched: &Fetched) -> Result<Self, BuildError> {
        let package = shown(fetched);
        let tree = fetched.tree.clone();
        let libraries = ["lib", "usr/lib"].map(|name| tree.join(name));
        let mut images = Vec::new();
        for (release, image) in
            entries(&tree.join("boot")).filter_map(|(name, path)| Some((name.strip_prefix("vmlinuz-")?.to_owned(), path)))
        {
            images.push((release, image));
        }
        // Where newer rpm packages have it.
        if images.is_empty() {
            let folders = libraries.iter().flat_map(|library| entries(&library.join("modules")));
            images.extend(folders.map(|(release, folder)| (release, folder.join("vmlinuz"))).filter(|(_, image)| image.is_file()));
        }
        let shown_path = |path: &Path| path.strip_prefix(&tree).unwrap_or(path).display().to_string();
        if images.len() > 1 {
            let images = images.iter().map(|(_, image)| shown_path(image)).collect();
            return Err(PrebuiltError::SeveralImages { package, images }.into());
        }
        let Some((release, image)) = images.pop() else { return Err(PrebuiltError::NoImage { package }.into()) };
        if !is_bz_image(&image).map_err(failed("read", &image))? {
            return Err(PrebuiltError::NotBzImage { package, image: shown_path(&image) }.into());
        }
        let library = libraries.iter().find(|library| library.join("modules").join(&release).is_dir()).unwrap_or(&libraries[0]).clone();
        let folder = library.join("modules").join(&release);
        let place = |name: &str| {
            let places = [tree.join("boot").join(format!("{name}-{release}")), folder.join(name)];
            places.into_iter().find(|path| path.is_file())
        };
        let config = place("config");
        let config =
            config.ok_or_else(|| PrebuiltError::NoConfiguration { package: package.clone(), file: format!("boot/config-{release}") })?;
        // Debian's is one line that says where the real one is.
        let system_map = place("System.map").filter(|path| path.metadata().is_ok_and(|found| found.len() > LEAST_SYSTEM_MAP));
        Ok(Self { package, tree, image, config, system_map, library, release })
    }

    fn folder(&self) -> PathBuf {
        self.library.join("modules").join(&self.release)
    }

    fn in_package(&self, path: &Path) -> String {
        path.strip_prefix(&self.tree).unwrap_or(path).display().to_string()
    }

    /// The modules that a guest needs, in the order in which they are loaded.
    async fn modules(&self) -> Result<Vec<Module>, BuildError> {
        let folder = self.folder();
        let table = |table: &'static str| match input::read(&folder.join(table), LARGEST_TABLE) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(PrebuiltError::UnreadableTable { package: self.package.clone(), table, why: cause.to_string() }),
        };
        let tables = match table("modules.dep")? {
            Some(dependencies) => {
                let [alias, softdep] = ["modules.alias", "modules.softdep"].map(table);
                [dependencies, alias?.unwrap_or_default(), softdep?.unwrap_or_default()].join("\n")
            }
            None if folder.is_dir() => self.depmod().await?,
            // Everything built in, or nothing.
            None => String::new(),
        };
        let tables = Tables::read(&tables, &table("modules.builtin")?.unwrap_or_default());
        let tables = tables.map_err(|line| PrebuiltError::Table { package: self.package.clone(), line })?;
        let order = tables.order();
        Ok(order.map_err(|missing| PrebuiltError::MissingModules { package: self.package.clone(), missing })?)
    }

    /// The tables of a package that leaves them to the machine that installs it, as Debian's do. The tree is not written to.
    async fn depmod(&self) -> Result<String, BuildError> {
        // An ordinary user's PATH lacks the folder that it is in.
        let place = crate::program::find("depmod").unwrap_or_else(|| PathBuf::from("/usr/sbin/depmod"));
        let mut depmod = Program::new(&place, "kmod");
        let root = self.library.parent().unwrap_or(&self.library);
        depmod.command.arg("-n").arg("-b").arg(root).arg("--").arg(&self.release);
        Ok(String::from_utf8_lossy(&depmod.success().await?).into_owned())
    }

    /// Writes a module of at most `most` bytes to `into`, decompressed: not every kernel that has compressed modules can decompress them itself
    /// (`MODULE_DECOMPRESS`, 5.17). Returns how many bytes it has.
    fn take_module(&self, module: &Module, into: &Path, most: u64) -> Result<u64, BuildError> {
        let wrong = |why: String| PrebuiltError::Module { package: self.package.clone(), module: module.file.clone(), why };
        let file = input::open(&self.folder().join(&module.file)).map_err(|cause| wrong(cause.to_string()))?;
        let mut bytes = decompressed(file).map_err(|cause| wrong(cause.to_string()))?.take(most + 1);
        let mut out = File::create(into).map_err(failed("create", into))?;
        let copied = io::copy(&mut bytes, &mut out).map_err(|cause| wrong(cause.to_string()))?;
        if copied > most {
            return Err(wrong(format!("with it, the modules have more than {} MiB", MOST_MODULES >> 20)).into());
        }
        Ok(copied)
    }
}

/// A real one of Debian's 6.1 has 4 MB.
const LEAST_SYSTEM_MAP: u64 = 4096;

/// The package as messages show it.
fn shown(fetched: &Fetched) -> String {
    match &fetched.provenance {
        source::Provenance::Prebuilt { package, .. } => package.clone(),
        other => format!("{other:?}"),
    }
}

/// Names and paths of a folder, in order; nothing if there is no folder.
fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> = found.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    entries.sort();
    entries.into_iter()
}

/// `HdrS` at 0x202 (Documentation/arch/x86/boot.rst).
fn is_bz_image(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(0x206).read_to_end(&mut start)?;
    Ok(start.get(0x202..0x206) == Some(b"HdrS"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_table_that_is_too_large_is_told() {
        let tree = tempfile::tempdir().unwrap();
        let place = tree.path().to_owned();
        let files = Files {
            package: "linux.deb".into(),
            image: place.join("vmlinuz"),
            config: place.join("config"),
            system_map: None,
            library: place.join("lib"),
            release: "6.1".into(),
            tree: place,
        };
        fs::create_dir_all(files.folder()).unwrap();
        fs::write(files.folder().join("modules.dep"), "").unwrap();
        for table in ["modules.builtin", "modules.softdep", "modules.alias", "modules.dep"] {
            File::create(files.folder().join(table)).unwrap().set_len(LARGEST_TABLE + 1).unwrap();
            let said = files.modules().await.unwrap_err().to_string();
            let expected = "of package linux.deb can't be read (has more than 64 MiB: name a smaller file): fetch the package again, from somebody you trust";
            assert_eq!(said, format!("{table} {expected}"));
        }
    }
}
