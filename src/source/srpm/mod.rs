//! Source packages (SRPMs): the tarball in one, with the package's patches and configurations, as its spec file puts them together.
//!
//! The package comes from a vault, a URL or a folder; a folder may hold the bare tarball instead. Nothing of a package is run: the spec file is read,
//! not executed, and its patches are applied by patch(1) told to take them for nothing but unified diffs. The configurations (`kernel-*.config`) are
//! laid at the tree's top, where `configuration: base: {vendor: ...}` finds them. A package whose digest was seen before is found without its file.
//!
//! Read [`fetch`] first, then [`own_patches`], which a search over the package's patches needs.

mod apply;
mod distribution;
mod error;
mod macros;
mod package;
mod scripts;
mod shell;
mod signature;
mod spec;
mod undo;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::SrpmError;
pub use package::{LIMITS, MAGIC, Package, pass_headers};
pub use spec::{Hook, Recipe, Refused};
pub use undo::{OwnPatch, OwnPatches};

use super::digest::{Hashing, sha256, sha256_and_sha1};
use super::stop::{Stop, blocking};
use super::{Fetched, Provenance, Remembered, SourceError, TREE, download, failed, keep, kept, tarball, unpack_tree, unreadable};
use crate::event::Events;
use crate::input;
use crate::program::Program;
use crate::spec::{Location, PublishedDigest, Srpm, SrpmTarball};
use crate::store::{Kept, Scratch, Store};

/// A patch that a package brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PatchRecord {
    /// Its file name.
    pub name: String,
    /// SHA-256 of it.
    pub sha256: String,
    /// Whether it was applied; the spec file leaves out what `ApplyOptionalPatch` finds too short, and what no line applies.
    pub applied: bool,
}

/// What a definition meant, when it was last brought.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Brought {
    sha256: String,
    /// The vault, the file in it, and the fingerprint of the key that was asked for.
    vault: String,
    location: String,
    signed_by: Option<String>,
}

/// A note of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Noted {
    Brought(Brought),
    /// The SHA-256 only, as earlier versions of this program wrote it.
    Digest(String),
}

impl From<Noted> for Brought {
    fn from(noted: Noted) -> Self {
        let unknown = || "an unknown place".to_owned();
        match noted {
            Noted::Brought(brought) => brought,
            Noted::Digest(sha256) => Self { sha256, vault: unknown(), location: unknown(), signed_by: None },
        }
    }
}

/// Part of every tree's name: raised when the same package would give another tree.
const FORMAT: u32 = 1;

/// The file that was found.
enum Found {
    /// The package.
    Package(PathBuf),
    /// The tarball of the definition.
    Tarball(PathBuf, SrpmTarball),
}

/// What a package is brought for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Its tree.
    Tree,
    /// Its tree, and its patches one by one.
    Patches,
}

/// Brings the source tree of a package.
pub async fn fetch(store: &Store, srpm: &Srpm, events: &Events) -> Result<Fetched, SourceError> {
    let fetched = bring(store, srpm, Wanted::Tree, events).await?;
    if let Provenance::Srpm { unrepeated, .. } = &fetched.provenance
        && !unrepeated.is_empty()
    {
        let lines = unrepeated.join("; ");
        events.warn_once(format!(
            "{}: what its spec file does beside patching is not repeated, and may make another kernel: {lines}",
            srpm.file
        ));
    }
    Ok(fetched)
}

/// Brings the patches of a package, and its tree if that isn't there.
pub async fn own_patches(store: &Store, srpm: &Srpm, events: &Events) -> Result<OwnPatches, SourceError> {
    let Fetched { provenance, .. } = bring(store, srpm, Wanted::Patches, events).await?;
    let lost = || failed("find the patches in", &store.place(Kept::Sources, ""))(std::io::ErrorKind::NotFound.into());
    OwnPatches::find(store, &provenance)?.ok_or_else(lost)
}

