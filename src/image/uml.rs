//! Runs user-mode Linux: Linux as an ordinary program, so that disks can be made without root privileges.
//!
//! The process dies with this one: a parent-death signal for its first process, its group is killed when the value is dropped, and its command line
//! names the scratch folder, by which `Store::sweep` finds what is left after a SIGKILL.
//!
//! Read [`run`] first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};

use super::recipe::{DONE, FAILED, Recipe};
use super::{ImageError, failed, programs};

/// How long making the disks may take. Measured: 3 s for 768 MiB; a loaded host is slower.
const DEADLINE: Duration = Duration::from_secs(60);

/// Its memory: room for the kernel, its initramfs and some page cache.
const MEMORY: &str = "256M";

/// How many lines of its log an error shows.
const SHOWN_LINES: usize = 30;

/// A running group of processes, killed when dropped.
struct Running(Box<dyn ChildWrapper>);

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group: user-mode Linux has a host process for each of its address spaces.
        let _ = self.0.start_kill();
    }
}

/// Makes the disks of `recipe` in `folder` and returns them. The files that only this needs stay there too.
pub async fn run(recipe: &Recipe, prepared: &Prepared, folder: &Path) -> Result<(), ImageError> {
    let log = folder.join("uml.log");
    let output = File::create(&log).map_err(failed("create", &log))?;
    let errors = output.try_clone().map_err(failed("share", &log))?;
    let setpriv = programs::SETPRIV.required()?;
    let mut command = CommandWrap::with_new(&setpriv, |command| {
        command.args(["--pdeathsig", "KILL", "--"]).arg(&recipe.uml).args(arguments(prepared, folder));
        // It keeps the guest's memory in a file of its temporary folder.
        command.env("TMPDIR", folder).env("HOME", folder).current_dir(folder);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
    });
    command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    let mut running = Running(command.spawn().map_err(failed("run", &setpriv))?);
    let ended = tokio::time::timeout(DEADLINE, running.0.wait()).await;
    drop(running);
    let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "")).map_err(failed("read", &log))?;
    match ended {
        Err(_) => Err(ImageError::Deadline { after: DEADLINE, log: tail(&said) }),
        Ok(Err(cause)) => Err(failed("wait for", &recipe.uml)(cause)),
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
mod tests {
    use super::*;

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
