//! Runs user-mode Linux: Linux as an ordinary program, so that disks can be made without root privileges.
//!
//! Nothing of it outlives this program, not even after a SIGKILL: see [`LEASH`].
//!
//! Read [`run`] first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::process::ChildStdin;

use super::recipe::{DONE, FAILED, Recipe};
use super::{ImageError, failed};

/// How long making the disks may take. Measured: 3 s for 768 MiB; a loaded host is slower.
const DEADLINE: Duration = Duration::from_secs(60);

/// Its memory: room for the kernel, its initramfs and some page cache.
const MEMORY: &str = "256M";

/// How many lines of its log an error shows.
const SHOWN_LINES: usize = 30;

/// A shell that starts a leash and becomes the program of its arguments. The leash kills the process group once its standard input ends; we hold the
/// other end of that pipe, so this happens when we end, however we end.
///
/// A parent-death signal is not enough: it reaches the first process only, while user-mode Linux has one for each of its address spaces, and some of
/// them live on (seen with 6.1.176). The program has to be the group's leader, or else it leaves the group with setsid.
const LEASH: &str = r#"exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-"#;

/// A running group of processes, killed when dropped.
struct Running {
    child: Box<dyn ChildWrapper>,
    _leash: Option<ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Makes the disks of `recipe` in `folder`. The files that only this needs stay there too.
pub async fn run(recipe: &Recipe, prepared: &Prepared, folder: &Path) -> Result<(), ImageError> {
    let log = folder.join("uml.log");
    let output = File::create(&log).map_err(failed("create", &log))?;
    let errors = output.try_clone().map_err(failed("share", &log))?;
    let mut command = CommandWrap::with_new("/bin/sh", |command| {
        command.args(["-c", LEASH, "sh"]).arg(&recipe.uml).args(arguments(prepared, folder));
        // It keeps the guest's memory in a file of its temporary folder.
        command.env("TMPDIR", folder).env("HOME", folder).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(output).stderr(errors);
    });
    command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    let mut child = command.spawn().map_err(failed("run", "/bin/sh"))?;
    // Waiting for a child closes its standard input, unless it was taken.
    let leash = child.stdin().take();
    let mut running = Running { child, _leash: leash };
    let ended = tokio::time::timeout(DEADLINE, running.child.wait()).await;
    drop(running);
    let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "")).map_err(failed("read", &log))?;
    match ended {
        Err(_) => Err(ImageError::Deadline { after: DEADLINE, log: tail(&said) }),
        Ok(Err(cause)) => Err(failed("wait for", &recipe.uml)(cause)),
        // Its exit status says nothing: it is 0 after a panic too.
        Ok(Ok(_)) if said.contains(DONE) && !said.contains(FAILED) => Ok(()),
        Ok(Ok(_)) => Err(ImageError::Uml { log: tail(&said) }),
    }
}

/// What is written before user-mode Linux starts.
#[derive(Debug)]
pub struct Prepared {
    /// The disks to be, empty.
    pub disks: Vec<PathBuf>,
    initramfs: PathBuf,
    root: PathBuf,
}

/// Writes the empty disks, the small Linux and the root filesystem's archive. Blocks.
pub fn prepare(recipe: &Recipe, folder: &Path, disks_folder: &Path) -> Result<Prepared, ImageError> {
    let create = |path: &Path| File::create(path).map_err(failed("create", path));
    let disks: Vec<_> = (0..recipe.disks).map(|number| disks_folder.join(format!("disk{number}.raw"))).collect();
    for disk in &disks {
        // Sparse: only what is written takes room.
        create(disk)?.set_len(recipe.disk_size).map_err(failed("set the size of", disk))?;
    }
    let (initramfs, root) = (folder.join("kitchen.cpio"), folder.join("root.tar"));
    let buffered = |path: &Path| create(path).map(|file| std::io::BufWriter::with_capacity(1 << 20, file));
    let mut kitchen = buffered(&initramfs)?;
    recipe.kitchen.write_cpio(&mut kitchen)?;
    std::io::Write::flush(&mut kitchen).map_err(failed("write", &initramfs))?;
    recipe.root.write_tar(buffered(&root)?)?;
    Ok(Prepared { disks, initramfs, root })
}

/// Its command line.
fn arguments(prepared: &Prepared, folder: &Path) -> Vec<String> {
    let mut arguments = vec![
        format!("mem={MEMORY}"),
        format!("initrd={}", prepared.initramfs.display()),
        // Its control socket: below the home directory otherwise.
        format!("uml_dir={}/", folder.display()),
        "umid=uml".to_owned(),
        "con0=null,fd:1".to_owned(),
        "con=null".to_owned(),
        "ssl=null".to_owned(),
        "loglevel=4".to_owned(),
        "panic=-1".to_owned(),
        "noreboot".to_owned(),
    ];
    let letters = 'a'..;
    let read_only = std::iter::once((&prepared.root, "r"));
    for (letter, (path, flag)) in letters.zip(prepared.disks.iter().map(|disk| (disk, "")).chain(read_only)) {
        arguments.push(format!("ubd{letter}{flag}={}", path.display()));
    }
    arguments
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_leash_is_the_end_of_all_processes() {
        use std::io::Read as _;
        use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", LEASH, "sh", "/bin/sh", "-c", "echo begun; sleep 60 & sleep 60"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut [0; 6]).unwrap();
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        // The pipe ends when the last process that holds it is gone.
        assert_eq!(output.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn the_archive_is_the_disk_behind_the_members_and_read_only() {
        let prepared =
            Prepared { disks: vec!["/w/disk0.raw".into(), "/w/disk1.raw".into()], initramfs: "/w/k".into(), root: "/w/root.tar".into() };
        let arguments = arguments(&prepared, Path::new("/w"));
        assert!(
            arguments.ends_with(&["ubda=/w/disk0.raw".into(), "ubdb=/w/disk1.raw".into(), "ubdcr=/w/root.tar".into()]),
            "{arguments:?}"
        );
    }
}
