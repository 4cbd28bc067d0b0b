//! Folders with another system's programs, in which compilers run: a minimal Debian of some suite, or a container image's content.
//!
//! Neither needs root: mmdebstrap works in a user namespace, and of an image only the files are taken, so that no container ever runs. Both are kept
//! by their content: by the versions of all packages, by the image's digest. What was made once is found again without a network. Debian's mirror
//! is the machine's own, as apt knows it, and apt checks its signatures.
//!
//! Read [`debian`] first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::BufWriter;

use super::error::{BuildError, failed};
use super::make;
use super::room::Room;
use crate::program::{Deadline, Program, find, last_lines};
use crate::source::stop::blocking;
use crate::store::{Kept, Scratch, Store, trial_scratch};

/// What a toolchain's folder is: part of the key of what is built in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Inside {
    /// A minimal Debian.
    Debian {
        /// Its suite.
        suite: String,
        /// The version of each package in it.
        packages: BTreeMap<String, String>,
    },
    /// The content of a container's image.
    Container {
        /// The image's name.
        image: String,
        /// Its digest, as podman or docker gives it.
        digest: String,
    },
}

impl Inside {
    /// It, in a few words.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Debian { suite, .. } => format!("the buildroot of Debian {suite}"),
            Self::Container { image, .. } => format!("the container image {image}"),
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Debian { .. } => "name another compiler, or the packages that have them in the toolchain's `packages`",
            Self::Container { .. } => "name an image that has them",
        }
    }
}

/// What every kernel needs of a Debian, beside the compiler.
const PACKAGES: [&str; 14] = [
    "bc",
    "binutils",
    "bison",
    "cpio",
    "flex",
    "gzip",
    "hostname",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "perl",
    "xz-utils",
];

/// Raised when the same request would make another folder.
const FORMAT: u32 = 1;

/// How long a step of making a folder may take: 38 s to 100 s were seen. Without a terminal neither mmdebstrap nor podman says how far it is.
const DEADLINE: Deadline = Deadline::Total(Duration::from_secs(30 * 60));

const ROOT: &str = "root";
const RECORD: &str = "record.json";

/// A folder, and what it is.
pub type Made = (Room, Inside);

/// The buildroot of a Debian suite: from the store, or made now.
///
/// # Errors
/// When it can't be made here, or the suite doesn't have the packages.
pub async fn debian(store: &Store, suite: &str, compiler: &str, packages: &[String]) -> Result<Made, BuildError> {
    let mut all: Vec<&str> = PACKAGES.into_iter().chain([compiler]).chain(packages.iter().map(String::as_str)).collect();
    all.sort_unstable();
    all.dedup();
    let note = note(&format!("{FORMAT} debian {suite} {all:?} {}", std::env::consts::ARCH));
    // Two programs that want the same folder take turns; the second one finds it.
    let _turn = store.turn(&note).await?;
    if let Some(made) = recalled(store, &note)? {
        return Ok(made);
    }
    needed(&[("mmdebstrap", "mmdebstrap"), ("bwrap", "bubblewrap"), ("tar", "tar"), ("setpriv", "util-linux")])?;
    let mirror = mirror().await?;
    let scratch = store.work()?;
    let archive = scratch.path().join("root.tar");
    let mode = if rustix::process::geteuid().is_root() { "root" } else { "unshare" };
    let words: Vec<OsString> = vec![
        "mmdebstrap".into(),
        format!("--mode={mode}").into(),
        "--variant=essential".into(),
        "--format=tar".into(),
        "--skip=output/dev".into(),
        "--dpkgopt=path-exclude=/usr/share/doc/*".into(),
        "--dpkgopt=path-exclude=/usr/share/man/*".into(),
        "--dpkgopt=path-exclude=/usr/share/locale/*".into(),
        format!("--include={}", all.join(",")).into(),
        suite.into(),
        archive.clone().into(),
        mirror.clone().into(),
    ];
    bootstrap(store, suite, &mirror, &words).await?;
    let scratch = unpack(scratch, archive).await?;
    let root = scratch.path().join(ROOT);
    let inside = Inside::Debian { suite: suite.to_owned(), packages: installed(&root)? };
    keep(store, &scratch, &note, inside)
}

