//! One run of make, or of another program that starts many: listened to while it works.
//!
//! make's standard output and error go into one log. When we are dropped, or when it misses its deadline, make's process group is killed and gone
//! before anything else happens; when we are killed, the kernel kills make, and its children end at their next message, because nobody reads their
//! pipe any more. This file doesn't know what is made.
//!
//! Read [`run`] first.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::unix::pipe;

use crate::program::{Deadline, Group, Heard, Program, ProgramError};

/// Environment variables of the user's that a build keeps; all others could change what is built.
const KEPT: [&str; 6] = ["PATH", "HOME", "TMPDIR", "CCACHE_DIR", "CCACHE_DISABLE", "USER"];

/// Runs a program by its words (`make` and its arguments, or what leads to it) in `folder` with this environment and a few of the user's variables. Each line goes to `log` and to `on_line`.
///
/// # Errors
/// When it can't be started or listened to, or misses the deadline.
pub async fn run(
    words: &[OsString],
    folder: &Path,
    environment: &[(&str, OsString)],
    deadline: Deadline,
    log: &mut BufWriter<tokio::fs::File>,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus, ProgramError> {
    let (name, arguments) = words.split_first().map_or((OsString::new(), words), |(name, arguments)| (name.clone(), arguments));
    let package = name.to_string_lossy().into_owned();
    let mut program = Program::new(name, &package).within(deadline);
    let command = program.command.args(arguments).current_dir(folder).env_clear();
    command
        .envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let (reader, writer) =
        io::pipe().and_then(|(reader, writer)| Ok((reader, [writer.try_clone()?, writer]))).map_err(|cause| program.broken(cause))?;
    let [output, errors] = writer;
    program.command.stdout(output).stderr(errors);
    let mut group = Group(program.start()?);
    // The command holds our copies of the pipe's writing end.
    program.command.stdout(Stdio::null()).stderr(Stdio::null());
    let heard = Heard::default();
    let listening = async {
        let mut lines = BufReader::new(pipe::Receiver::from_owned_fd(reader.into())?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await? > 0 {
            heard.sign();
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
    };
    tokio::select! {
        ended = listening => ended.map_err(|cause| program.broken(cause)),
        () = heard.over(program.deadline()) => Err(program.late(&[])),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::build::BuildError;

    #[tokio::test]
    async fn a_make_that_compiles_nothing_for_long_is_ended_and_its_log_named() {
        let folder = tempfile::tempdir().unwrap();
        let (makefile, path) = (folder.path().join("Makefile"), folder.path().join("build.log"));
        std::fs::write(&makefile, "all: begun hangs\nbegun:\n\t@echo begun\nhangs:\n\t@sleep 60\n").unwrap();
        let mut log = BufWriter::new(tokio::fs::File::create(&path).await.unwrap());
        let words = ["make", "-j2", "all"].map(OsString::from);
        let (start, deadline) = (Instant::now(), Deadline::Silent(Duration::from_secs(2)));
        let error = run(&words, folder.path(), &[], deadline, &mut log, |_| ()).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "begun\n");
        let shown = BuildError::of_make(error, Path::new("LOG")).to_string();
        assert_eq!(shown, "`make -j2 all` said nothing for 2 s and was killed: look in the log LOG what it did last, and run that by hand");
    }
}
