//! Where a toolchain's programs run: on the host, or in a folder with another system's programs.
//!
//! bubblewrap gives them that folder as their root, read-only, with the tree at the same path as on the host, because `.cmd` files and objects hold
//! paths; with no network, without the user's terminal, and in a process namespace of their own that ends with bubblewrap. It needs user namespaces or
//! root. What is in the folder is `buildroot`'s business.
//!
//! Read [`Room`] first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{BuildError, failed};
use crate::program::{Program, find, last_lines};
use crate::store::Lock;

/// Where programs run.
#[derive(Debug, Clone)]
pub enum Room {
    /// The host itself.
    Host,
    /// A folder in the store; `gc` leaves it alone while the value lives.
    Folder {
        /// The folder that is their root.
        root: PathBuf,
        /// What it is, as shown.
        what: String,
        /// What to do when something isn't in it.
        remedy: &'static str,
        /// Keeps it; none of the host's.
        _in_use: Option<Arc<Lock>>,
    },
}

/// Where programs are found in a folder.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of a root folder isn't shown to programs: the system's own, and `/var`, `/home`, `/root`, `/srv`, `/mnt`, `/media` and `/opt`, below which the store may lie.
const HIDDEN: [&str; 13] = ["boot", "dev", "home", "lost+found", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "var"];

impl Room {
    /// The host's own programs, as another system's: what may be done with bubblewrap is found out by it.
    #[must_use]
    pub fn of_host() -> Self {
        let remedy = "install it on the host";
        Self::Folder { root: PathBuf::from("/"), what: "the host's own system as a toolchain's".to_owned(), remedy, _in_use: None }
    }

    /// The words that begin a command in this room: none on the host. `tree` is the one folder that can be written to.
    ///
    /// # Errors
    /// When the room's folder can't be read.
    pub fn words(&self, tree: Option<&Path>) -> Result<Vec<OsString>, BuildError> {
        let Self::Folder { root, .. } = self else { return Ok(Vec::new()) };
        let mut words: Vec<OsString> =
            ["bwrap", "--unshare-all", "--new-session", "--die-with-parent", "--cap-drop", "ALL"].map(OsString::from).to_vec();
        let mut add = |new: [&std::ffi::OsStr; 3]| words.extend(new.map(OsString::from));
        for entry in std::fs::read_dir(root).map_err(failed("read", root))? {
            let entry = entry.map_err(failed("read", root))?;
            let name = entry.file_name();
            if HIDDEN.iter().any(|hidden| *hidden == name) || name == "tmp" {
                continue;
            }
            let place = Path::new("/").join(&name);
            // A link such as `bin -> usr/bin`.
            match std::fs::read_link(entry.path()) {
                Ok(target) => add(["--symlink".as_ref(), target.as_ref(), place.as_ref()]),
                Err(_) => add(["--ro-bind".as_ref(), entry.path().as_ref(), place.as_ref()]),
            }
        }
        for [option, value] in [["--proc", "/proc"], ["--dev", "/dev"], ["--tmpfs", "/tmp"], ["--unsetenv", "TMPDIR"]] {
            words.extend([option, value].map(OsString::from));
        }
        for [name, value] in [["PATH", PATH], ["HOME", "/tmp"]] {
            words.extend(["--setenv", name, value].map(OsString::from));
        }
        if let Some(tree) = tree {
            let tree = tree.as_os_str();
            words.extend(["--bind".as_ref(), tree, tree, "--chdir".as_ref(), tree].map(OsString::from));
        }
        words.push("--".into());
        Ok(words)
    }

    /// A program of this room, to be completed by its arguments.
    ///
    /// # Errors
    /// When the room's folder can't be read.
    pub fn program(&self, name: &str) -> Result<Program, BuildError> {
        match self {
            Self::Host => Ok(Program::new(name, name)),
            Self::Folder { .. } => {
                let mut program = Program::new("bwrap", "bubblewrap");
                // What is in the user's environment is none of its business.
                program.command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("LC_ALL", "C");
                program.command.args(self.words(None)?.into_iter().skip(1)).arg(name);
                Ok(program)
            }
        }
    }