/// Runs mmdebstrap with a temporary folder that is removed whatever happens, by the next sweep if we are killed; without root, much in it is not ours.
async fn bootstrap(store: &Store, suite: &str, mirror: &str, words: &[OsString]) -> Result<(), BuildError> {
    let temporary = trial_scratch()?;
    // apt's downloads run as another user.
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).map_err(failed("open up", temporary.path()))?;
    let log = store.log(&format!("buildroot-{suite}.log"));
    let file = tokio::fs::File::create(&log).await.map_err(failed("create", &log))?;
    let mut environment = vec![("TMPDIR", temporary.path().into()), ("LC_ALL", "C".into())];
    environment.extend(["http_proxy", "https_proxy", "no_proxy"].iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    let mut said = String::new();
    let mut file = BufWriter::new(file);
    let ran = make::run(words, temporary.path(), &environment, DEADLINE, &mut file, |line| {
        said.push_str(line);
        said.push('\n');
    });
    let status = ran.await.map_err(|cause| BuildError::of_make(cause, &log))?;
    if status.success() { Ok(()) } else { Err(not_made(suite, mirror, &said, log)) }
}

/// What mmdebstrap's words mean. They are its own (1.3), apt's (2.6) and newuidmap's.
fn not_made(suite: &str, mirror: &str, said: &str, log: PathBuf) -> BuildError {
    let (suite, mirror) = (suite.to_owned(), mirror.to_owned());
    let line = |holds: fn(&str) -> bool| said.lines().find(|line| holds(line)).map(|line| line.trim().to_owned());
    if let Some(line) = line(|line| line.contains("Unable to locate package") || line.contains("has no installation candidate")) {
        return BuildError::NoPackage { suite, said: line };
    }
    if line(|line| line.contains("404")).is_some() && line(|line| line.contains("does not have a Release file")).is_some() {
        return BuildError::NoSuite { suite, mirror };
    }
    if let Some(said) = line(|line| line.contains("Could not") || line.contains("Failed to fetch") || line.contains("Temporary failure")) {
        return BuildError::MirrorUnreachable { suite, mirror, said };
    }
    if let Some(said) =
        line(|line| ["/etc/subuid", "newuidmap", "user namespace", "unshare syscall"].iter().any(|word| line.contains(word)))
    {
        return BuildError::NoNamespaces { what: format!("a buildroot of Debian {suite}"), said };
    }
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("E: ")).collect();
    BuildError::NoBuildroot { suite, said: last_lines(errors.join("\n").as_bytes()), log }
}

/// Names a mirror that has a suite which the machine's own doesn't have any more.
pub const MIRROR: &str = "HANGPROOF_DEBIAN_MIRROR";

/// The mirror that the user names, or that apt fetches Debian itself from.
async fn mirror() -> Result<String, BuildError> {
    if let Some(named) = std::env::var(MIRROR).ok().filter(|named| !named.is_empty()) {
        return Ok(named);
    }
    let mut apt = Program::new("apt-get", "apt");
    apt.command.args(["indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages"]);
    let said = apt.success().await?;
    let said = String::from_utf8_lossy(&said);
    said.lines().find_map(|line| line.strip_suffix(" Debian Debian")).map(str::to_owned).ok_or(BuildError::NoMirror)
}

/// The version of every package that dpkg has in a root folder.
fn installed(root: &Path) -> Result<BTreeMap<String, String>, BuildError> {
    let path = root.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).map_err(failed("read", &path))?;
    let field = |stanza: &str, name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    Ok(status.split("\n\n").filter_map(|stanza| Some((field(stanza, "Package:")?, field(stanza, "Version:")?))).collect())
}

/// Programs that run containers, in the order in which they are looked for.
const RUNTIMES: [&str; 2] = ["podman", "docker"];

