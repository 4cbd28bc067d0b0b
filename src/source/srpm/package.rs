//! A source package as a file: its headers, its signature, and the files in it. Of a binary package, its headers.
//!
//! The headers' bounds are checked before the rpm crate sees them, because it trusts them; the payload is read as a stream and never held. A source
//! package's payload is flat, so whatever is no plain file with a plain name is refused. Files are compared with the header's digests, since a signature
//! covers the header only. Nothing in a package is run. The only place that names the rpm crate.
//!
//! Read [`Package`] first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rpm::{DigestAlgorithm, IndexSignatureTag, IndexTag, PackageMetadata};

use super::{SrpmError, signature};
use crate::input;
use crate::source::archive::{ArchiveError, Limits, Refusal, decompressed};
use crate::source::digest::Hashing;
use crate::source::payload::{self, Entry};
use crate::source::stop::Stop;
use crate::source::{SourceError, failed, unreadable};

/// How much a payload may hold: forty times the 100 MB in 60 files of an EL7 kernel.
pub const LIMITS: Limits = Limits { bytes: 4 << 30, entries: 10_000, path: 255 };

/// A source package whose headers were read.
#[derive(Debug)]
pub struct Package {
    /// Its file name, for messages.
    pub name: String,
    /// `NAME`, `VERSION` and `RELEASE` of its header.
    pub nvr: [String; 3],
    /// Who made it, by its header.
    pub vendor: Option<String>,
    path: PathBuf,
    metadata: PackageMetadata,
    /// The second header as it stands in the file, which is what a signature is of.
    header: Vec<u8>,
    payload: u64,
    /// SHA-256 of each file by name, if the header has it.
    listed: Option<BTreeMap<String, String>>,
}

/// How every package begins (lib/rpmlead.c).
pub const MAGIC: [u8; 4] = *b"\xed\xab\xee\xdb";
/// The lead, which rpm ignores but for its magic number.
const LEAD: usize = 96;
/// Most index entries and bytes of data that a header may have: rpm's own limit of tags, and 16 times what a kernel's header has.
const MOST_ENTRIES: usize = 0xffff;
const MOST_DATA: usize = 16 << 20;