async fn bring(store: &Store, srpm: &Srpm, wanted: Wanted, events: &Events) -> Result<Fetched, SourceError> {
    let note = note(srpm)?;
    let found = match &srpm.vault {
        Location::Path(folder) => find(folder, srpm),
        Location::Url(_) => None,
    };
    if let Some(found) = found {
        let (sha256, fetched) = match found {
            Found::Package(path) => from_package(store, srpm, &path, path.display().to_string(), wanted).await?,
            Found::Tarball(path, tarball) => {
                events.warn(format!(
                    "using the bare tarball {}: the patches and configurations of {} are not in it",
                    path.display(),
                    srpm.file
                ));
                return from_tarball(store, srpm, path, tarball).await;
            }
        };
        remember(store, &note, srpm, sha256, &fetched);
        return Ok(fetched);
    }
    if let Some(brought) = store.recall::<Noted>(&note).map(Brought::from)
        && let Some(found) = known(store, &brought.sha256, wanted)?
    {
        // With a digest it doesn't matter whose copy it is.
        let vault = srpm.vault.to_string();
        if srpm.sha256.is_none() && brought.vault != vault {
            let (file, from) = (&srpm.file, &brought.location);
            events.warn_once(format!(
                "{file} was not looked for in {vault}: it was brought from {from} before, and is taken as it was; `sha256:` in the definition says which one it has to be"
            ));
        }
        return Ok(with_origin(found, brought.location, brought.signed_by));
    }
    match &srpm.vault {
        Location::Path(folder) => Err(SrpmError::NotInVault { folder: folder.clone(), wanted: names(srpm) }.into()),
        Location::Url(base) => {
            let (sha256, fetched) = from_url(store, srpm, base, wanted, events).await?;
            remember(store, &note, srpm, sha256, &fetched);
            Ok(fetched)
        }
    }
}

fn remember(store: &Store, note: &str, srpm: &Srpm, sha256: String, fetched: &Fetched) {
    if let Provenance::Srpm { location, signed_by, .. } = &fetched.provenance {
        let brought = Brought { sha256, vault: srpm.vault.to_string(), location: location.clone(), signed_by: signed_by.clone() };
        store.remember(note, &brought);
    }
}

/// The note of which package a definition meant: all that it says but the vault, and the key's content. So a package that was brought once is found
/// without its vault.
fn note(srpm: &Srpm) -> Result<String, SourceError> {
    let Srpm { file, path, vault: _, sha256, tarball, key } = srpm;
    let key = match key {
        Some(key) => Some(input::read(key, input::LARGEST_TEXT).map_err(unreadable(key))?),
        None => None,
    };
    let said = format!("{FORMAT} {file:?} {path:?} {sha256:?} {tarball:?} {key:?}");
    Ok(format!("srpm-of-{}", &blake3::hash(said.as_bytes()).to_hex()[..32]))
}

/// The files of which one is enough.
fn names(srpm: &Srpm) -> Vec<String> {
    [&srpm.file].into_iter().chain(srpm.tarball.as_ref().map(|tarball| &tarball.name)).cloned().collect()
}

/// Looks into a folder: as the vault has it, and flat. A package is worth more than its tarball.
fn find(folder: &Path, srpm: &Srpm) -> Option<Found> {
    let there = |name: &str| [folder.join(&srpm.path).join(name), folder.join(name)].into_iter().find(|path| path.is_file());
    let tarball = || srpm.tarball.as_ref().and_then(|tarball| Some(Found::Tarball(there(&tarball.name)?, tarball.clone())));
    there(&srpm.file).map(Found::Package).or_else(tarball)
}

fn url(base: &str, srpm: &Srpm) -> String {
    let folders = srpm.path.components().map(|folder| format!("/{}", folder.as_os_str().to_string_lossy()));
    format!("{base}{}/{}", folders.collect::<String>(), srpm.file)
}

