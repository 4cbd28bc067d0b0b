//! The folder of a run's results: whose it is, what may be in it, and the command that repeats the run without it.
//!
//! It writes no results, and removes nothing that a run didn't make.
//!
//! Read [`claim`] first.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::Usage;
use crate::progress::{EVENTS, Progress};
use crate::report::{self, Report};
use crate::text::for_a_shell;

/// Makes a run's folder and takes possession of it: the event log is created there, which only one run can do.
pub(super) fn claim(out: &Path, progress: &mut Progress, goes_on: bool) -> Result<()> {
    let unusable = |error: std::io::Error| {
        anyhow!(Usage(format!("{} can't take the results: {error}: choose another folder with --out", out.display())))
    };
    if goes_on {
        return progress.log_on(out).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                anyhow!(Usage(format!("{}: another hangproof works in it: wait until that has ended, or stop it", out.display())))
            }
            std::io::ErrorKind::NotFound => {
                anyhow!(Usage(format!("{} holds no search to go on with: leave out --resume, or name its folder", out.display())))
            }
            _ => unusable(error),
        });
    }
    let absolute = real(out).map_err(unusable)?;
    let is_run = |folder: &&Path| [report::FILE, EVENTS].iter().all(|name| folder.join(name).exists());
    if let Some(run) = absolute.ancestors().skip(1).find(is_run) {
        return Err(anyhow!(Usage(format!(
            "{} lies in another run's folder, {}: choose another one with --out",
            out.display(),
            run.display()
        ))));
    }
    std::fs::create_dir_all(out).map_err(unusable)?;
    if out.join(report::FILE).exists() {
        return Err(anyhow!(Usage(format!("{} holds a report already: choose another folder with --out", out.display()))));
    }
    // They may be anybody's: `kernels` is a folder of the definitions, too.
    if let Some(name) = report::FOLDERS.into_iter().find(|name| out.join(name).symlink_metadata().is_ok()) {
        return Err(anyhow!(Usage(format!("{} holds {name} already, as a run makes it: choose another folder with --out", out.display()))));
    }
    progress.log_to(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow!(Usage(format!("{} is another run's folder: choose another one with --out", out.display())))
        }
        _ => unusable(error),
    })
}

/// A path whose folders may not all be there: links and `..` resolved as far as they are.
pub(super) fn real(path: &Path) -> std::io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    for known in whole.ancestors() {
        if let (Ok(found), Ok(rest)) = (known.canonicalize(), whole.strip_prefix(known)) {
            return Ok(found.join(rest));
        }
    }
    Ok(whole)
}

/// Removes the folder of a run that came to nothing, so that the same command can be given again.
pub(super) fn give_back(out: &Path) {
    match Report::load(out) {
        Ok(report) if report.kernels.is_empty() => {
            report::forget_pipeline(out, report.reproducer_source.as_deref());
            let _ = std::fs::remove_file(out.join(report::FILE));
        }
        Err(_) if !out.join(report::FILE).exists() => {}
        Ok(_) | Err(_) => return,
    }
    let _ = std::fs::remove_file(out.join(EVENTS));
    let _ = std::fs::remove_dir(out);
}

/// The command that repeats the run, quoted for a shell: as it was given, but for the folder of the results, which is taken now.
pub(super) fn command_line() -> String {
    let words = repeatable(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    std::iter::once("hangproof".to_owned()).chain(words.iter().map(|word| for_a_shell(word))).collect::<Vec<_>>().join(" ")
}

/// The words without `--out DIR`, in all its forms, and `--resume`.
fn repeatable(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word);
            kept.extend(words);
            break;
        }
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        // `-o DIR`, `-oDIR` and `-qo DIR`: the only short option without a value is `-q`.
        let flags = short.map_or("", |rest| rest.trim_start_matches('q'));
        if word == "--out" || flags == "o" {
            words.next();
            kept.extend(short.filter(|rest| rest.len() > 1).map(|_| "-q".to_owned()));
        } else if flags.starts_with('o') {
            kept.extend(short.filter(|rest| rest.starts_with('q')).map(|_| "-q".to_owned()));
        } else if !word.starts_with("--out=") && word != "--resume" {
            kept.push(word);
        }
    }
    kept
}

/// A file that can't be written: where it is to be is the user's choice, a full disk isn't.
pub(super) fn unwritable(place: &Path, error: std::io::Error) -> anyhow::Error {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let choice = matches!(error.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem);
    // Without the name of the temporary file beside it.
    let cause = error.raw_os_error().map_or_else(|| std::io::Error::from(error.kind()), std::io::Error::from_raw_os_error);
    if choice {
        anyhow!(Usage(format!("{} can't be written: {cause}: choose another file", place.display())))
    } else {
        anyhow!(cause).context(format!("writing {}", place.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_repeated_without_its_folder() {
        let kept = |line: &str| repeatable(line.split(' ').map(str::to_owned)).join(" ");
        for line in ["run p --out a", "run p --out=a", "run p -o a", "run p -oa", "run p -o=a", "run p --resume -o a"] {
            assert_eq!(kept(line), "run p", "{line}");
        }
        assert_eq!((kept("-qo a run p"), kept("run -qoa p"), kept("run p -q")), ("-q run p".into(), "run -q p".into(), "run p -q".into()));
        assert_eq!(kept("run p --set out=3 -k only -- --out x"), "run p --set out=3 -k only -- --out x");
    }
}
