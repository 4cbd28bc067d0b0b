//! Outside programs: found, run with arguments only (never through a shell), and their failure told with what they said.
//!
//! What a program's output means is its caller's business.
//!
//! Read [`Program`] first.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Why a program's work wasn't done.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It isn't there.
    #[error("{program} is not installed: `apt-get install {package}`")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: String,
    },
    /// It couldn't be started or waited for.
    #[error("run {program}: {cause}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// The program and what it did.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines that it wrote to its standard error.
        said: String,
    },
}

/// A program by its name. `package` is the Debian package that has it. Its messages are not translated.
#[derive(Debug)]
pub struct Program {
    name: String,
    package: String,
    /// Its command line, to be completed.
    pub command: Command,
}

impl Program {
    /// A program without arguments yet.
    #[must_use]
    pub fn new(name: &str, package: &str) -> Self {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        Self { name: name.to_owned(), package: package.to_owned(), command }
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// When it is missing or can't be run.
    pub async fn output(&mut self) -> Result<Output, ProgramError> {
        self.command.output().await.map_err(|cause| self.not_run(cause))
    }

    /// Runs it and wants it to succeed. Returns its standard output.
    ///
    /// # Errors
    /// When it is missing, can't be run or fails.
    pub async fn success(&mut self) -> Result<Vec<u8>, ProgramError> {
        let output = self.output().await?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(&output)) }
    }

    /// The error for a start that failed.
    #[must_use]
    pub fn not_run(&self, cause: std::io::Error) -> ProgramError {
        if cause.kind() == std::io::ErrorKind::NotFound {
            ProgramError::Missing { program: self.name.clone(), package: self.package.clone() }
        } else {
            ProgramError::Start { program: self.name.clone(), cause }
        }
    }

    /// The error for an end that was none of success.
    #[must_use]
    pub fn failed(&self, output: &Output) -> ProgramError {
        ProgramError::Failed { program: self.name.clone(), status: output.status, said: last_lines(&output.stderr) }
    }
}

/// The last three lines of what a program said, as one.
#[must_use]
pub fn last_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// Where a program is, by `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}
