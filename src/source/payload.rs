//! The payload of an rpm package: a cpio archive, read entry by entry.
//!
//! What an archive says of lengths is never a reason to allocate, and what it holds is counted before it is given on. Nothing is written here, and no name
//! or kind of an entry is judged; that is for whoever takes the entries.
//!
//! Read [`each`] first.

use std::cell::Cell;
use std::io::{self, Read};

use cpio::newc;

use super::archive::{ArchiveError, Limits, Rationed, Refusal};
use super::stop::Stop;

/// What an entry says of itself.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path.
    pub name: String,
    /// Kind and permissions (inode(7)).
    pub mode: u32,
    /// Bytes that follow.
    pub size: u64,
}

impl Entry {
    /// Whether it is a plain file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & KIND == 0o100_000
    }

    /// What it is, if no plain file.
    #[must_use]
    pub fn special(&self) -> Option<&'static str> {
        match self.mode & KIND {
            0o100_000 => None,
            0o120_000 => Some("symbolic link"),
            0o040_000 => Some("folder"),
            0o020_000 | 0o060_000 => Some("device"),
            0o010_000 => Some("fifo"),
            _ => Some("special file"),
        }
    }
}

/// inode(7), the file type.
const KIND: u32 = 0o170_000;

/// Gives every entry of an archive (plain bytes) to `take`, with a reader of its content. What is left unread of that is passed over.
///
/// # Errors
/// What `take` says, and what `wrap` makes of an archive that is damaged or holds more than it may.
pub fn each<E>(
    archive: impl Read,
    limits: Limits,
    stop: &Stop,
    wrap: impl Fn(ArchiveError) -> E,
    mut take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let damaged = |cause| wrap(ArchiveError::Damaged(cause));
    let ration = Cell::new(0);
    let mut archive = Rationed { inner: archive, left: &ration };
    let mut left = limits.bytes;
    for number in 1.. {
        stop.check().map_err(damaged)?;
        // A name's length is the archive's word, and the reader would hold all of it.
        ration.set(ENTRY_HEADER + limits.path as u64 + PADDING);
        let mut reader = newc::Reader::new(&mut archive).map_err(damaged)?;
        if reader.entry().is_trailer() {
            drop(reader);
            // What compresses the payload has a checksum at its end.
            ration.set(TAIL);
            io::copy(&mut archive.take(TAIL), &mut io::sink()).map_err(damaged)?;
            break;
        }
        let entry =
            Entry { name: reader.entry().name().to_owned(), mode: reader.entry().mode(), size: u64::from(reader.entry().file_size()) };
        let refused = |why| wrap(ArchiveError::Refused { entry: entry.name.clone(), why });
        if number > limits.entries {
            return Err(refused(Refusal::TooMany(number)));
        }
        left = left.checked_sub(entry.size).ok_or_else(|| refused(Refusal::TooLarge(limits.bytes)))?;
        ration.set(entry.size + PADDING);
        take(&entry, &mut reader)?;
        reader.finish().map_err(damaged)?;
    }
    Ok(())
}

/// Bytes of a cpio entry before its name, and the most that pads a name or a file (cpio(5), New ASCII Format).
const ENTRY_HEADER: u64 = 110;
const PADDING: u64 = 3;
/// Zeros after the last entry: archives are padded to blocks, tapes' at most.
const TAIL: u64 = 64 << 10;
