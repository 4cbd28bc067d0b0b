//! Building kernels: from a definition to bzImage, vmlinux, System.map and a record of everything that went into them.
//!
//! Results are named by a key of all inputs and found again by it. A kernel that others extend leaves its built tree, in whose clone they compile
//! only what their patches touch. All trees of one family are built at the same path, one at a time: objects and `.cmd` files name paths, and a
//! clone elsewhere would compile far more than it has to. The source tree is never built in. A prebuilt kernel is taken out of its package and
//! looks the same afterwards. Whether a kernel boots is not known here.
//!
//! Read [`build`] first, then `work`, which has the steps in order.

mod buildroot;
mod compatibility;
pub mod config;
mod error;
pub mod gc;
mod log;
mod make;
mod manifest;
mod modules;
mod plan;
mod prebuilt;
mod room;
pub mod signature;
mod toolchain;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use buildroot::Inside;
pub use compatibility::Applied;
pub use error::BuildError;
pub use manifest::{ConfigurationRecord, FileRecord, Manifest, THE_SAME};
pub use prebuilt::PrebuiltError;
pub use room::Room;
pub use toolchain::Tools;

use crate::event::{Event, Events};
use crate::image::initramfs::Modules;
use crate::spec::{Definitions, Kernel, Source};
use crate::store::{Kept, Lock, Store};
use error::failed;
use plan::Plan;

/// A built kernel in the store. `gc` leaves it alone while the value lives.
#[derive(Debug, Clone)]
pub struct Built {
    /// Digest of everything that went into it.
    pub key: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// The bzImage.
    pub image: PathBuf,
    /// The ELF file with symbols; a prebuilt kernel has none.
    pub vmlinux: Option<PathBuf>,
    /// Addresses of symbols; not every package has them.
    pub system_map: Option<PathBuf>,
    /// What is loaded at boot; none where the drivers are built in.
    pub modules: Option<Modules>,
    /// The configuration.
    pub config: PathBuf,
    /// Everything that went into it.
    pub manifest: Manifest,
    _in_use: Arc<Lock>,
}

/// The names of a kernel's files in its folder.
pub(crate) const IMAGE: &str = "bzImage";
pub(crate) const VMLINUX: &str = "vmlinux";
pub(crate) const SYSTEM_MAP: &str = "System.map";
pub(crate) const CONFIG: &str = "config";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const MODULES: &str = "modules.cpio";

/// Builds a kernel, and first the kernels that it extends, unless they are in the store. `jobs` is how many compilers run at once.
///
/// Dropping the future ends make and leaves nothing behind.
///
/// # Errors
/// When the source can't be had, a patch doesn't apply, the configuration can't be kept, or make fails.
pub async fn build(store: &Store, definitions: &Definitions, kernel: &Kernel, events: &Events, jobs: usize) -> Result<Built, BuildError> {
    build_for(store, definitions, kernel, events, jobs, definitions.is_base(&kernel.name)).await
}

/// As [`build`], and says whether the built tree is to stay, because kernels will extend this one.
///
/// # Errors
/// As [`build`].
pub async fn build_for(
    store: &Store,
    definitions: &Definitions,
    kernel: &Kernel,
    events: &Events,
    jobs: usize,
    keep_tree: bool,
) -> Result<Built, BuildError> {
    let built = async {
        match &kernel.source {
            Source::Prebuilt(_) => prebuilt::built(store, kernel, events).await,
            Source::Debian { .. } | Source::Tarball { .. } | Source::Git { .. } | Source::Directory { .. } | Source::Srpm(_) => {
                let plan = Plan::of(store, definitions, kernel, events).await?;
                work::built(&work::Site { store, events, jobs, keep_tree }, &plan).await
            }
        }
    };
    let built = built.await.map_err(|error| error.or_disk_full(store.root(), None));
    if let Err(error) = &built {
        events.send(Event::BuildFailed { kernel: kernel.name.clone(), error: error.to_string() });
    }
    built
}

impl Built {
    /// The results of a key, if they are in the store.
    fn find(store: &Store, key: &str) -> Result<Option<Self>, BuildError> {
        let in_use = Arc::new(store.in_use(Kept::Builds, key)?);
        let Some(folder) = store.find(Kept::Builds, key) else { return Ok(None) };
        let manifest = read_manifest(&folder)?;
        let [image, config] = [IMAGE, CONFIG].map(|name| folder.join(name));
        let [vmlinux, system_map, archive] =
            [VMLINUX, SYSTEM_MAP, MODULES].map(|name| Some(folder.join(name)).filter(|path| path.exists()));
        let modules = archive.map(|archive| Modules::new(archive, &manifest.modules));
        Ok(Some(Self { key: key.to_owned(), folder, image, vmlinux, system_map, modules, config, manifest, _in_use: in_use }))
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, BuildError> {
    let path = folder.join(MANIFEST);
    let text = std::fs::read(&path).map_err(failed("read", &path))?;
    serde_json::from_slice(&text).map_err(|cause| failed("read", &path)(cause.into()))
}
