//! The steps of a build, in order, in a scratch tree that becomes visible only when all have succeeded.
//!
//! A kernel whose key is in the store is not built. Two programs that want kernels of one family take turns. This file runs make and moves files;
//! what the key consists of is `plan`'s business.
//!
//! Read [`built`] first.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::BufWriter;

use super::config::{Requests, count_on, without_modules};
use super::error::{BuildError, failed};
use super::plan::{Outcome, Plan};
use super::{Built, CONFIG, IMAGE, MANIFEST, SYSTEM_MAP, VMLINUX, log, make, signature, toolchain};
use crate::event::{Event, Events};
use crate::input;
use crate::program::Deadline;
use crate::source::patch;
use crate::source::seal::{self, Checking};
use crate::source::stop::blocking;
use crate::source::tree::{self, Index, Share};
use crate::spec::{Change, ConfigurationBase, Modules, Toolchain};
use crate::store::{Kept, Lock, Scratch, Store};

/// Where and for whom kernels are built.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where results are kept.
    pub store: &'a Store,
    /// Who wants to know.
    pub events: &'a Events,
    /// How many compilers run at once.
    pub jobs: usize,
    /// Whether kernels extend the one that is wanted, so that its built tree stays.
    pub keep_tree: bool,
}

/// The kernel of a plan: from the store, or built now.
///
/// # Errors
/// When a step fails.
pub async fn built(site: &Site<'_>, plan: &Plan) -> Result<Built, BuildError> {
    if let Some(found) = find(site, plan)? {
        return Ok(found);
    }
    build(site, plan, site.keep_tree).await
}

fn find(site: &Site<'_>, plan: &Plan) -> Result<Option<Built>, BuildError> {
    let Some(mut found) = Built::find(site.store, &plan.key)? else { return Ok(None) };
    // Two kernels may be the same but for their name.
    found.manifest.kernel.clone_from(&plan.kernel.name);
    site.events.send(Event::BuildFinished { kernel: plan.kernel.name.clone(), cached: true, seconds: 0.0 });
    Ok(Some(found))
}

/// A finished tree to clone from; `gc` leaves it alone while the value lives.
struct Origin {
    tree: PathBuf,
    index: Index,
    share: Share,
    _in_use: Option<Lock>,
}

const TREE: &str = "tree";
const INDEX: &str = "index.json";

/// The built tree of a plan: from the store, or built now.
async fn origin(site: &Site<'_>, plan: &Plan) -> Result<Origin, BuildError> {
    let in_use = site.store.in_use(Kept::Trees, &plan.key)?;
    if site.store.find(Kept::Trees, &plan.key).is_none() {
        Box::pin(build(site, plan, true)).await?;
    }
    let folder = site.store.place(Kept::Trees, &plan.key);
    let path = folder.join(INDEX);
    let index = fs::read(&path).map_err(failed("read", &path))?;
    let index = serde_json::from_slice(&index).map_err(|cause| failed("read", &path)(cause.into()))?;
    Ok(Origin { tree: folder.join(TREE), index, share: Share::Shared, _in_use: Some(in_use) })
}

async fn build(site: &Site<'_>, plan: &Plan, keep_tree: bool) -> Result<Built, BuildError> {
    let store = site.store;
    let origin = match &plan.base {
        Some(base) => {
            origin(site, base).await.map_err(|cause| BuildError::Base { base: base.kernel.name.clone(), cause: Box::new(cause) })?
        }
        None => Origin { tree: plan.source.tree.clone(), index: plan.source.index.clone(), share: Share::All, _in_use: None },
    };
    let family = &plan.root().key[..32];
    let name = format!("build-{family}");
    let turn = match store.try_lock(&name)? {
        Some(turn) => turn,
        None => {
            let step = "waiting for another hangproof that builds a kernel of this family".to_owned();
            site.events.send(Event::BuildStep { kernel: plan.kernel.name.clone(), step });
            store.turn(&name).await?
        }
    };
    if !keep_tree || store.find(Kept::Trees, &plan.key).is_some() {
        // Somebody else may have built it while we waited.
        if let Some(found) = find(site, plan)? {
            return Ok(found);
        }
    }
    let log = store.log(&format!("{}-{}.log", plan.kernel.name, &plan.key[..12]));
    let scratch = Arc::new(Place { scratch: store.work_at(family)?, _turn: turn });
    let work = Work {
        site,
        plan,
        started: Instant::now(),
        tree: scratch.path().join(TREE),
        scratch: scratch.clone(),
        log: log.clone(),
        objects: 0,
    };
    let result = work.run(origin, keep_tree).await.map_err(|error| error.or_disk_full(store.root(), Some(&log)));
    discard(store, &scratch.path().join(TREE));
    result
}

