//! Why the agent can't go on, in the operating system's words. Nothing here decides what to do about it.
//!
//! Read [`Fault`] first.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Why a step of the boot failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An operation on a path failed.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// A program could not be run.
    #[error("run {program}: {cause}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        cause: io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// Something did not appear in time.
    #[error("{what} did not appear within {} s: check the kernel's configuration and the VM's devices", after.as_secs())]
    Missing {
        /// What.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The assignment is not what this agent understands.
    #[error("the assignment is no valid JSON of this version: {0}; host program and agent have to come from one build")]
    Assignment(#[from] serde_json::Error),
    /// A path that leaves its folder.
    #[error("{0:?} is not a path below /proc/sys: use a form like kernel/hung_task_timeout_secs")]
    Setting(String),
    /// The kernel has no memory cgroups of the wanted kind.
    #[error("no memory cgroups, {0}: build the kernel with CONFIG_MEMCG")]
    Cgroup(String),
}

/// For `map_err`: an operation on a path failed.
pub fn io<E: Into<io::Error>>(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Fault {
    move |cause| Fault::Io { what, path: path.as_ref().to_owned(), cause: cause.into() }
}

/// Runs a program to its end and returns its output.
pub fn run(command: &mut Command) -> Result<String, Fault> {
    let program = shown(command);
    let output = command.output().map_err(|cause| Fault::Spawn { program: program.clone(), cause })?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let output_text = [said(&output.stderr), said(&output.stdout)].into_iter().find(|text| !text.is_empty());
        Err(Fault::Program { program, status: output.status, output: output_text.unwrap_or_else(|| "it said nothing".to_owned()) })
    }
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