async fn from_url(store: &Store, srpm: &Srpm, base: &str, wanted: Wanted, events: &Events) -> Result<(String, Fetched), SourceError> {
    // Not after an hour's download.
    for program in [Some("patch"), srpm.key.as_ref().map(|_| "gpgv")].into_iter().flatten() {
        Program::new(program, program).is_there()?;
    }
    let url = url(base, srpm);
    let part = format!("download-{}", &blake3::hash(url.as_bytes()).to_hex()[..32]);
    let _in_use = store.in_use(Kept::Sources, &part)?;
    let folder = store.place(Kept::Sources, &part);
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let file = download::download(&url, &folder, events).await.map_err(|failure| match failure {
        SourceError::Download { url, why } => SrpmError::Vault { url, why, wanted: names(srpm).join(" or ") }.into(),
        other => other,
    })?;
    let result = from_package(store, srpm, &file, url, wanted).await;
    let _ = fs::remove_dir_all(&folder);
    if result.is_ok() && srpm.sha256.is_none() && srpm.key.is_none() {
        events.warn_once(format!(
            "{} from {base}: only its tarball has a digest in the definition, and nothing vouches for its spec file, patches and configurations: \
             add `sha256:` of the package, or a `key:` that signed it",
            srpm.file
        ));
    }
    result
}

/// What was unpacked of a package before, if all that is wanted is there: an earlier version of this program kept no patches.
fn known(store: &Store, sha256: &str, wanted: Wanted) -> Result<Option<Fetched>, SourceError> {
    let Some(remembered) = store.recall::<Remembered>(&format!("srpm-{sha256}")) else { return Ok(None) };
    if wanted == Wanted::Patches && OwnPatches::find(store, &remembered.provenance)?.is_none() {
        return Ok(None);
    }
    kept(store, remembered)
}

/// The tree of a package on this machine, and the package's SHA-256.
async fn from_package(store: &Store, srpm: &Srpm, path: &Path, location: String, wanted: Wanted) -> Result<(String, Fetched), SourceError> {
    let found = tarball::hashed(store, path).await?;
    tarball::check(location.clone(), srpm.sha256.as_deref(), &found)?;
    let (name, file, key) = (srpm.file.clone(), path.to_owned(), srpm.key.clone());
    let opened = blocking(move |_| {
        let package = Package::named(&file, &name)?;
        let signed_by = key.map(|key| package.signed_by(&key)).transpose()?;
        Ok::<_, SourceError>((package, signed_by))
    });
    let (package, signed_by) = opened.await?;
    if let Some(fetched) = known(store, &found, wanted)? {
        // Another definition may have brought it that says less of it.
        if let Provenance::Srpm { tarball, tarball_sha256, tarball_sha1, .. } = &fetched.provenance {
            check_tarball(srpm.tarball.as_ref(), tarball, tarball_sha256, tarball_sha1)?;
        }
        return Ok((found, with_origin(fetched, location, signed_by)));
    }
    let scratch = Arc::new(store.work()?);
    let unpacked = {
        let (scratch, wanted, expected, location) = (scratch.clone(), srpm.tarball.clone(), found.clone(), location.clone());
        let file = path.to_owned();
        let unpacked = blocking(move |stop| {
            let unpacked = unpack(&package, wanted.as_ref(), &scratch, stop)?;
            // What was unpacked is what was checked, even if somebody wrote to the file in between.
            tarball::check(location, Some(&expected), &sha256(&file, stop).map_err(failed("read", &file))?)?;
            Ok::<_, SourceError>(unpacked)
        });
        unpacked.await?
    };
    let Unpacked { recipe, spec, tarball, tarball_sha256, tarball_sha1, configurations } = unpacked;
    let payload = scratch.path().join(PAYLOAD);
    let (patches, undoing) = apply::patches(scratch.path(), &payload, &recipe, &srpm.file).await?;
    if let Some(extraversion) = &recipe.extraversion {
        apply::extraversion(&scratch.path().join(TREE), extraversion, &srpm.file, &spec)?;
    }
    apply::configurations(&payload, &configurations, &scratch.path().join(TREE))?;
    if let Some(undoing) = undoing {
        undoing.keep(store, &found)?;
    }
    let at = |line: &usize, what: &str| format!("{spec} line {line}: {what}");
    let run = recipe.scripts.iter().map(|(script, line)| at(line, &format!("runs {script}")));
    let unrepeated = recipe.unrepeated.iter().map(|(line, text)| at(line, text)).chain(run).collect();
    let provenance = Provenance::Srpm {
        location,
        sha256: Some(found.clone()),
        signed_by,
        tarball,
        tarball_sha256,
        tarball_sha1,
        patches,
        unrepeated,
        extraversion: recipe.extraversion,
        configurations,
    };
    let remembered = Remembered { digest: digest(&found), provenance };
    store.remember(&format!("srpm-{found}"), &remembered);
    let store = store.clone();
    let fetched = blocking(move |_| keep(&store, &scratch, remembered)).await?;
    Ok((found, fetched))
}