impl Package {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// When it can't be read or is no source package.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::named(path, &name)
    }

    /// As [`Package::open`], with another name in messages.
    pub(super) fn named(path: &Path, name: &str) -> Result<Self, SourceError> {
        let header = |why: String| SrpmError::Header { package: name.to_owned(), why };
        let mut file = BufReader::new(input::open(path).map_err(unreadable(path))?);
        let (mut bytes, start) = headers(&mut file).map_err(|cause| header(cause.to_string()))?;
        let metadata = PackageMetadata::parse(&mut bytes.as_slice()).map_err(|cause| header(cause.to_string()))?;
        if !metadata.is_source_package() {
            return Err(header("it is a binary package".to_owned()).into());
        }
        let text = |tag| metadata.header.get_entry_data_as_string(tag).map(str::to_owned).map_err(|cause| header(cause.to_string()));
        let nvr = [text(IndexTag::RPMTAG_NAME)?, text(IndexTag::RPMTAG_VERSION)?, text(IndexTag::RPMTAG_RELEASE)?];
        let vendor = metadata.header.get_entry_data_as_string(IndexTag::RPMTAG_VENDOR).ok().map(str::to_owned);
        let listed = listed(&metadata);
        let (payload, header) = (bytes.len() as u64, bytes.split_off(start));
        Ok(Self { name: name.to_owned(), nvr, vendor, path: path.to_owned(), metadata, header, payload, listed })
    }

    /// Checks that a key of the file `key` signed the package. Returns the key's fingerprint. It is for threads of blocking work.
    ///
    /// # Errors
    /// When there is no such key or signature, when the signature says nothing of the files, or when `gpgv` can't be run.
    pub fn signed_by(&self, key: &Path) -> Result<String, SourceError> {
        let unusable = |why: String| SrpmError::Key { key: key.to_owned(), why };
        let keys = input::read(key, input::LARGEST_TEXT).map_err(|cause| unusable(cause.to_string()))?;
        let keyring = signature::keyring(&keys).map_err(unusable)?;
        let wrong = |why: String| SrpmError::Signature { package: self.name.clone(), key: key.to_owned(), why };
        let mut refused = "it has no signature of its header".to_owned();
        for signature in self.signatures() {
            match signature::verify(&keyring, &signature, &self.header)? {
                Ok(_) if self.listed.is_none() => return Err(SrpmError::WeakSignature { package: self.name.clone() }.into()),
                Ok(fingerprint) => return Ok(fingerprint),
                Err(why) => refused = why,
            }
        }
        Err(wrong(refused).into())
    }

    /// The signatures of the header, of the oldest kind (by algorithm) and of the newest (lib/rpmtag.h).
    fn signatures(&self) -> Vec<Vec<u8>> {
        let header = &self.metadata.signature;
        let packets = [IndexSignatureTag::RPMSIGTAG_RSA, IndexSignatureTag::RPMSIGTAG_DSA];
        let packets = packets.into_iter().filter_map(|tag| header.get_entry_data_as_binary(tag).ok()).map(<[u8]>::to_vec);
        let texts = header.get_entry_data_as_string_array(IndexSignatureTag::RPMSIGTAG_OPENPGP).unwrap_or_default();
        packets.chain(texts.into_iter().filter_map(|text| STANDARD.decode(text.as_bytes()).ok())).collect()
    }

    /// Writes the files of the payload into the folder `into`. Returns their names.
    ///
    /// # Errors
    /// At the first entry that is refused or isn't what the header says; what was written before stays, so `into` is a scratch folder.
    pub fn extract(&self, into: &Path, limits: Limits, stop: &Stop) -> Result<Vec<String>, SourceError> {
        let bad = |cause| SourceError::Archive { archive: self.name.clone(), cause };
        let damaged = |cause| bad(ArchiveError::Damaged(cause));
        let mut file = input::open(&self.path).map_err(unreadable(&self.path))?;
        file.seek(SeekFrom::Start(self.payload)).map_err(failed("read", &self.path))?;
        let mut names = Vec::new();
        payload::each(decompressed(file).map_err(bad)?, limits, stop, bad, |entry, content| {
            let refused = |why| bad(ArchiveError::Refused { entry: entry.name.clone(), why });
            let name = plain_name(entry).map_err(refused)?;
            let target = into.join(name);
            let mut file = File::create_new(&target).map_err(|cause| match cause.kind() {
                io::ErrorKind::AlreadyExists => refused(Refusal::Twice),
                _ => bad(ArchiveError::Write { path: target.clone(), cause }),
            })?;
            let mut hashing = Hashing::new(content, stop);
            let copied = io::copy(&mut hashing, &mut file).map_err(damaged)?;
            let sha256 = hashing.finish().map_err(damaged)?;
            if copied != entry.size {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            if self.listed.as_ref().is_some_and(|listed| listed.get(name) != Some(&sha256)) {
                return Err(SrpmError::NotAsListed { package: self.name.clone(), file: name.to_owned() }.into());
            }
            names.push(name.to_owned());
            Ok(())
        })?;
        let missing = self.listed.iter().flat_map(BTreeMap::keys).find(|listed| !names.contains(listed));
        match missing {
            Some(file) => Err(SrpmError::NotAsListed { package: self.name.clone(), file: file.clone() }.into()),
            None => Ok(names),
        }
    }
}

/// Reads the headers of a binary package, which leaves `package` where the payload begins. `shown` is its name in messages.
///
/// # Errors
/// When they are damaged, or those of a source package.
pub fn pass_headers(package: &mut impl Read, shown: &str) -> Result<(), SourceError> {
    let damaged = |why: String| SourceError::Rpm { package: shown.to_owned(), why };
    let (bytes, _) = headers(package).map_err(|cause| damaged(cause.to_string()))?;
    let metadata = PackageMetadata::parse(&mut bytes.as_slice()).map_err(|cause| damaged(cause.to_string()))?;
    if metadata.is_source_package() { Err(SourceError::NotBinary { package: shown.to_owned() }) } else { Ok(()) }
}

