//! One run of make, or of another program that starts many: started so that it can't outlive us, listened to while it works, ended with all its children.
//!
//! make's standard output and error go into one log. When we are dropped, make's process group is killed and gone before anything else happens;
//! when we are killed, the kernel kills make, and its children end at their next message, because nobody reads their pipe any more. This file
//! doesn't know what is made.
//!
//! Read [`run`] first.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// Environment variables of the user's that a build keeps; all others could change what is built.
const KEPT: [&str; 6] = ["PATH", "HOME", "TMPDIR", "CCACHE_DIR", "CCACHE_DISABLE", "USER"];

/// make and its children, which die with the value.
struct Group(Child);

/// How long a killed process group is waited for. SIGKILL takes milliseconds; a process in uninterruptible sleep may take for ever.
const DEATH: Duration = Duration::from_secs(5);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id make has ended and been waited for, and its children have ended before it.
        let Some(group) = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else { return };
        let _ = kill_process_group(group, Signal::KILL);
        let start = Instant::now();
        // A process that still writes would make the removal of its folder fail. make itself is a member until it is waited for.
        while start.elapsed() < DEATH && (self.0.try_wait().is_ok_and(|ended| ended.is_none()) || test_kill_process_group(group).is_ok()) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs a program by its words (`make` and its arguments, or what leads to it) in `folder` with this environment and a few of the user's variables. Each line goes to `log` and to `on_line`.
///
/// # Errors
/// When it can't be started or listened to.
pub async fn run(
    words: &[OsString],
    folder: &Path,
    environment: &[(&str, OsString)],
    log: &mut BufWriter<tokio::fs::File>,
    mut on_line: impl FnMut(&str),
) -> io::Result<ExitStatus> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words).current_dir(folder).env_clear();
    command
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0).kill_on_drop(true);
    let mut group = Group(command.spawn()?);
    // The command holds our copies of the pipe's writing end.
    drop(command);
    let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(reader.into())?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        log.write_all(&line).await?;
        if lines.buffer().is_empty() {
            // Whoever watches the log sees what make does now.
            log.flush().await?;
        }
        on_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    log.flush().await?;
    group.0.wait().await
}
