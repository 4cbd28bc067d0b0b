//! A program's standard output as it comes, for blocking work such as unpacking.
//!
//! Read [`Stream`] first.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::{Program, ProgramError, group};

/// A program that is read from. It and its children die with the value.
#[derive(Debug)]
pub struct Stream {
    program: Program,
    child: Child,
    /// None once it isn't read from any more.
    output: Option<ChildStdout>,
    /// It missed its deadline.
    late: bool,
    /// It has ended and been waited for.
    ended: bool,
}

/// How long a program may take to end after its output was closed or came to its end.
const END: Duration = Duration::from_secs(10);

impl Program {
    /// Starts it to read from it. Its deadline is that of each piece, whatever kind it is of. To be called by the thread that reads, because the
    /// parent-death signal follows it.
    ///
    /// # Errors
    /// When it is missing or can't be started.
    pub fn stream(mut self) -> Result<Stream, ProgramError> {
        self.is_there()?;
        let started = self.command.as_std_mut().stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.map_err(|cause| self.broken(cause))?;
        let output = child.stdout.take();
        Ok(Stream { program: self, child, output, late: false, ended: false })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Ok(0) };
        let limit = Timespec::try_from(self.program.deadline().limit()).map_err(io::Error::other)?;
        if retry_on_intr(|| poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&limit)))? > 0 {
            return output.read(buffer);
        }
        self.late = true;
        self.end();
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Stream {
    /// Reads no further, and waits for its end.
    ///
    /// # Errors
    /// When it had missed its deadline, or can't be waited for. A failed read is explained by this error if there is one.
    pub fn finish(mut self) -> Result<ExitStatus, ProgramError> {
        if self.late {
            return Err(self.program.late(&[]));
        }
        // It ends at its next write at the latest.
        self.output = None;
        let start = Instant::now();
        while start.elapsed() < END && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.end();
        self.child.wait().map_err(|cause| self.program.broken(cause))
    }

    /// Kills it and its children, unless it has ended.
    fn end(&mut self) {
        if !self.ended && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            group::end(self.child.id(), || self.child.try_wait().is_ok_and(|ended| ended.is_some()));
        }
        self.ended = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}
