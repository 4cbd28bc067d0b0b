//! Programs of the root filesystem: the agent starts itself again as `chroot-exec ROOT PROGRAM ARGUMENTS`, changes root and becomes the program.
//!
//! So no code runs between fork and exec, and the agent itself never enters the filesystem under test. What it protects itself with (its OOM score,
//! its session) is not handed on: the reproducer has to be killable.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::mounts;

/// First argument that selects this mode.
pub const COMMAND: &str = "chroot-exec";

/// The search path inside the root filesystem.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs `program` inside `root`.
pub fn command(root: &Path, program: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(COMMAND).arg(root).arg(program);
    command
}

/// Becomes the program. Returns only when that failed.
pub fn exec(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(root), Some(program)) = (arguments.next(), arguments.next()) else {
        mounts::say("chroot-exec needs a root folder and a program");
        return ExitCode::from(2);
    };
    let entered = std::fs::write("/proc/self/oom_score_adj", "0")
        .and_then(|()| Ok(rustix::process::chroot(root.as_os_str())?))
        .and_then(|()| Ok(rustix::process::chdir("/")?));
    let _ = rustix::process::setsid();
    let cause = match entered {
        Ok(()) => Command::new(&program)
            .args(arguments)
            .env_clear()
            .envs([("PATH", SEARCH), ("HOME", "/root"), ("USER", "root"), ("SHELL", "/bin/sh")])
            .exec(),
        Err(cause) => cause,
    };
    mounts::say(&format!("chroot-exec {}: {cause}", program.to_string_lossy()));
    ExitCode::from(127)
}
