//! Unpacking of archives from strangers.
//!
//! An archive gets one folder and can't reach out of it: no absolute path, no `..`, no link that leads out, no device, no set-user-id bit, no
//! endless file. Entries lie below one top folder, which is dropped. Symbolic links are made after everything else, so no entry can be written
//! through one. Times of files are kept, because make goes by them. Nothing here knows what a kernel is.
//!
//! Read [`unpack`] first.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::EntryType;

use super::stop::Stop;

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after decompression.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of one entry's path.
    pub path: usize,
}

impl Default for Limits {
    /// Linux 6.1 has 1.3 GB in 84,000 entries, paths of up to 100 bytes: ten times that, and the kernel's own limit of a path.
    fn default() -> Self {
        Self { bytes: 16 << 30, entries: 1_000_000, path: 4095 }
    }
}

/// Why an archive wasn't unpacked. Each names the entry.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive can't be read.
    #[error("it is damaged or truncated: {0}; fetch it again")]
    Damaged(io::Error),
    /// It is compressed in a way that isn't known.
    #[error("it is compressed with {0}; use a plain, gz, xz or zstd archive")]
    Compression(&'static str),
    /// An entry can't be written.
    #[error("unpack {}: {cause}", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// An entry is hostile or of no use in a source tree.
    #[error("refused entry {entry:?}: {why}; use an archive of a source tree from somebody you trust")]
    Refused {
        /// The entry's path as it stands in the archive.
        entry: String,
        /// What is wrong with it.
        why: Refusal,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Begins with `/`.
    #[error("its path is absolute")]
    Absolute,
    /// Has a `..`.
    #[error("its path contains `..`")]
    Parent,
    /// Is no UTF-8, or has control characters.
    #[error("its path is not printable text")]
    Unprintable,
    /// Lies beside the top folder.
    #[error("it doesn't lie below one top folder with everything else")]
    NoTopFolder,
    /// A symbolic or hard link that leads out.
    #[error("it is a link that leads out of the tree, to {0:?}")]
    LinkOut(String),
    /// A hard link to nothing.
    #[error("it is a hard link to {0:?}, which is no file before it in the archive")]
    LinkToNothing(String),
    /// A device, fifo or other special file.
    #[error("it is a {0}")]
    Special(&'static str),
    /// Lies in a folder, in an archive of plain files.
    #[error("it isn't a plain file beside the others")]
    NotFlat,
    /// Comes twice, or where a link or file is already.
    #[error("its place is taken by an earlier entry")]
    Twice,
    /// The path is longer than allowed.
    #[error("its path has {0} bytes, more than are allowed")]
    LongPath(usize),
    /// More entries than allowed.
    #[error("it is entry number {0}, more than are allowed")]
    TooMany(u64),
    /// More bytes than allowed.
    #[error("with it the archive unpacks to more than the {0} bytes that are allowed")]
    TooLarge(u64),
}

/// Bytes of memory that an archive may want for its dictionary: `xz -9` wants 65 MiB, and a header may claim 4 GiB.
const XZ_MEMORY: u64 = 512 << 20;

/// A reader of the archive's bytes after decompression, which is recognised by its first bytes.
///
/// # Errors
/// When the compression isn't known.
pub fn decompressed<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>, ArchiveError> {
    let mut archive = BufReader::with_capacity(1 << 20, archive);
    let start = archive.fill_buf().map_err(ArchiveError::Damaged)?;
    if start.starts_with(b"\xfd7zXZ\0") {
        let damaged = |error: liblzma::stream::Error| ArchiveError::Damaged(error.into());
        let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED).map_err(damaged)?;
        Ok(Box::new(liblzma::read::XzDecoder::new_stream(archive, stream)))
    } else if start.starts_with(b"\x1f\x8b") {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(archive)))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(archive).map_err(ArchiveError::Damaged)?))
    } else if start.starts_with(b"BZh") {
        Err(ArchiveError::Compression("bzip2"))
    } else if start.starts_with(b"\x5d\0\0") {
        Err(ArchiveError::Compression("lzma"))
    } else {
        Ok(Box::new(archive))
    }
}

