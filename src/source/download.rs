//! Downloads: curl does them, this file watches how far they are.
//!
//! A download that broke off goes on where it ended. What was downloaded is not to be used before its digest was checked, which is the caller's
//! business.
//!
//! Read [`download`] first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SourceError;
use super::program::{Program, last_lines};
use crate::event::{Event, Events};

/// How often a download's size is reported.
const REPORT: Duration = Duration::from_millis(250);

/// Runs `work` and reports meanwhile how many bytes the files in `folder` have.
pub async fn watched<T>(work: impl Future<Output = T>, folder: &Path, what: &str, total: impl Fn() -> Option<u64>, events: &Events) -> T {
    let report = || events.send(Event::Download { what: what.to_owned(), bytes: size(folder), total: total() });
    let mut ticks = tokio::time::interval(REPORT);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                report();
                return result;
            }
            _ = ticks.tick() => report(),
        }
    }
}

/// Bytes of the files in a folder (apt has a folder `partial` in it).
fn size(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).max_depth(2).into_iter().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

/// Downloads `url` into `folder`, where an earlier attempt may have left a part of it. Returns the file.
///
/// # Errors
/// When curl is missing or fails.
pub async fn download(url: &str, folder: &Path, events: &Events) -> Result<PathBuf, SourceError> {
    let file = folder.join("archive");
    let headers = tempfile::NamedTempFile::new().map_err(super::failed("create a file in", &std::env::temp_dir()))?;
    let already = size(folder);
    let mut curl = Program::new("curl", "curl");
    curl.command
        .args(["--fail", "--location", "--silent", "--show-error", "--retry", "3", "--connect-timeout", "30"])
        .args(["--speed-limit", "1024", "--speed-time", "60", "--proto", "=http,https", "--continue-at", "-"])
        .arg("--dump-header")
        .arg(headers.path())
        .arg("--output")
        .arg(&file)
        .args(["--url", url]);
    let total = || std::fs::read_to_string(headers.path()).ok().and_then(|text| content_length(&text)).map(|length| length + already);
    let output = watched(curl.output(), folder, url, total, events).await?;
    if output.status.success() {
        return Ok(file);
    }
    // What is there is kept for the next attempt, unless the server can't go on from it (416, or an error of its own).
    if matches!(output.status.code(), Some(22 | 33 | 36)) {
        let _ = std::fs::remove_file(&file);
    }
    Err(SourceError::Download { url: url.to_owned(), why: last_lines(&output.stderr) })
}

/// The last `Content-Length` of a redirected transfer's headers.
fn content_length(headers: &str) -> Option<u64> {
    let mut lengths =
        headers.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next_back()?.1.trim().parse().ok()
}