fn with_origin(mut fetched: Fetched, from: String, by: Option<String>) -> Fetched {
    if let Provenance::Srpm { location, signed_by, .. } = &mut fetched.provenance {
        (*location, *signed_by) = (from, by);
    }
    fetched
}

/// The tree's name in the store.
fn digest(of: &str) -> String {
    format!("srpm-{}", blake3::hash(format!("{FORMAT} {of}").as_bytes()).to_hex())
}

/// Where a package's files lie in the scratch folder.
const PAYLOAD: &str = "payload";

/// Largest spec file: an EL7 kernel's has 1.5 MB, nearly all of it its changelog.
const LARGEST_SPEC: u64 = 64 << 20;

/// What was in a package.
struct Unpacked {
    recipe: Recipe,
    spec: String,
    tarball: String,
    tarball_sha256: String,
    tarball_sha1: String,
    configurations: Vec<String>,
}

/// Extracts a package, reads its spec file, checks its tarball and unpacks that.
fn unpack(package: &Package, wanted: Option<&SrpmTarball>, scratch: &Scratch, stop: &Stop) -> Result<Unpacked, SourceError> {
    let payload = scratch.path().join(PAYLOAD);
    fs::create_dir(&payload).map_err(failed("create", &payload))?;
    let name = &package.name;
    let files = package.extract(&payload, LIMITS, stop)?;
    let lacks = |found: String, expected: &str| SrpmError::Lacks { package: name.clone(), found, expected: expected.to_owned() };
    let specs: Vec<&String> = files.iter().filter(|file| file.ends_with(".spec")).collect();
    let [spec] = specs.as_slice() else { return Err(lacks(format!("{} spec files", specs.len()), "one").into()) };
    let path = payload.join(spec);
    let text = input::read(&path, LARGEST_SPEC).map_err(unreadable(&path))?;
    let refused =
        |Refused { line, why, remedy }: Refused| SrpmError::Spec { package: name.clone(), spec: (*spec).clone(), line, why, remedy };
    let recipe = spec::read(&String::from_utf8_lossy(&text), &package.nvr, package.vendor.as_deref()).map_err(refused)?;
    for (file, line) in recipe.patches.values() {
        if !files.contains(file) {
            let why = format!("the patch {file} is listed, but isn't in the package");
            return Err(refused(Refused { line: *line, why, remedy: "the package is damaged: fetch it again".to_owned() }).into());
        }
    }
    for (script, line) in &recipe.scripts {
        // One that isn't there is made while the package is built; what makes it is looked at.
        let path = payload.join(script);
        if files.contains(script)
            && let Some(found) = scripts::patching(&input::read(&path, LARGEST_SPEC).map_err(unreadable(&path))?)
        {
            let why = format!("it runs {script}, whose line {found} applies a patch");
            return Err(refused(Refused { line: *line, why, remedy: spec::BRING_A_TREE.to_owned() }).into());
        }
    }
    let first = recipe.sources.values().next().map(|(file, _)| file.as_str());
    let tarball = match (wanted, first) {
        (Some(wanted), _) if recipe.sources.values().any(|(file, _)| *file == wanted.name) => wanted.name.clone(),
        (Some(wanted), first) => {
            return Err(lacks(format!("a spec file whose first source is {}", first.unwrap_or("none")), &wanted.name).into());
        }
        (None, Some(first)) => first.to_owned(),
        (None, None) => return Err(lacks("a spec file without a source".to_owned(), "a tarball").into()),
    };
    if !files.contains(&tarball) {
        return Err(lacks("no such file".to_owned(), &tarball).into());
    }
    let path = payload.join(&tarball);
    let (tarball_sha256, tarball_sha1) = sha256_and_sha1(&path, stop).map_err(failed("read", &path))?;
    check_tarball(wanted, &tarball, &tarball_sha256, &tarball_sha1)?;
    let file = fs::File::open(&path).map_err(failed("open", &path))?;
    unpack_tree(file, scratch, stop).map_err(|cause| SourceError::Archive { archive: tarball.clone(), cause })?;
    let configurations = files.iter().filter(|file| file.starts_with("kernel-") && file.ends_with(".config")).cloned().collect();
    Ok(Unpacked { recipe, spec: (*spec).clone(), tarball, tarball_sha256, tarball_sha1, configurations })
}

