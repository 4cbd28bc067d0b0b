//! What compiles a kernel: its versions, which go into the key, and whether everything is there before anything is built.
//!
//! Nothing is installed here; the error names the Debian packages.
//!
//! Read [`Tools`] first.

use serde::{Deserialize, Serialize};

use super::config::is_on;
use super::error::BuildError;
use crate::source::program::{Program, find};
use crate::spec::Toolchain;

/// A toolchain's versions, as each program tells them in its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tools {
    /// The compiler's command.
    pub command: String,
    /// The compiler.
    pub compiler: String,
    /// The linker, which stands for binutils.
    pub binutils: String,
    /// make.
    pub make: String,
}

/// Programs that every kernel needs, with their Debian packages.
const PROGRAMS: [(&str, &str); 9] = [
    ("make", "make"),
    ("ld", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("gzip", "gzip"),
    ("git", "git"),
    ("setpriv", "util-linux"),
];

/// Programs that a configuration needs: symbol, program, package.
const BY_SYMBOL: [(&str, &str, &str); 8] = [
    ("CONFIG_KERNEL_XZ", "xz", "xz-utils"),
    ("CONFIG_KERNEL_LZMA", "lzma", "xz-utils"),
    ("CONFIG_KERNEL_BZIP2", "bzip2", "bzip2"),
    ("CONFIG_KERNEL_LZ4", "lz4", "lz4"),
    ("CONFIG_KERNEL_LZO", "lzop", "lzop"),
    ("CONFIG_KERNEL_ZSTD", "zstd", "zstd"),
    ("CONFIG_IKHEADERS", "cpio", "cpio"),
    ("CONFIG_DEBUG_INFO_BTF", "pahole", "dwarves"),
];

/// Headers that a configuration needs: symbols of which one is on, header, package.
const HEADERS: [(&[&str], &str, &str); 2] = [
    (&["CONFIG_OBJTOOL", "CONFIG_STACK_VALIDATION", "CONFIG_UNWINDER_ORC", "CONFIG_ORC_UNWINDER"], "gelf.h", "libelf-dev"),
    (&["CONFIG_SYSTEM_TRUSTED_KEYRING", "CONFIG_MODULE_SIG"], "openssl/opensslv.h", "libssl-dev"),
];

/// The compiler's command; none for a prebuilt kernel, which `build` doesn't plan.
#[must_use]
pub fn command(toolchain: &Toolchain) -> &str {
    match toolchain {
        Toolchain::Host { compiler } => compiler,
        Toolchain::None => "",
    }
}

/// What make is told about the toolchain.
#[must_use]
pub fn arguments(toolchain: &Toolchain) -> Vec<String> {
    match toolchain {
        Toolchain::Host { compiler } => vec![format!("CC={compiler}"), format!("HOSTCC={compiler}")],
        Toolchain::None => Vec::new(),
    }
}

fn missing(absent: Vec<(&str, &str)>) -> Result<(), BuildError> {
    if absent.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = absent.iter().map(|(_, package)| (*package).to_owned()).collect();
    packages.sort();
    packages.dedup();
    Err(BuildError::MissingTools { missing: absent.into_iter().map(|(what, _)| what.to_owned()).collect(), packages })
}

impl Tools {
    /// Looks that the programs are there, and asks for their versions.
    ///
    /// # Errors
    /// With everything that is missing.
    pub async fn look(toolchain: &Toolchain) -> Result<Self, BuildError> {
        let compiler = command(toolchain);
        missing([(compiler, compiler)].into_iter().chain(PROGRAMS).filter(|(program, _)| find(program).is_none()).collect())?;
        Ok(Self {
            command: compiler.to_owned(),
            compiler: version(compiler).await?,
            binutils: version("ld").await?,
            make: version("make").await?,
        })
    }
}

async fn version(program: &str) -> Result<String, BuildError> {
    let mut program = Program::new(program, program);
    program.command.arg("--version");
    let said = program.success().await?;
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
}

/// Looks that what a configuration needs is there.
///
/// # Errors
/// With everything that is missing.
pub async fn check(toolchain: &Toolchain, config: &str) -> Result<(), BuildError> {
    let programs = BY_SYMBOL.into_iter().filter(|(symbol, program, _)| is_on(config, symbol) && find(program).is_none());
    let mut absent: Vec<_> = programs.map(|(_, program, package)| (program, package)).collect();
    for (symbols, header, package) in HEADERS {
        if symbols.iter().any(|symbol| is_on(config, symbol)) && !has_header(command(toolchain), header).await? {
            absent.push((header, package));
        }
    }
    missing(absent)
}

async fn has_header(compiler: &str, header: &str) -> Result<bool, BuildError> {
    let mut program = Program::new(compiler, compiler);
    program.command.args(["-fsyntax-only", "-include", header, "-x", "c", "/dev/null"]);
    Ok(program.output().await?.status.success())
}
