//! SHA-256 of what passes by, for digests that others publish.
//!
//! Keys of our own are BLAKE3 and aren't made here.
//!
//! Read [`Hashing`] first.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::stop::Stop;

/// A reader that hashes what is read through it.
pub struct Hashing<'a, R> {
    inner: R,
    hasher: Sha256,
    stop: &'a Stop,
}

impl<'a, R: Read> Hashing<'a, R> {
    /// Hashes what is read from `inner`.
    pub fn new(inner: R, stop: &'a Stop) -> Self {
        Self { inner, hasher: Sha256::new(), stop }
    }

    /// Reads the rest, and returns the digest of everything in lower-case hex.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// SHA-256 of a file, in lower-case hex.
pub fn sha256(path: &Path, stop: &Stop) -> io::Result<String> {
    Hashing::new(io::BufReader::with_capacity(1 << 20, File::open(path)?), stop).finish()
}
