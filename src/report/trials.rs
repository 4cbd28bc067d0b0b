//! A trial's evidence on disk: `trials/ID/evidence.json`, `console.log` beside it.
//!
//! The console is a text file, one line each with its time, because people read it; all else is data. What is read back equals what was saved.
//!
//! Read [`save_trial`] and [`load_trial`].

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Report, write_whole};
use crate::evidence::{At, ConsoleLine, Evidence};
use crate::input;
use crate::plan::TrialId;

const EVIDENCE: &str = "evidence.json";
/// The folder of all trials, below the run's.
pub const TRIALS: &str = "trials";

/// The console of a trial.
pub(super) const CONSOLE: &str = "console.log";

/// Largest of them: a console is cut at a few MiB; a look has up to 8 MiB, and a trial some dozens of them.
const LARGEST: u64 = 1 << 30;

/// A trial's folder, relative to the run's.
#[must_use]
pub fn trial_folder(trial: &TrialId) -> PathBuf {
    Path::new(TRIALS).join(trial.to_string())
}

/// Saves a trial's evidence below the run's folder.
///
/// # Errors
/// When a file can't be written.
pub fn save_trial(run: &Path, evidence: &Evidence) -> io::Result<()> {
    let folder = run.join(trial_folder(&evidence.trial));
    fs::create_dir_all(&folder)?;
    let console: String = evidence.console.iter().map(written).collect();
    write_whole(&folder.join(CONSOLE), console.as_bytes())?;
    write_whole(&folder.join(EVIDENCE), &serde_json::to_vec_pretty(evidence)?)
}

/// Reads a trial's evidence.
///
/// # Errors
/// When a file can't be read or isn't what was saved.
pub fn load_trial(run: &Path, trial: &TrialId) -> io::Result<Evidence> {
    let folder = run.join(trial_folder(trial));
    let named = |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.join(name).display()));
    let text = input::read(&folder.join(EVIDENCE), LARGEST).map_err(|error| named(EVIDENCE, error))?;
    let mut evidence: Evidence = serde_json::from_slice(&text).map_err(|error| named(EVIDENCE, error.into()))?;
    if evidence.trial != *trial {
        let error = io::Error::new(io::ErrorKind::InvalidData, format!("it is the evidence of {}, another trial", evidence.trial));
        return Err(named(EVIDENCE, error));
    }
    let console = input::read(&folder.join(CONSOLE), LARGEST).map_err(|error| named(CONSOLE, error))?;
    let console = String::from_utf8_lossy(&console);
    for (index, line) in console.lines().enumerate() {
        let problem = || io::Error::new(io::ErrorKind::InvalidData, format!("line {}: not `SECONDS | text`", index + 1));
        evidence.console.push(read(line).ok_or_else(|| named(CONSOLE, problem()))?);
    }
    Ok(evidence)
}

/// The folders of trials that aren't in the report, sorted.
///
/// # Errors
/// When the run's folder can't be read.
pub fn unlisted(run: &Path, report: &Report) -> io::Result<Vec<PathBuf>> {
    let known: HashSet<PathBuf> =
        report.kernels.iter().flat_map(|kernel| &kernel.results).map(|result| run.join(trial_folder(&result.trial))).collect();
    let folders = match fs::read_dir(run.join(TRIALS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folders => folders?,
    };
    let mut paths = folders.map(|folder| Ok(folder?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !known.contains(path));
    paths.sort();
    Ok(paths)
}

/// Removes the folders of trials that aren't in the report: they were running when their program was killed, and their numbers are given again.
///
/// # Errors
/// When one can't be removed.
pub fn forget_unfinished(run: &Path, report: &Report) -> io::Result<()> {
    unlisted(run, report)?.into_iter().try_for_each(fs::remove_dir_all)
}

fn written(line: &ConsoleLine) -> String {
    format!("{:>5}.{:03} | {}\n", line.at.0 / 1000, line.at.0 % 1000, line.text)
}

fn read(line: &str) -> Option<ConsoleLine> {
    let (time, text) = line.split_once(" | ")?;
    let (seconds, millis) = time.trim_start().split_once('.')?;
    let at = At(seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis.parse().ok()?)?);
    Some(ConsoleLine { at, text: text.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn console_lines_survive(at in 0u64..10_000_000, text in "[^\\n\\r\\p{Cc}]*") {
            let line = ConsoleLine { at: At(at), text };
            let text = written(&line);
            proptest::prop_assert_eq!(read(text.strip_suffix('\n').unwrap()), Some(line));
        }
    }
}