/// Compares a tarball with what the definition says of it.
fn check_tarball(wanted: Option<&SrpmTarball>, name: &str, sha256: &str, sha1: &str) -> Result<(), SourceError> {
    let Some(SrpmTarball { name: expected_name, digest }) = wanted else { return Ok(()) };
    if expected_name != name {
        let package = "the package".to_owned();
        return Err(SrpmError::Lacks { package, found: format!("the tarball {name}"), expected: expected_name.clone() }.into());
    }
    let (algorithm, expected, found) = match digest {
        PublishedDigest::Sha1(expected) => ("SHA-1", expected, sha1),
        PublishedDigest::Sha256(expected) => ("SHA-256", expected, sha256),
    };
    if expected == found {
        return Ok(());
    }
    Err(SourceError::Digest { what: name.to_owned(), algorithm, expected: expected.clone(), found: found.to_owned() })
}

/// The tree of a bare tarball, with the version that the package's spec file would give it.
async fn from_tarball(store: &Store, srpm: &Srpm, path: PathBuf, wanted: SrpmTarball) -> Result<Fetched, SourceError> {
    let (store, name) = (store.clone(), srpm.file.clone());
    blocking(move |stop| {
        let (sha256, sha1) = sha256_and_sha1(&path, stop).map_err(failed("read", &path))?;
        check_tarball(Some(&wanted), &wanted.name, &sha256, &sha1)?;
        let extraversion = release(&name).map(|release| format!("-{release}.x86_64"));
        let provenance = Provenance::Srpm {
            location: path.display().to_string(),
            sha256: None,
            signed_by: None,
            tarball: wanted.name.clone(),
            tarball_sha256: sha256.clone(),
            tarball_sha1: sha1,
            patches: Vec::new(),
            unrepeated: Vec::new(),
            extraversion: extraversion.clone(),
            configurations: Vec::new(),
        };
        let remembered = Remembered { digest: digest(&format!("bare {sha256} {extraversion:?}")), provenance };
        if let Some(found) = kept(&store, remembered.clone())? {
            return Ok(found);
        }
        let scratch = store.work()?;
        let refused = |cause| SourceError::Archive { archive: path.display().to_string(), cause };
        let file = fs::File::open(&path).map_err(failed("open", &path))?;
        let mut bytes = Hashing::new(file, stop);
        unpack_tree(&mut bytes, &scratch, stop).map_err(refused)?;
        // What was unpacked is what was checked, even if somebody wrote to the file in between.
        let again = bytes.finish().map_err(failed("read", &path))?;
        tarball::check(path.display().to_string(), Some(&sha256), &again)?;
        if let Some(extraversion) = &extraversion {
            apply::extraversion(&scratch.path().join(TREE), extraversion, &name, "its spec file")?;
        }
        keep(&store, &scratch, remembered)
    })
    .await
}

/// The release in a package's file name, `NAME-VERSION-RELEASE.src.rpm`.
fn release(file: &str) -> Option<&str> {
    let (_, release) = file.strip_suffix(".src.rpm")?.rsplit_once('-')?;
    (!release.is_empty() && release.len() <= 40).then_some(release)
}