/// Unpacks a tar archive (plain bytes, see [`decompressed`]) into `into`, which is an empty folder, without the archive's top folder.
///
/// # Errors
/// At the first entry that is refused or can't be written; what was unpacked before stays, so `into` is a scratch folder.
pub fn unpack(archive: impl Read, into: &Path, limits: Limits, stop: &Stop) -> Result<(), ArchiveError> {
    unpack_by(Rule::WithoutTop, archive, into, limits, stop)
}

/// Unpacks those regular files of a tar archive whose path is `wanted`, each below `into` at its whole path. Everything else is only checked.
///
/// # Errors
/// As [`unpack`]; a refused entry is one whether it is wanted or not.
pub fn unpack_some(archive: impl Read, into: &Path, limits: Limits, wanted: fn(&Path) -> bool, stop: &Stop) -> Result<(), ArchiveError> {
    unpack_by(Rule::Some(wanted), archive, into, limits, stop)
}

/// What is unpacked.
#[derive(Clone, Copy)]
enum Rule {
    /// Everything, without the one top folder in which it lies.
    WithoutTop,
    /// Regular files with such a path.
    Some(fn(&Path) -> bool),
}

fn unpack_by(rule: Rule, archive: impl Read, into: &Path, limits: Limits, stop: &Stop) -> Result<(), ArchiveError> {
    let mut unpacking = Unpacking {
        rule,
        into,
        limits,
        top: None,
        folders: HashSet::new(),
        symlinks: Vec::new(),
        bytes: 0,
        buffer: vec![0; 64 << 10],
        now: SystemTime::now(),
    };
    let ration = Cell::new(0);
    let mut archive = tar::Archive::new(Rationed { inner: archive, left: &ration });
    let mut entries = archive.entries().map_err(ArchiveError::Damaged)?;
    for number in 1.. {
        stop.check().map_err(ArchiveError::Damaged)?;
        // What is left of the entry before, which is passed over, and what says what the next one is: the reader holds all of that.
        ration.set(ration.get().saturating_add(ENTRY_HEADERS));
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(ArchiveError::Damaged)?;
        ration.set(stored(&entry)?.saturating_add(BLOCK));
        unpacking.entry(number, entry, stop)?;
    }
    if unpacking.top.is_none() {
        return Err(ArchiveError::Damaged(io::Error::other("there is no entry in it")));
    }
    unpacking.make_symlinks()
}

/// What a tar archive is made of.
const BLOCK: u64 = 512;

/// For all headers of one entry: its own, a long name and a long link, extended attributes, the map of a sparse file. Linux's sources have 1 KiB at most.
const ENTRY_HEADERS: u64 = 64 << 10;

/// The bytes of an entry's content in the archive, of which a sparse file has less than its size.
fn stored<R: Read>(entry: &tar::Entry<'_, R>) -> Result<u64, ArchiveError> {
    match entry.header().entry_type() {
        EntryType::GNUSparse => entry.header().entry_size().map_err(ArchiveError::Damaged),
        _ => Ok(entry.size()),
    }
}

/// A reader that gives no more than it was told to, so that an archive's word on a length is never a reason to allocate.
pub(super) struct Rationed<'a, R> {
    /// What is read.
    pub inner: R,
    /// How much of it may be read now.
    pub left: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an entry's name or attributes are longer than they can be"));
        }
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

