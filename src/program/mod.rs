//! Programs of this machine: found, run with arguments only (never through a shell), ended at a deadline with all their children, and their failure
//! told with what they said.
//!
//! Each dies with us even if we are killed: `setpriv --pdeathsig` starts it (`prctl(2)`, `PR_SET_PDEATHSIG`). Each is in a process group of its own,
//! so that a Ctrl-C at the terminal doesn't reach it and its end is that of its children. Two are started elsewhere: user-mode Linux, which a
//! parent-death signal doesn't end, and the ssh of an interactive shell, which a person ends. What an output means is its caller's business.
//!
//! Read [`Program`] first.

mod deadline;
mod group;
mod stream;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

pub use deadline::{Deadline, Heard, Late, written};
pub use group::Group;
pub use stream::Stream;

/// How long a program may take that isn't told otherwise. What works on this machine's files only takes a second, and a minute on a whole kernel
/// (`git apply`, `tar`): ten times that, for a loaded disk.
pub const DEADLINE: Duration = Duration::from_secs(10 * 60);

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
        cause: io::Error,
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
    /// It had its time.
    #[error("{0}: run it by hand to see what it waits for, and try again")]
    Late(Late),
}

/// A program by its name or path. `package` is the Debian package that has it. Its messages are not translated.
#[derive(Debug)]
pub struct Program {
    name: OsString,
    package: String,
    deadline: Deadline,
    /// Its command line, to be completed.
    pub command: Command,
}

/// Most bytes of what a program prints: git's list of a kernel's million commits has 41 MB.
const MOST_OUTPUT: usize = 256 << 20;

/// What starts every program, up to the program's own words.
const STARTER: (&str, [&str; 3]) = ("setpriv", ["--pdeathsig", "KILL", "--"]);

impl Program {
    /// A program without arguments yet, which may take [`DEADLINE`].
    #[must_use]
    pub fn new(name: impl AsRef<OsStr>, package: &str) -> Self {
        let name = name.as_ref().to_owned();
        let mut command = Command::new(STARTER.0);
        command.args(STARTER.1).arg(&name).env("LC_ALL", "C").stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        Self { name, package: package.to_owned(), deadline: Deadline::Total(DEADLINE), command }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn within(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end, whatever that is. When the future is dropped, it and its children are killed.
    ///
    /// # Errors
    /// When it is missing, can't be run or misses its deadline.
    pub async fn output(&mut self) -> Result<Output, ProgramError> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = Group(self.start()?);
        let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
        let heard = Heard::default();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let work = async {
            tokio::try_join!(read_all(stdout, &mut out, &heard), read_all(stderr, &mut err, &heard))?;
            group.0.wait().await
        };
        tokio::select! {
            ended = work => match ended {
                Ok(status) => Ok(Output { status, stdout: out, stderr: err }),
                Err(cause) => Err(self.broken(cause)),
            },
            () = heard.over(&self.deadline) => Err(self.late(&err)),
        }
    }

    /// [`Program::output`] for the runtime's threads for blocking work, which would be a panic elsewhere.
    ///
    /// # Errors
    /// As there.
    pub fn output_blocking(&mut self) -> Result<Output, ProgramError> {
        tokio::runtime::Handle::current().block_on(self.output())
    }

    /// Runs it and wants it to succeed. Returns its standard output.
    ///
    /// # Errors
    /// When it is missing, can't be run, fails or misses its deadline.
    pub async fn success(&mut self) -> Result<Vec<u8>, ProgramError> {
        let output = self.output().await?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(&output)) }
    }

    /// Starts it, for a caller with deadlines of its own. The parent-death signal follows the *thread* that calls this, so that is none that ends before.
    ///
    /// # Errors
    /// When it is missing or can't be started.
    pub fn start(&mut self) -> Result<Child, ProgramError> {
        self.is_there()?;
        self.command.spawn().map_err(|cause| self.broken(cause))
    }

    /// Looks whether it is there, for who wants to know it long before it is needed.
    ///
    /// # Errors
    /// When it is missing.
    pub fn is_there(&self) -> Result<(), ProgramError> {
        let programs = [(self.name.as_os_str(), self.package.as_str()), (STARTER.0.as_ref(), "util-linux")];
        match programs.into_iter().find(|(program, _)| find(program).is_none()) {
            Some((program, package)) => {
                Err(ProgramError::Missing { program: program.to_string_lossy().into_owned(), package: package.to_owned() })
            }
            None => Ok(()),
        }
    }

    fn shown(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// The error for one that can't be started, listened to or waited for.
    #[must_use]
    pub fn broken(&self, cause: io::Error) -> ProgramError {
        ProgramError::Start { program: self.shown(), cause }
    }

    /// The error for an end that was none of success.
    #[must_use]
    pub fn failed(&self, output: &Output) -> ProgramError {
        ProgramError::Failed { program: self.shown(), status: output.status, said: last_lines(&output.stderr) }
    }

    /// The error for a missed deadline. `said` is what it said until then.
    #[must_use]
    pub fn late(&self, said: &[u8]) -> ProgramError {
        let words = self.command.as_std().get_args().skip(STARTER.1.len());
        ProgramError::Late(Late { command: deadline::shown(words), deadline: self.deadline.clone(), said: last_lines(said) })
    }

    /// How long it may take.
    #[must_use]
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }
}

async fn read_all(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>, heard: &Heard) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(into).await? > 0 {
        heard.sign();
        if into.len() > MOST_OUTPUT {
            return Err(io::Error::other(format!("it prints more than {} MiB", MOST_OUTPUT >> 20)));
        }
    }
    Ok(())
}

/// The last three lines of what a program said, as one. Of a line that was written over, as progress is, that is how it was in the end.
#[must_use]
pub fn last_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = |line: &str| line.trim().rsplit('\r').next().unwrap_or_default().trim().to_owned();
    let lines: Vec<_> = said.split('\n').map(line).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// Where a program is, by `PATH`; one with a folder is there or not.
#[must_use]
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.parent().is_some_and(|folder| !folder.as_os_str().is_empty()) {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}