/// The name of an entry that is a plain file beside the others. Packages of some builders write `./` before it.
fn plain_name(entry: &Entry) -> Result<&str, Refusal> {
    let plain = entry.name.strip_prefix("./").unwrap_or(&entry.name);
    let path = Path::new(plain);
    if plain.chars().any(char::is_control) {
        return Err(Refusal::Unprintable);
    }
    if path.is_absolute() {
        return Err(Refusal::Absolute);
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Refusal::Parent);
    }
    if let Some(special) = entry.special() {
        return Err(Refusal::Special(special));
    }
    if plain.is_empty() || plain.contains('/') || plain == "." { Err(Refusal::NotFlat) } else { Ok(plain) }
}

/// The bytes of the lead and the two headers, and where the second begins. This leaves `file` where the payload begins. What an index says is compared
/// with what there is: the crate slices by it.
fn headers(file: &mut impl Read) -> io::Result<(Vec<u8>, usize)> {
    let mut bytes = vec![0; LEAD];
    file.read_exact(&mut bytes)?;
    if !bytes.starts_with(&MAGIC) {
        return Err(io::Error::other("it doesn't begin as a package does"));
    }
    header(file, &mut bytes)?;
    // The signature's data are padded to eight bytes (lib/signature.c).
    let padding = bytes.len().next_multiple_of(8) - bytes.len();
    take(file, &mut bytes, padding)?;
    let start = bytes.len();
    header(file, &mut bytes)?;
    Ok((bytes, start))
}

/// Adds the next `length` bytes of `file` to `bytes`.
fn take(file: &mut impl Read, bytes: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let read = file.by_ref().take(length as u64).read_to_end(bytes)?;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Adds a header to `bytes`.
fn header(file: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let start = bytes.len();
    take(file, bytes, 16)?;
    let (entries, data) = (number(bytes, start + 8), number(bytes, start + 12));
    if !bytes[start..].starts_with(b"\x8e\xad\xe8\x01") || entries > MOST_ENTRIES || data > MOST_DATA {
        return Err(io::Error::other("its header isn't one, or is larger than any"));
    }
    take(file, bytes, entries * 16 + data)?;
    let mut claimed = 0_usize;
    for entry in 0..entries {
        let place = start + 16 + entry * 16;
        let [kind, offset, count] = [4, 8, 12].map(|field| number(bytes, place + field));
        // Bytes of one item by type (rpmTagType, lib/rpmtag.h); strings have at least their final zero.
        let size = match kind {
            0 => 0,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 1,
        };
        let end = count.checked_mul(size).and_then(|length| length.checked_add(offset));
        if count > data || end.is_none_or(|end| end > data) {
            return Err(io::Error::other("its header has an entry that lies outside"));
        }
        // The crate copies each entry's data: entries of the same data would multiply them.
        claimed = claimed.saturating_add(count.saturating_mul(size));
        if claimed > data {
            return Err(io::Error::other("its header's entries hold more than there is"));
        }
    }
    Ok(())
}

/// The big-endian number at a place, which is there.
fn number(bytes: &[u8], place: usize) -> usize {
    bytes[place..place + 4].iter().fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

/// The files and their SHA-256 by a header. None if it has other digests.
fn listed(metadata: &PackageMetadata) -> Option<BTreeMap<String, String>> {
    if metadata.get_file_digest_algorithm().ok()? != DigestAlgorithm::Sha2_256 {
        return None;
    }
    let strings = |tag| metadata.header.get_entry_data_as_string_array(tag).ok();
    let (names, digests) = (strings(IndexTag::RPMTAG_BASENAMES)?, strings(IndexTag::RPMTAG_FILEDIGESTS)?);
    let own = |text: &str| text.to_owned();
    (names.len() == digests.len()).then(|| names.into_iter().map(own).zip(digests.into_iter().map(own)).collect())
}
