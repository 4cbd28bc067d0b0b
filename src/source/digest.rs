//! SHA-256 of what passes by, for digests that others publish; SHA-1 where they publish nothing better.
//!
//! Keys of our own are BLAKE3 and aren't made here.
//!
//! Read [`Hashing`] first.

use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::stop::Stop;
use crate::input;

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
        Ok(hex(&self.hasher.finalize()))
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

/// SHA-256 and SHA-1 of a file, in lower-case hex.
pub fn sha256_and_sha1(path: &Path, stop: &Stop) -> io::Result<(String, String)> {
    let mut bytes = Hashing::new(io::BufReader::with_capacity(1 << 20, input::open(path)?), stop);
    let mut hasher = Sha1::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = bytes.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes.finish()?, hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file, in lower-case hex.
pub fn sha256(path: &Path, stop: &Stop) -> io::Result<String> {
    Hashing::new(io::BufReader::with_capacity(1 << 20, input::open(path)?), stop).finish()
}
