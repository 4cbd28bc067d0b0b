//! The small forms inside a definition: durations, sizes, paths, boot arguments, digests.
//!
//! Each function takes one written value and gives the typed one, or says what is wrong and what to write instead. Only the functions that say so
//! look whether a file exists; nothing here knows where in a file the value was.
//!
//! Read [`Wrong`] first.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::MemMib;
use super::problem::nearest_word;

/// What is wrong with a value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    pub remedy: String,
}

pub(super) fn wrong<T>(message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), remedy: remedy.into() })
}

/// Splits `24 MiB` into 24 and `MiB`; at most one space between.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    Some((digits.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Longest duration: no trial takes a month, and sums of such durations can't overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `500ms`, `40s`, `2min` or `8h`; above 0.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let milliseconds = number_and_unit(text).and_then(|(number, unit)| {
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" => 60 * 1000,
            "h" => 3600 * 1000,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    match milliseconds.map(Duration::from_millis) {
        None => wrong(format!("{text:?} is no duration"), "write `500ms`, `40s`, `2min` or `8h`"),
        Some(Duration::ZERO) => wrong("a duration of 0 is impossible", "write 1ms or more"),
        Some(long) if long > LONGEST => wrong("a duration of more than 30 days is impossible", "write 720h or less"),
        Some(duration) => Ok(duration),
    }
}

/// How long a reproducer runs: a duration in whole seconds, which is how it is told to the reproducer.
pub(super) fn seconds(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        duration if duration.subsec_millis() == 0 => Ok(duration),
        _ => wrong(
            format!("{text:?} is no number of whole seconds, which a reproducer is told"),
            "write 1s or more, without a part of a second",
        ),
    }
}

/// `24 MiB`, `2 GiB` or `1 TiB`.
pub(super) fn size(text: &str) -> Result<MemMib, Wrong> {
    let mib = number_and_unit(text).and_then(|(number, unit)| {
        let factor = match unit {
            "MiB" => 1,
            "GiB" => 1024,
            "TiB" => 1024 * 1024,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    match mib {
        Some(mib) => Ok(MemMib(mib)),
        None => wrong(format!("{text:?} is no size"), "write `512 MiB`, `2 GiB` or `1 TiB`"),
    }
}

/// Boot arguments that hangproof itself sets, by key.
const OURS: [&str; 6] = ["console", "init", "initrd", "panic", "rdinit", "root"];

/// One argument of the kernel's command line.
pub(super) fn boot_argument(text: &str) -> Result<String, Wrong> {
    let key = text.split_once('=').map_or(text, |(key, _)| key);
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') {
        return wrong(format!("{text:?} is no boot argument"), "write one word without quotes; two arguments are two items of the list");
    }
    if text == "--" || OURS.contains(&key) {
        return wrong(format!("the boot argument `{key}` is set by hangproof itself"), "remove it");
    }
    Ok(text.to_owned())
}

/// A file below `folder` (whose shown name is `shown`), which exists.
pub(super) fn file_below(folder: &Path, shown: &str, text: &str) -> Result<PathBuf, Wrong> {
    existing(folder.join(inside(text, &format!("`{shown}/`"))?), &format!("{shown}/{text}"), text)
}

/// A reproducer's file, which exists: below its pipeline's folder (whose shown name is `shown`), or, as `../PIPELINE/FILE`, below another pipeline's.
pub(super) fn reproducer_file(folder: &Path, shown: &str, text: &str) -> Result<PathBuf, Wrong> {
    let (Some(rest), Some(pipelines), Some((shown_pipelines, _))) = (text.strip_prefix("../"), folder.parent(), shown.rsplit_once('/'))
    else {
        return file_below(folder, shown, text);
    };
    match inside(rest, shown) {
        Ok(path) if path.components().count() > 1 => existing(pipelines.join(path), &format!("{shown_pipelines}/{rest}"), text),
        _ => wrong(
            format!("{text:?} is neither a path inside `{shown}/` nor one of another pipeline"),
            format!("write a path relative to `{shown}/`, or `../PIPELINE/FILE`, without further `.` and `..`"),
        ),
    }
}

/// `path`, if it is a file; it is written as `text` and shown as `shown`.
fn existing(path: PathBuf, shown: &str, text: &str) -> Result<PathBuf, Wrong> {
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => return Ok(path),
        Ok(found) if found.is_dir() => return wrong(format!("`{shown}` is a folder"), "name a file in it"),
        Ok(_) => return wrong(format!("`{shown}` is no regular file"), "name one"),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => return wrong(format!("`{shown}` can't be looked at: {error}"), "make it readable, or correct its name"),
    }
    let meant = sibling(&path).map(|name| format!("did you mean `{}`?", Path::new(text).with_file_name(name).display()));
    wrong(format!("no file `{shown}`"), meant.unwrap_or_else(|| "add the file or correct its name".to_owned()))
}

/// The name of the file beside `path` that has nearly the same name and the same extension.
fn sibling(path: &Path) -> Option<String> {
    let files = std::fs::read_dir(path.parent()?).ok()?.flatten().map(|entry| entry.path());
    let siblings: Vec<PathBuf> = files.filter(|file| file.extension() == path.extension() && file.is_file()).collect();
    // Without the extension, which would make all of them alike.
    let stems: Vec<&str> = siblings.iter().filter_map(|file| file.file_stem()?.to_str()).collect();
    let stem = nearest_word(path.file_stem()?.to_str()?, &stems)?;
    let file = siblings.iter().find(|file| file.file_stem().is_some_and(|name| name == stem))?;
    file.file_name()?.to_str().map(str::to_owned)
}

/// A path that stays below the folder that it is relative to, which is shown as `folder`.
pub(super) fn inside(text: &str, folder: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(text);
    let stays = path.components().all(|component| matches!(component, Component::Normal(_)));
    if text.is_empty() || !stays || text.chars().any(char::is_control) {
        return wrong(format!("{text:?} is no path inside {folder}"), format!("write a path relative to {folder}, without `.` and `..`"));
    }
    Ok(path.to_owned())
}

/// An absolute path of something on this machine; it need not exist yet.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(text);
    let plain = path.components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.chars().any(char::is_control) {
        return wrong(format!("{text:?} is no absolute path"), "write a path that begins with `/` and has no `..`");
    }
    Ok(path.to_owned())
}