struct Unpacking<'a> {
    rule: Rule,
    into: &'a Path,
    limits: Limits,
    top: Option<PathBuf>,
    folders: HashSet<PathBuf>,
    symlinks: Vec<(PathBuf, PathBuf, String)>,
    bytes: u64,
    buffer: Vec<u8>,
    now: SystemTime,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, number: u64, mut entry: tar::Entry<'_, R>, stop: &Stop) -> Result<(), ArchiveError> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused = |why| ArchiveError::Refused { entry: shown.clone(), why };
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        if number > self.limits.entries {
            return Err(refused(Refusal::TooMany(number)));
        }
        let path = self.inside(&entry.path_bytes()).map_err(&refused)?;
        if path.as_os_str().is_empty() {
            return if kind.is_dir() { Ok(()) } else { Err(refused(Refusal::NoTopFolder)) };
        }
        if let Rule::Some(wanted) = self.rule
            && !(wanted(&path) && matches!(kind, EntryType::Regular | EntryType::Continuous))
        {
            // Passed over, which takes its time too.
            self.bytes = self.bytes.saturating_add(entry.size());
            return if self.bytes > self.limits.bytes { Err(refused(Refusal::TooLarge(self.limits.bytes))) } else { Ok(()) };
        }
        let target = self.into.join(&path);
        let write = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => refused(Refusal::Twice),
            _ => ArchiveError::Write { path: target.clone(), cause },
        };
        if kind.is_dir() {
            return self.folder(&path).map_err(write);
        }
        if let Some(parent) = path.parent() {
            self.folder(parent).map_err(write)?;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mode = entry.header().mode().map_err(ArchiveError::Damaged)?;
                let mtime = entry.header().mtime().map_err(ArchiveError::Damaged)?;
                let mut file = create(&target, mode).map_err(write)?;
                let left = self.limits.bytes - self.bytes;
                let copied = copy(&mut entry, &mut file, left, &mut self.buffer, stop).map_err(|failure| match failure {
                    CopyFailure::Read(cause) => ArchiveError::Damaged(cause),
                    CopyFailure::Write(cause) => ArchiveError::Write { path: target.clone(), cause },
                    CopyFailure::TooLarge => refused(Refusal::TooLarge(self.limits.bytes)),
                })?;
                self.bytes += copied;
                // A file from the future would be compiled again at every make.
                let time = (SystemTime::UNIX_EPOCH + Duration::from_secs(mtime.min(u64::from(u32::MAX)))).min(self.now);
                file.set_modified(time).map_err(write)
            }
            EntryType::Symlink => {
                let link = link_name(&entry).map_err(&refused)?;
                self.symlinks.push((path, link, shown.clone()));
                Ok(())
            }
            EntryType::Link => {
                let link = link_name(&entry).map_err(&refused)?;
                let named = link.to_string_lossy().into_owned();
                let inside = self.inside(link.as_os_str().as_encoded_bytes()).map_err(|_| refused(Refusal::LinkOut(named.clone())))?;
                let from = self.into.join(inside);
                if !fs::symlink_metadata(&from).is_ok_and(|found| found.is_file()) {
                    return Err(refused(Refusal::LinkToNothing(named)));
                }
                fs::hard_link(&from, &target).map_err(write)
            }
            EntryType::Char | EntryType::Block => Err(refused(Refusal::Special("device"))),
            EntryType::Fifo => Err(refused(Refusal::Special("fifo"))),
            _ => Err(refused(Refusal::Special("special file"))),
        }
    }

    /// The path below `into`: checked, and without the top folder.
    fn inside(&mut self, path: &[u8]) -> Result<PathBuf, Refusal> {
        let whole = checked(path, self.limits.path)?;
        let mut rest = whole.components();
        let Some(first) = rest.next() else { return Ok(PathBuf::new()) };
        let top = self.top.get_or_insert_with(|| PathBuf::from(first.as_os_str()));
        match self.rule {
            Rule::Some(_) => Ok(whole),
            Rule::WithoutTop if top.as_os_str() == first.as_os_str() => Ok(rest.as_path().to_owned()),
            Rule::WithoutTop => Err(Refusal::NoTopFolder),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        fs::create_dir_all(self.into.join(path))?;
        self.folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    /// Makes the links, then follows each on paper: a chain of links that are innocent one by one may lead out.
    fn make_symlinks(&self) -> Result<(), ArchiveError> {
        for (path, link, shown) in &self.symlinks {
            let target = self.into.join(path);
            std::os::unix::fs::symlink(link, &target).map_err(|cause| match cause.kind() {
                io::ErrorKind::AlreadyExists => ArchiveError::Refused { entry: shown.clone(), why: Refusal::Twice },
                _ => ArchiveError::Write { path: target, cause },
            })?;
        }
        for (path, link, shown) in &self.symlinks {
            if !stays_inside(self.into, path, link) {
                let why = Refusal::LinkOut(link.to_string_lossy().into_owned());
                return Err(ArchiveError::Refused { entry: shown.clone(), why });
            }
        }
        Ok(())
    }
}

/// The path of an entry as one that stays below a folder, without its `.`s. It may have so many bytes.
pub(super) fn checked(path: &[u8], longest: usize) -> Result<PathBuf, Refusal> {
    if path.len() > longest {
        return Err(Refusal::LongPath(path.len()));
    }
    let text = std::str::from_utf8(path).map_err(|_| Refusal::Unprintable)?;
    if text.chars().any(char::is_control) {
        return Err(Refusal::Unprintable);
    }
    let mut checked = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => checked.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(Refusal::Parent),
            Component::RootDir | Component::Prefix(_) => return Err(Refusal::Absolute),
        }
    }
    Ok(checked)
}