/// The content of a container's image: from the store, or taken out of the image now.
///
/// # Errors
/// When there is no container runtime, or no such image.
pub async fn container(store: &Store, image: &str) -> Result<Made, BuildError> {
    let note = note(&format!("{FORMAT} container {image}"));
    let _turn = store.turn(&note).await?;
    // Without a runtime what was taken out before still serves: a name's digest is asked where there is somebody to ask.
    let runtime = RUNTIMES.into_iter().find(|runtime| find(runtime).is_some());
    let recalled = recalled(store, &note)?;
    let Some(runtime) = runtime else {
        return recalled.ok_or_else(|| BuildError::NoRuntime { image: image.to_owned() });
    };
    needed(&[("bwrap", "bubblewrap"), ("tar", "tar")])?;
    let digest = match digest(runtime, image).await {
        Ok(digest) => digest,
        Err(error) => return recalled.ok_or(error),
    };
    let inside = Inside::Container { image: image.to_owned(), digest };
    if let Some(made) = recalled.filter(|(_, before)| *before == inside) {
        return Ok(made);
    }
    let scratch = store.work()?;
    let archive = scratch.path().join("root.tar");
    // The turn is ours, so whoever has this name was left by a program that was killed.
    let name = format!("hangproof-{}", &blake3::hash(format!("{} {note}", store.root().display()).as_bytes()).to_hex()[..32]);
    let _ = runtime_says(runtime, image, &["rm", "--force", &name]).await;
    runtime_says(runtime, image, &["create", "--network=none", "--name", &name, image, "true"]).await?;
    let exported = runtime_says(runtime, image, &["export", "--output", &archive.display().to_string(), &name]).await;
    runtime_says(runtime, image, &["rm", "--force", &name]).await?;
    exported?;
    let scratch = unpack(scratch, archive).await?;
    keep(store, &scratch, &note, inside)
}

/// The digest of an image, which is fetched if it isn't here.
async fn digest(runtime: &str, image: &str) -> Result<String, BuildError> {
    let inspect = ["image", "inspect", "--format", "{{.Id}}", image];
    if let Ok(digest) = runtime_says(runtime, image, &inspect).await {
        return Ok(digest);
    }
    runtime_says(runtime, image, &["pull", "--quiet", image]).await?;
    runtime_says(runtime, image, &inspect).await
}