/// A SHA-256 digest.
pub(super) fn sha256(text: &str) -> Result<String, Wrong> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if text.len() == 64 && text.chars().all(hex) {
        return Ok(text.to_owned());
    }
    wrong(format!("{text:?} is no SHA-256 digest"), "write 64 lower-case hexadecimal digits, as `sha256sum` prints them")
}

/// A SHA-1 digest.
pub(super) fn sha1(text: &str) -> Result<String, Wrong> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if text.len() == 40 && text.chars().all(hex) {
        return Ok(text.to_owned());
    }
    wrong(format!("{text:?} is no SHA-1 digest"), "write 40 lower-case hexadecimal digits, as `sha1sum` prints them")
}

/// A word that is handed to a program of the host: not empty, not an option, only letters, digits and `punctuation`.
pub(super) fn argument(text: &str, what: &str, punctuation: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    let marks: Vec<String> = punctuation.chars().map(|c| format!("`{c}`")).collect();
    wrong(format!("{text:?} is no {what}"), format!("use letters, digits and {}, and don't begin with `-`", marks.join(" ")))
}

/// The key of a reproducer's parameter: `[a-z][a-z0-9-]*`.
pub(super) fn parameter_key(text: &str) -> Result<(), Wrong> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fine) {
        return Ok(());
    }
    wrong(format!("{text:?} is no parameter"), "use a-z, 0-9 and `-`, and begin with a letter")
}

/// The value of a reproducer's parameter. What the trial decides has to be left to it.
pub(super) fn parameter_value(key: &str, text: &str) -> Result<(), Wrong> {
    if text.chars().any(char::is_control) {
        return wrong("a parameter's value holds a control character", "write it on one line");
    }
    match key {
        "dir" if text != DIR => wrong("the folder is the trial's to decide", format!("write `dir: \"{DIR}\"`")),
        "duration" if text != DURATION => {
            wrong("the duration stands in `limits`", format!("write `duration: \"{DURATION}\"` and set `limits: duration:`"))
        }
        _ => match placeholders(text).find(|word| ![DURATION, DIR].contains(word)) {
            Some(unknown) => wrong(format!("nothing stands for {unknown}"), format!("write {DURATION}, {DIR} or other words")),
            None => Ok(()),
        },
    }
}

/// The `{word}`s of a text.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    // `${word}` is a shell's or a program's own.
    text.match_indices('{').filter(|(begin, _)| !text[..*begin].ends_with('$')).filter_map(|(begin, _)| {
        let rest = &text[begin..];
        let word = &rest[..=rest.find('}')?];
        let inner = &word[1..word.len() - 1];
        (!inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte))).then_some(word)
    })
}

/// What stands for the trial's duration in seconds in a parameter's value.
pub const DURATION: &str = "{duration}";

/// What stands for the folder on the filesystem under test in a parameter's value.
pub const DIR: &str = "{dir}";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2min").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("8 h").unwrap(), Duration::from_secs(8 * 3600));
        for bad in ["", "40", "s", "1.5s", "-1s", "0s", "4  s", "99999999999999999999s", "18446744073709551615h", "721h", "４s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(size("24 MiB").unwrap(), MemMib(24));
        assert_eq!(size("2GiB").unwrap(), MemMib(2048));
        for bad in ["", "24", "MiB", "24 MB", "24M", "1.5 GiB", "18446744073709551615 TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_stay_where_they_belong() {
        assert_eq!(inside("a/b.patch", "patches").unwrap(), Path::new("a/b.patch"));
        for bad in ["", "..", "../a", "a/../b", "/a", "./a", "a\0b"] {
            assert!(inside(bad, "patches").is_err(), "{bad}");
        }
        for bad in ["", "a", "/a/../b", "/a\nb"] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
    }
}