/// How many links are followed before a chain counts as a loop: the kernel's own number.
const LINKS: usize = 40;

/// Whether the symbolic link at `path` below `root`, followed step by step through other links, never leaves `root`. A link to nothing is fine
/// as long as its path stays inside.
fn stays_inside(root: &Path, path: &Path, link: &Path) -> bool {
    let mut place: Vec<_> = path.parent().into_iter().flat_map(Path::components).map(|c| c.as_os_str().to_owned()).collect();
    let mut ahead: Vec<PathBuf> = steps(link);
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        match step.components().next() {
            Some(Component::Normal(name)) => {
                place.push(name.to_owned());
                let here: PathBuf = place.iter().collect();
                if let Ok(next) = fs::read_link(root.join(here)) {
                    links += 1;
                    if links > LINKS {
                        return false;
                    }
                    place.pop();
                    ahead.extend(steps(&next));
                }
            }
            Some(Component::ParentDir) => {
                if place.pop().is_none() {
                    return false;
                }
            }
            Some(Component::RootDir | Component::Prefix(_)) => return false,
            Some(Component::CurDir) | None => {}
        }
    }
    true
}

/// The components of a path, the last one first.
fn steps(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|component| PathBuf::from(component.as_os_str())).collect()
}

fn link_name<R: Read>(entry: &tar::Entry<'_, R>) -> Result<PathBuf, Refusal> {
    let link = entry.link_name_bytes().ok_or_else(|| Refusal::LinkToNothing(String::new()))?;
    let link = std::str::from_utf8(&link).map_err(|_| Refusal::Unprintable)?;
    if link.is_empty() || link.chars().any(char::is_control) { Err(Refusal::Unprintable) } else { Ok(PathBuf::from(link)) }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    // Only the execute bits matter to a build; the owner can always read and write, and no set-user-id bit gets through.
    let mode = 0o600 | (mode & 0o777);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode & !0o022))?;
    Ok(file)
}

enum CopyFailure {
    Read(io::Error),
    Write(io::Error),
    TooLarge,
}

fn copy(from: &mut impl Read, to: &mut File, left: u64, buffer: &mut [u8], stop: &Stop) -> Result<u64, CopyFailure> {
    let mut copied = 0;
    loop {
        stop.check().map_err(CopyFailure::Read)?;
        let read = from.read(buffer).map_err(CopyFailure::Read)?;
        if read == 0 {
            return Ok(copied);
        }
        copied += read as u64;
        if copied > left {
            return Err(CopyFailure::TooLarge);
        }
        to.write_all(&buffer[..read]).map_err(CopyFailure::Write)?;
    }
}