    /// Whether there is such a program in the room.
    #[must_use]
    pub fn has(&self, program: &str) -> bool {
        match self {
            Self::Host => find(program).is_some(),
            Self::Folder { .. } if HIDDEN.iter().any(|hidden| Path::new(program).starts_with(Path::new("/").join(hidden))) => false,
            // Links in it mean its own root, so they aren't followed.
            Self::Folder { root, .. } if program.starts_with('/') => root.join(program.trim_start_matches('/')).symlink_metadata().is_ok(),
            Self::Folder { root, .. } => {
                let mut folders = PATH.split(':').map(|folder| root.join(folder.trim_start_matches('/')));
                folders.any(|folder| folder.join(program).symlink_metadata().is_ok())
            }
        }
    }

    /// Tries to run something in the room.
    ///
    /// # Errors
    /// When bubblewrap is missing or may not do its work.
    pub async fn check(&self) -> Result<(), BuildError> {
        let Self::Folder { what, .. } = self else { return Ok(()) };
        let tried = self.program("true")?.output().await?;
        if tried.status.success() {
            return Ok(());
        }
        Err(BuildError::NoNamespaces { what: what.clone(), said: last_lines(&tried.stderr) })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    async fn run(room: &Room, tree: &Path, script: &str) -> std::process::Output {
        let words = room.words(Some(tree)).unwrap();
        let mut program = Program::new("bwrap", "bubblewrap");
        program.command.args(&words[1..]).args(["sh", "-c", script]);
        program.output().await.unwrap()
    }

    #[tokio::test]
    async fn only_the_tree_can_be_written_and_there_is_no_network() {
        let tree = tempfile::tempdir().unwrap();
        Room::of_host().check().await.unwrap();
        let inside =
            run(&Room::of_host(), tree.path(), "pwd; echo made > here; echo x > /usr/there; ls /sys/class/net /home; cat /proc/net/dev")
                .await;
        let said = String::from_utf8_lossy(&inside.stdout).into_owned();
        assert_eq!(said.lines().next(), tree.path().to_str());
        assert_eq!(std::fs::read_to_string(tree.path().join("here")).unwrap(), "made\n");
        assert!(!Path::new("/usr/there").exists());
        let interfaces: Vec<_> = said.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name).collect();
        assert_eq!(interfaces, ["lo"], "{said}");
    }

    /// A program that has the user's terminal can type into it (TIOCSTI).
    #[tokio::test]
    async fn the_terminal_is_not_the_rooms() {
        let tree = tempfile::tempdir().unwrap();
        // script(1) gives what it runs a terminal.
        let on_terminal = async |before: &[&str]| {
            let words: Vec<_> = before.iter().map(|word| format!("'{word}'")).collect();
            let command = format!("{} sh -c 'exec </dev/tty && echo opened'", words.join(" "));
            let mut program = Program::new("script", "bsdutils");
            program.command.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
            String::from_utf8_lossy(&program.output().await.unwrap().stdout).into_owned()
        };
        let words: Vec<_> = Room::of_host().words(Some(tree.path())).unwrap().into_iter().map(|word| word.into_string().unwrap()).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert!(on_terminal(&[]).await.contains("opened"), "so the test can fail");
        assert!(!on_terminal(&words).await.contains("opened"));
    }

    #[tokio::test]
    async fn a_room_without_namespaces_is_told() {
        let test = std::env::current_exe().unwrap();
        let mut program = Program::new("unshare", "util-linux");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all -- \"$0\" \"$@\"";
        program.command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(test);
        program.command.args(["--exact", "build::room::tests::child_has_no_namespaces"]).env(CHILD, "1");
        let output = program.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    /// Says that a test's process is the child of another test.
    const CHILD: &str = "HANGPROOF_TEST_HAS_NO_NAMESPACES";

    /// Part of the test before it, by itself nothing.
    #[tokio::test]
    async fn child_has_no_namespaces() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let error = Room::of_host().check().await.unwrap_err();
        assert!(matches!(&error, BuildError::NoNamespaces { said, .. } if said.starts_with("bwrap: ")), "{error}");
    }
}