/// Removes a tree while others go on: tens of thousands of files take seconds. It is out of the way at once, in a scratch folder of its own.
fn discard(store: &Store, tree: &Path) {
    let Ok(trash) = store.work() else { return };
    if fs::rename(tree, trash.path().join(TREE)).is_ok() {
        drop(tokio::task::spawn_blocking(move || drop(trash)));
    }
}

/// The family's scratch folder, and with it the right to be there: a thread that still works in it keeps others out. Fields are dropped in order.
struct Place {
    scratch: Scratch,
    _turn: Lock,
}

impl Place {
    fn path(&self) -> &Path {
        self.scratch.path()
    }
}

/// A build that goes on.
struct Work<'a> {
    site: &'a Site<'a>,
    plan: &'a Plan,
    started: Instant,
    tree: PathBuf,
    scratch: Arc<Place>,
    log: PathBuf,
    objects: u64,
}

impl Work<'_> {
    async fn run(mut self, origin: Origin, keep_tree: bool) -> Result<Built, BuildError> {
        let (site, plan) = (self.site, self.plan);
        site.events.send(Event::BuildStarted { kernel: plan.kernel.name.clone() });
        fs::write(&self.log, "").map_err(failed("write", &self.log))?;
        self.step("cloning the tree");
        let (from, origins_lock) = (origin.tree.clone(), self.clone_tree(origin).await?);
        let checking = Checking::begin(&from);
        let made = self.make_kernel().await;
        // Before what came out of it: a tree that somebody wrote to may fail in any way.
        if matches!(made, Ok(_) | Err(BuildError::Make { .. } | BuildError::Tree(_))) {
            checking.end().await?;
        }
        drop(origins_lock);
        let config = made?;
        self.step("keeping the results");
        let built = self.keep(&config, keep_tree).await?;
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(same) = built.manifest.same_as_base() {
            site.events.warn(format!("{}: {same}", plan.kernel.name));
        }
        site.events.send(Event::BuildFinished { kernel: plan.kernel.name.clone(), cached: false, seconds });
        Ok(built)
    }

    /// Makes the kernel in the cloned tree. Returns its configuration.
    async fn make_kernel(&mut self) -> Result<String, BuildError> {
        let plan = self.plan;
        self.prepare().await?;
        self.compatibility()?;
        self.patch().await?;
        if plan.configure {
            self.step("configuring");
            self.configure().await?;
        }
        let config = self.configuration()?;
        toolchain::check(&plan.room, &plan.kernel.toolchain, &config).await?;
        self.step("compiling");
        self.compile(&config).await?;
        Ok(config)
    }

    fn step(&self, step: impl Into<String>) {
        self.site.events.send(Event::BuildStep { kernel: self.plan.kernel.name.clone(), step: step.into() });
    }

    /// Returns what keeps the origin in the store.
    async fn clone_tree(&self, origin: Origin) -> Result<Option<Lock>, BuildError> {
        let (tree, scratch) = (self.tree.clone(), self.scratch.clone());
        let cloned = blocking(move |stop| {
            // An earlier version of this program sealed none.
            seal::seal(&origin.tree, stop)?;
            let cloned = tree::clone(&origin.tree, &tree, origin.share, &origin.index, stop);
            drop(scratch);
            cloned.map(|()| origin._in_use)
        });
        Ok(cloned.await?)
    }

    /// Makes a tree of a stranger's one that hasn't been built in.
    async fn prepare(&self) -> Result<(), BuildError> {
        if self.plan.base.is_none() && !self.tree.join("Makefile").is_file() {
            return Err(BuildError::NoSource { kernel: self.plan.kernel.name.clone() });
        }
        // A folder that somebody built in: its objects are of another path and perhaps of another compiler.
        let stale = ["include/config", "include/generated", ".config"];
        if self.plan.base.is_none() && stale.iter().any(|path| self.tree.join(path).exists()) {
            self.make(&["mrproper"]).await?;
        }
        Ok(())
    }

    /// Tells the compatibility changes, and copies the files that they copy.
    fn compatibility(&self) -> Result<(), BuildError> {
        for (change, applied) in self.plan.own_changes() {
            self.step(format!("for compatibility: {}", applied.shown()));
            match change {
                Change::Copy { from, to } => self.copy(from, to)?,
                Change::Patch(_) | Change::Make(_) | Change::Flags(_) | Change::Configuration(_) => {}
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<(), BuildError> {
        let (from, to) = (self.tree.join(from), self.tree.join(to));
        // A tree is a stranger's: no link in it may lead out of it.
        let root = self.tree.canonicalize().map_err(failed("find", &self.tree))?;
        let stays = |path: &Path| path.canonicalize().map(|real| real.starts_with(&root)).map_err(failed("find", path));
        if !stays(&from)? || !stays(to.parent().unwrap_or(&root))? || to.symlink_metadata().is_ok() {
            return Err(failed("copy within the tree to", &to)(io::ErrorKind::InvalidInput.into()));
        }
        fs::copy(&from, &to).map(drop).map_err(failed("copy", &from))
    }

    async fn patch(&mut self) -> Result<(), BuildError> {
        let patches = &self.plan.patches;
        if patches.is_empty() {
            return Ok(());
        }
        self.step(if patches.len() == 1 { "applying 1 patch".to_owned() } else { format!("applying {} patches", patches.len()) });
        let applied = patch::apply(&self.tree, patches).await?;
        for (patch, applied) in patches.iter().zip(applied) {
            for offset in applied.offsets {
                self.site.events.warn(format!("{}: patch {}: {offset}", self.plan.kernel.name, patch.display()));
            }
        }
        Ok(())
    }

    /// The tree's configuration as it is.
    fn configuration(&self) -> Result<String, BuildError> {
        let path = tree::regular(&self.tree, Path::new(".config"))?;
        input::read_text(&path).map_err(failed("read", &path))
    }

    async fn configure(&mut self) -> Result<(), BuildError> {
        let path = self.tree.join(".config");
        let configuration = &self.plan.kernel.configuration;
        let base = match &configuration.base {
            ConfigurationBase::Defconfig => {
                self.make(&["defconfig"]).await?;
                self.configuration()?
            }
            ConfigurationBase::Allnoconfig => {
                self.make(&["allnoconfig"]).await?;
                self.configuration()?
            }
            ConfigurationBase::File(file) => input::read_text(file).map_err(failed("read", file))?,
            ConfigurationBase::Vendor(file) if self.tree.join(file).symlink_metadata().is_err() => {
                return Err(BuildError::NoVendor { path: file.clone(), kernel: self.plan.root().kernel.name.clone() });
            }
            ConfigurationBase::Vendor(file) => {
                let file = tree::regular(&self.tree, file)?;
                input::read_text(&file).map_err(failed("read", &file))?
            }
            // A prebuilt kernel's: `build` plans none.
            ConfigurationBase::Package => return Ok(()),
        };
        let base = match configuration.modules {
            Modules::Keep => base,
            Modules::Off => without_modules(&base),
        };
        let mut requests = Requests::default();
        for (change, applied) in &self.plan.changes {
            match change {
                Change::Configuration(symbols) => requests.ask(symbols, &applied.change),
                Change::Patch(_) | Change::Copy { .. } | Change::Make(_) | Change::Flags(_) => {}
            }
        }
        requests.read(&configuration.fragments)?;
        // Never through a link into the pristine tree.
        let _ = fs::remove_file(&path);
        fs::write(&path, requests.laid_over(&base)).map_err(failed("write", &path))?;
        self.make(&["olddefconfig"]).await?;
        let lost = requests.not_set(&self.configuration()?, &self.tree);
        if lost.is_empty() { Ok(()) } else { Err(BuildError::Config(lost)) }
    }

    /// How many objects the last build of this kind had; a first build from the source has about two for each option that is on.
    ///
    /// Measured: Linux 6.1.192, allnoconfig + 80 options: 634 `=y`, 1,279 objects.
    fn expected(&self, config: &str) -> (String, Option<u64>) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(config.as_bytes());
        for patch in self.plan.patches.iter().filter(|_| self.plan.base.is_some()) {
            hasher.update(patch.as_os_str().as_encoded_bytes()).update(&[0]);
        }
        let note = format!("objects-{}", &hasher.finalize().to_hex()[..32]);
        let guess = self.plan.base.is_none().then(|| count_on(config) as u64 * OBJECTS_PER_100_OPTIONS / 100);
        let known = self.site.store.recall(&note);
        (note, known.or(guess))
    }

    async fn compile(&mut self, config: &str) -> Result<(), BuildError> {
        let (note, expected) = self.expected(config);
        let (events, kernel) = (self.site.events, &self.plan.kernel.name);
        events.send(Event::BuildProgress { kernel: kernel.clone(), objects: 0, expected });
        let mut objects = 0;
        let count = |line: &str| {
            if log::is_object(line) {
                objects += 1;
                events.send(Event::BuildProgress { kernel: kernel.clone(), objects, expected });
            }
        };
        self.make_with(&["bzImage", "vmlinux"], count).await?;
        self.objects = objects;
        self.site.store.remember(&note, &objects);
        Ok(())
    }

    async fn make(&self, targets: &[&str]) -> Result<(), BuildError> {
        self.make_with(targets, |_| ()).await
    }

    async fn make_with(&self, targets: &[&str], on_line: impl FnMut(&str)) -> Result<(), BuildError> {
        let plan = self.plan;
        let (mut flags, mut variables) = (Vec::new(), Vec::new());
        for (change, _) in &plan.changes {
            match change {
                Change::Flags(new) => flags.extend(new.iter().cloned()),
                Change::Make(new) => variables.extend(new.iter().map(|(name, value)| format!("{name}={value}"))),
                Change::Patch(_) | Change::Copy { .. } | Change::Configuration(_) => {}
            }
        }
        let mut words = plan.room.words(Some(&self.tree))?;
        words.extend([OsString::from("make"), OsString::from(format!("-j{}", self.site.jobs.max(1)))]);
        words.extend(toolchain::arguments(&plan.kernel.toolchain, &flags).into_iter().chain(variables).map(OsString::from));
        words.extend(targets.iter().map(OsString::from));
        let mut environment: Vec<_> = plan.settings().iter().map(|(name, value)| (name.as_str(), OsString::from(value))).collect();
        // The store may lie below somebody's repository, and then scripts/setlocalversion would ask git about it.
        environment.push(("GIT_CEILING_DIRECTORIES", self.scratch.path().into()));
        if matches!(plan.kernel.toolchain, Toolchain::Host { .. }) {
            // A compiler that is killed leaves its files; a buildroot's are in its own /tmp, which goes with it.
            let temporary = self.scratch.path().join("tmp");
            fs::create_dir_all(&temporary).map_err(failed("create", &temporary))?;
            environment.push(("TMPDIR", temporary.into()));
        }
        let file = tokio::fs::OpenOptions::new().append(true).open(&self.log).await.map_err(failed("open", &self.log))?;
        let mut log = BufWriter::new(file);
        let run = make::run(&words, &self.tree, &environment, SILENCE, &mut log, on_line).await;
        if run.map_err(|cause| BuildError::of_make(cause, &self.log))?.success() {
            return Ok(());
        }
        let text = fs::read(&self.log).map_err(failed("read", &self.log))?;
        let error = log::first_error(&String::from_utf8_lossy(&text));
        if error.disk_full {
            return Err(BuildError::disk_full(&self.tree, Some(&self.log)));
        }
        let patch = error.file.and_then(|file| plan.patch_of(&file));
        Err(BuildError::Make { target: targets.join(" "), what: error.text, patch, log: self.log.clone() })
    }

    /// Moves the results, and the tree if others extend it, into their places.
    async fn keep(&self, config: &str, keep_tree: bool) -> Result<Built, BuildError> {
        let plan = self.plan;
        let store = self.site.store.clone();
        let base = plan
            .base
            .as_ref()
            .and_then(|base| Built::find(&store, &base.key).ok().flatten())
            .and_then(|built| built.manifest.elf_signature);
        let (tree, scratch, log) = (self.tree.clone(), self.scratch.clone(), self.log.clone());
        let signed = blocking(move |_| {
            let _scratch = scratch;
            let path = tree::regular(&tree, Path::new("vmlinux"))?;
            signature::of(&path).map_err(|why| BuildError::NoKernel { path, why, log })
        });
        let elf_signature = signed.await?;
        let unchanged_from_base = base.as_ref() == Some(&elf_signature);
        let outcome = Outcome {
            config_blake3: blake3::hash(config.as_bytes()).to_hex().to_string(),
            options_on: count_on(config),
            seconds: self.started.elapsed().as_secs_f64(),
            objects: self.objects,
            elf_signature,
            unchanged_from_base,
        };
        let manifest =
            serde_json::to_vec_pretty(&plan.manifest(outcome)).map_err(|cause| failed("write", Path::new(MANIFEST))(cause.into()))?;
        let (tree, scratch, key) = (self.tree.clone(), self.scratch.clone(), plan.key.clone());
        blocking(move |stop| {
            let results = scratch.path().join("results");
            fs::create_dir(&results).map_err(failed("create", &results))?;
            let wanted = [("arch/x86/boot/bzImage", IMAGE), ("vmlinux", VMLINUX), ("System.map", SYSTEM_MAP), (".config", CONFIG)];
            for (made, name) in wanted {
                let (made, place) = (tree::regular(&tree, Path::new(made))?, results.join(name));
                let moved = if keep_tree { fs::copy(&made, &place).map(drop) } else { fs::rename(&made, &place) };
                moved.map_err(failed("keep", &made))?;
            }
            let path = results.join(MANIFEST);
            fs::write(&path, manifest).map_err(failed("write", &path))?;
            store.keep(Kept::Builds, &key, &results)?;
            if keep_tree {
                let finished = scratch.path().join("finished");
                fs::create_dir(&finished).map_err(failed("create", &finished))?;
                fs::rename(&tree, finished.join(TREE)).map_err(failed("keep", &tree))?;
                let index = serde_json::to_vec(&tree::index(&finished.join(TREE))?).map_err(io::Error::from);
                index.and_then(|index| fs::write(finished.join(INDEX), index)).map_err(failed("write", &finished))?;
                seal::seal(&finished.join(TREE), stop)?;
                store.keep(Kept::Trees, &key, &finished)?;
            }
            Built::find(&store, &key)?.ok_or_else(|| failed("find", Path::new(&key))(io::ErrorKind::NotFound.into()))
        })
        .await
    }
}

/// How long make may say nothing. It names each file that it compiles; the longest steps are links of a whole kernel, which take seconds, with
/// link-time optimisation minutes: far more than that, for a loaded machine.
const SILENCE: Deadline = Deadline::Silent(Duration::from_secs(30 * 60));

/// See [`Work::expected`].
const OBJECTS_PER_100_OPTIONS: u64 = 202;
