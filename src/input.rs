//! Files that a user names: sources, patches, configurations, a run's report.
//!
//! Only regular files are opened, because a named pipe would be waited for and a device may never end. What is read into memory is bounded.
//!
//! Read [`open`] first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Largest text: a patch, a configuration, a key. The whole difference between two releases of Linux has 100 MB.
pub const LARGEST_TEXT: u64 = 512 << 20;

/// Opens a regular file, or what a link to one leads to.
///
/// # Errors
/// When it can't be opened, or is something else.
pub fn open(path: &Path) -> io::Result<File> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "is no regular file: name one, or the file that a link is to lead to");
    // Before it is opened, since opening a device may do something; and after, since it may be another file by then.
    if !fs::metadata(path)?.is_file() {
        return Err(refused());
    }
    let no_wait = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`], or when it is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= most {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("has more than {} MiB: name a smaller file", most >> 20)))
}

/// As [`read`], for a text in UTF-8.
///
/// # Errors
/// As [`read`], or when it is another one.
pub fn read_text(path: &Path) -> io::Result<String> {
    let no_text = |_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8: save it as UTF-8");
    String::from_utf8(read(path, LARGEST_TEXT)?).map_err(no_text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, zero, link, file] = ["pipe", "zero", "link", "file"].map(|name| folder.path().join(name));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
        for odd in [&pipe, &zero, &folder.path().to_owned()] {
            let said = read(odd, 1).unwrap_err().to_string();
            assert_eq!(said, "is no regular file: name one, or the file that a link is to lead to", "{}", odd.display());
        }
        assert_eq!(read(&link, 2 << 20).unwrap().len(), (1 << 20) + 1);
        assert_eq!(read(&link, 1 << 20).unwrap_err().to_string(), "has more than 1 MiB: name a smaller file");
    }
}