async fn runtime_says(runtime: &str, image: &str, words: &[&str]) -> Result<String, BuildError> {
    let mut program = Program::new(runtime, runtime).within(DEADLINE);
    program.command.args(words);
    let output = program.output().await?;
    if !output.status.success() {
        return Err(BuildError::NoImage { image: image.to_owned(), runtime: runtime.to_owned(), said: last_lines(&output.stderr) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Programs of the host that are missing.
fn needed(programs: &[(&str, &str)]) -> Result<(), BuildError> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let owned = |text: &str| text.to_owned();
    Err(BuildError::MissingTools {
        missing: missing.iter().map(|(program, _)| owned(program)).collect(),
        packages: missing.iter().map(|(_, package)| owned(package)).collect(),
    })
}

fn note(request: &str) -> String {
    format!("buildroot-{}", &blake3::hash(request.as_bytes()).to_hex()[..32])
}

fn key(inside: &Inside) -> Result<String, BuildError> {
    let text = serde_json::to_vec(inside).map_err(|cause| failed("write", Path::new(RECORD))(cause.into()))?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

/// What was made before for the same request.
fn recalled(store: &Store, note: &str) -> Result<Option<Made>, BuildError> {
    let Some(inside) = store.recall::<Inside>(note) else { return Ok(None) };
    let key = key(&inside)?;
    let in_use = Arc::new(store.in_use(Kept::Buildroots, &key)?);
    let Some(folder) = store.find(Kept::Buildroots, &key) else { return Ok(None) };
    Ok(Some((Room::Folder { root: folder.join(ROOT), what: inside.shown(), remedy: inside.remedy(), _in_use: Some(in_use) }, inside)))
}

fn keep(store: &Store, scratch: &Scratch, note: &str, inside: Inside) -> Result<Made, BuildError> {
    let finished = scratch.path().join("finished");
    fs::create_dir(&finished).map_err(failed("create", &finished))?;
    fs::rename(scratch.path().join(ROOT), finished.join(ROOT)).map_err(failed("rename", &finished))?;
    let record = serde_json::to_vec_pretty(&inside).map_err(|cause| failed("write", Path::new(RECORD))(cause.into()))?;
    fs::write(finished.join(RECORD), record).map_err(failed("write", &finished))?;
    store.keep(Kept::Buildroots, &key(&inside)?, &finished)?;
    store.remember(note, &inside);
    recalled(store, note)?.ok_or_else(|| failed("find", &finished)(std::io::ErrorKind::NotFound.into()))
}

/// Unpacks a root folder's archive as files of ours: no owners, no devices, nothing that we couldn't remove again.
async fn unpack(scratch: Scratch, archive: PathBuf) -> Result<Scratch, BuildError> {
    let root = scratch.path().join(ROOT);
    fs::create_dir(&root).map_err(failed("create", &root))?;
    let mut tar = Program::new("tar", "tar").within(DEADLINE);
    tar.command.args(["--extract", "--no-same-owner", "--no-same-permissions", "--exclude=./dev/*", "--exclude=dev/*", "--file"]);
    tar.command.arg(&archive).arg("--directory").arg(&root);
    tar.success().await?;
    fs::remove_file(&archive).map_err(failed("remove", &archive))?;
    blocking(move |_| {
        for entry in walkdir::WalkDir::new(&root) {
            let entry = entry.map_err(|cause| failed("read", &root)(cause.into()))?;
            if entry.file_type().is_dir() {
                let mode = entry.metadata().map_or(0o755, |metadata| metadata.permissions().mode() & 0o777);
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | 0o700)).map_err(failed("open up", entry.path()))?;
            }
        }
        Ok(scratch)
    })
    .await
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buildroot_without_namespaces_is_told() {
        let mut program = Program::new("unshare", "util-linux");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all -- \"$0\" \"$@\"";
        // Any user but root.
        program.command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", script]);
        program.command.arg(std::env::current_exe().unwrap());
        program.command.args(["--exact", "build::buildroot::tests::child_has_no_namespaces"]).env(CHILD, "1");
        let output = program.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Says that a test's process is the child of another test.
    const CHILD: &str = "HANGPROOF_TEST_BUILDROOT_WITHOUT_NAMESPACES";

    /// Part of the test before it, by itself nothing.
    #[tokio::test]
    async fn child_has_no_namespaces() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(&folder.path().join("store")).unwrap();
        let error = debian(&store, "bullseye", "gcc-9", &[]).await.unwrap_err();
        assert!(
            matches!(&error, BuildError::NoNamespaces { said, .. } if said == "E: unshare syscall failed: No space left on device"),
            "{error}"
        );
        assert_eq!(fs::read_dir(store.root().join("buildroots")).unwrap().count(), 0);
    }

    #[test]
    fn what_mmdebstrap_says_is_understood() {
        let said = |text: &str| not_made("bullseye", "http://mirror/debian/", text, PathBuf::from("LOG")).to_string();
        let cases = [
            "E: Unable to locate package gcc-3.0\n",
            "  404  Not Found [IP: 192.0.2.1 80]\nE: The repository 'http://mirror/debian bullseye Release' does not have a Release file.\n",
            "  Could not connect to 127.0.0.1:1 (127.0.0.1). - connect (111: Connection refused)\nE: Some index files failed to download.\n",
            "W: /etc/subuid is empty\nE: failed to parse /etc/subuid and /etc/subgid\n",
            "I: x\nE: something else\nE: mmdebstrap failed to run\n",
        ];
        let expected = [
            "Debian bullseye hasn't all packages of the toolchain (E: Unable to locate package gcc-3.0): correct the toolchain's compiler or packages",
            "http://mirror/debian/ has no suite bullseye: correct the toolchain's suite, or name a mirror that has it with HANGPROOF_DEBIAN_MIRROR",
            "the mirror http://mirror/debian/ can't be reached for a buildroot of bullseye (Could not connect to 127.0.0.1:1 (127.0.0.1). - connect (111: \
             Connection refused)): see that `apt-get update` works; a buildroot that was made once needs no network",
            "a buildroot of Debian bullseye can't be used without root here (W: /etc/subuid is empty): allow user namespaces and give your user a range \
             in /etc/subuid and /etc/subgid (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`), or work as root",
            "no buildroot of Debian bullseye could be made (E: something else; E: mmdebstrap failed to run): the whole log is LOG",
        ];
        assert_eq!(cases.map(said), expected);
    }
}
