//! Who signed a package's header, by `gpgv`: a keyring of its own, no key server, no trust database, no agent.
//!
//! A revoked key signs nothing. One that expired still does: packages of the vault outlive the keys that signed them, and a release stays what it was.
//! Nothing of a package is read here, and what a signature covers is its caller's business.
//!
//! Read [`verify`] first.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::program::{Program, last_lines};
use crate::source::{SourceError, failed};
use crate::store::trial_scratch;

/// What is around a key in ASCII armour (RFC 9580, 6.2).
const ARMOUR: (&str, &str) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");

/// The keys of an ASCII-armoured text as a keyring, which is all that `gpgv` reads. What is no text is taken for one (`gpg --export`).
///
/// # Errors
/// Why there are none.
pub fn keyring(file: &[u8]) -> Result<Vec<u8>, String> {
    let Ok(text) = std::str::from_utf8(file) else { return Ok(file.to_owned()) };
    let mut keys = Vec::new();
    for block in text.split(ARMOUR.0).skip(1) {
        let (block, _) = block.split_once(ARMOUR.1).ok_or_else(|| format!("it has no line {}", ARMOUR.1))?;
        // Headers end at an empty line; a line with "=" first is a checksum against damage in the mail.
        let body = block.lines().map(str::trim).skip(1).skip_while(|line| !line.is_empty());
        let body: String = body.filter(|line| !line.starts_with('=')).collect();
        keys.extend(STANDARD.decode(&body).map_err(|cause| cause.to_string())?);
    }
    if keys.is_empty() { Err(format!("it has no line {}", ARMOUR.0)) } else { Ok(keys) }
}

/// Checks a detached signature of `signed` by a key of `keyring`. Returns the key's fingerprint, or in the inner result what `gpgv` has against it. It is
/// for threads of blocking work.
///
/// # Errors
/// When `gpgv` can't be run.
pub fn verify(keyring: &[u8], signature: &[u8], signed: &[u8]) -> Result<Result<String, String>, SourceError> {
    let scratch = trial_scratch()?;
    let write = |name: &str, bytes: &[u8]| -> Result<PathBuf, SourceError> {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).map_err(failed("write", &path))?;
        Ok(path)
    };
    let mut gpgv = Program::new("gpgv", "gpgv");
    gpgv.command.arg("--homedir").arg(scratch.path()).args(["--status-fd", "1"]);
    gpgv.command.arg("--keyring").arg(write("keyring", keyring)?);
    gpgv.command.arg(write("signature", signature)?).arg(write("signed", signed)?);
    let output = gpgv.output_blocking()?;
    let status = String::from_utf8_lossy(&output.stdout);
    // `VALIDSIG` begins with the fingerprint of the key that signed (doc/DETAILS of GnuPG).
    let valid = status.lines().find_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG ")?.split(' ').next());
    // It comes besides, and the exit status is that of success.
    let revoked = status.lines().any(|line| line.starts_with("[GNUPG:] REVKEYSIG "));
    Ok(match valid {
        Some(_) if revoked => Err("that key is revoked".to_owned()),
        Some(fingerprint) if output.status.success() => Ok(fingerprint.to_ascii_lowercase()),
        _ => Err(last_lines(&output.stderr)),
    })
}
