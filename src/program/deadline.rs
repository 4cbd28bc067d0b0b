//! How long programs are waited for, and what is said of one that took longer.
//!
//! What works on files gets a time; what waits for others (a server, a compiler) gets one between two signs of life, because nobody knows how much
//! there is to do. Nothing is killed here.
//!
//! Read [`Deadline`] first.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a program may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deadline {
    /// From its start to its end.
    Total(Duration),
    /// Between two pieces of what it writes to its standard output and error.
    Silent(Duration),
    /// The same, but files of this folder that grow are a sign of life too.
    Still(Duration, PathBuf),
}

impl Deadline {
    /// The time in it.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            Self::Total(limit) | Self::Silent(limit) | Self::Still(limit, _) => *limit,
        }
    }
}

/// A program that missed its deadline, and was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Its words.
    pub command: String,
    /// The deadline.
    pub deadline: Deadline,
    /// The last lines that it wrote to its standard error, if they are known.
    pub said: String,
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.deadline {
            Deadline::Total(_) => "didn't end within",
            Deadline::Silent(_) => "said nothing for",
            Deadline::Still(..) => "brought nothing for",
        };
        let limit = self.deadline.limit();
        write!(f, "`{}` {what} ", self.command)?;
        match limit.as_secs() {
            minutes if minutes >= 60 && minutes % 60 == 0 => write!(f, "{} min", minutes / 60)?,
            _ => write!(f, "{} s", limit.as_secs_f64())?,
        }
        f.write_str(" and was killed")?;
        if self.said.is_empty() { Ok(()) } else { write!(f, " (it had said: {})", self.said) }
    }
}

/// A command's words in one line; those that blanks would tear apart are quoted.
pub(super) fn shown<'a>(words: impl Iterator<Item = &'a OsStr>) -> String {
    let word = |word: &OsStr| {
        let text = word.to_string_lossy();
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            format!("{text:?}")
        } else {
            text.into_owned()
        }
    };
    words.map(word).collect::<Vec<_>>().join(" ")
}

/// When a program gave its last sign of life.
#[derive(Debug)]
pub struct Heard {
    started: Instant,
    /// Milliseconds from the start.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }
}

/// How often within its deadline a program is looked after.
const LOOKS: u32 = 20;

impl Heard {
    /// There was one now.
    pub fn sign(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Ends when the program has missed its deadline, by a twentieth of it at most.
    pub async fn over(&self, deadline: &Deadline) {
        let (limit, folder) = match deadline {
            Deadline::Total(limit) => return tokio::time::sleep(*limit).await,
            Deadline::Silent(limit) => (limit, None),
            Deadline::Still(limit, folder) => (limit, Some(folder)),
        };
        let mut before = folder.map(|folder| written(folder));
        while self.silence() < *limit {
            tokio::time::sleep(*limit / LOOKS).await;
            let now = folder.map(|folder| written(folder));
            if now != before {
                before = now;
                self.sign();
            }
        }
    }
}

/// Bytes of the files in a folder and in those below it (apt has a folder `partial`).
#[must_use]
pub fn written(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).max_depth(2).into_iter().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}
