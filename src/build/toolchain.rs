//! What compiles a kernel: its versions, which go into the key, and whether everything is there before anything is built.
//!
//! Nothing is installed on the host; the error names the Debian packages. Making another place for the programs is `buildroot`'s business.
//!
//! Read [`Tools`] first.

use serde::{Deserialize, Serialize};

use super::buildroot::{self, Inside};
use super::config::is_on;
use super::error::BuildError;
use super::room::Room;
use crate::program::find;
use crate::spec::Toolchain;
use crate::store::Store;

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
    /// What they run in, if that isn't the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// Programs that every kernel needs, with their Debian packages.
const PROGRAMS: [(&str, &str); 7] =
    [("make", "make"), ("ld", "binutils"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc"), ("perl", "perl"), ("gzip", "gzip")];

/// Programs that we need of the host, whatever compiles.
const OURS: [(&str, &str); 2] = [("git", "git"), ("setpriv", "util-linux")];

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
fn command(toolchain: &Toolchain) -> &str {
    match toolchain {
        Toolchain::Host { compiler } | Toolchain::Debian { compiler, .. } | Toolchain::Container { compiler, .. } => compiler,
        Toolchain::None => "",
    }
}

/// What make is told about the toolchain. `flags` are the compatibility changes' for the kernel's own code.
#[must_use]
pub fn arguments(toolchain: &Toolchain, flags: &[String]) -> Vec<String> {
    let compiler = command(toolchain);
    let words: Vec<&str> = std::iter::once(compiler).chain(flags.iter().map(String::as_str)).collect();
    vec![format!("CC={}", words.join(" ")), format!("HOSTCC={compiler}")]
}

fn missing(room: &Room, absent: Vec<(&str, &str)>) -> Result<(), BuildError> {
    if absent.is_empty() {
        return Ok(());
    }
    let whats = absent.iter().map(|(what, _)| (*what).to_owned()).collect();
    if let Room::Folder { what, remedy, .. } = room {
        return Err(BuildError::MissingInside { missing: whats, place: what.clone(), remedy });
    }
    let mut packages: Vec<_> = absent.iter().map(|(_, package)| (*package).to_owned()).collect();
    packages.sort();
    packages.dedup();
    Err(BuildError::MissingTools { missing: whats, packages })
}

impl Tools {
    /// Makes the place where the toolchain's programs run, looks that they are there, and asks for their versions.
    ///
    /// # Errors
    /// When there can't be such a place, or with everything that is missing in it.
    pub async fn look(store: &Store, toolchain: &Toolchain) -> Result<(Self, Room), BuildError> {
        let compiler = command(toolchain);
        let host =
            |wanted: &[(&'static str, &'static str)]| wanted.iter().copied().filter(|(program, _)| find(program).is_none()).collect();
        let (room, inside) = match toolchain {
            // A prebuilt kernel needs none, and `build` plans none.
            Toolchain::Host { .. } | Toolchain::None => (Room::Host, None),
            Toolchain::Debian { suite, compiler, packages } => {
                missing(&Room::Host, host(&OURS))?;
                let (room, inside) = buildroot::debian(store, suite, compiler, packages).await?;
                (room, Some(inside))
            }
            Toolchain::Container { image, .. } => {
                missing(&Room::Host, host(&OURS))?;
                let (room, inside) = buildroot::container(store, image).await?;
                (room, Some(inside))
            }
        };
        let ours = if inside.is_none() { &OURS[..] } else { &[] };
        let wanted = [(compiler, compiler)].into_iter().chain(PROGRAMS).chain(ours.iter().copied());
        let absent: Vec<_> = wanted.filter(|(program, _)| !room.has(program)).collect();
        if let (Room::Host, [(program, _)]) = (&room, absent.as_slice())
            && *program == compiler
        {
            return Err(BuildError::NoCompiler { compiler: compiler.to_owned() });
        }
        missing(&room, absent)?;
        room.check().await?;
        let tools = Self {
            command: compiler.to_owned(),
            compiler: version(&room, compiler).await?,
            binutils: version(&room, "ld").await?,
            make: version(&room, "make").await?,
            inside,
        };
        Ok((tools, room))
    }
}

async fn version(room: &Room, program: &str) -> Result<String, BuildError> {
    let mut program = room.program(program)?;
    program.command.arg("--version");
    let said = program.success().await?;
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
}

/// Looks that what a configuration needs is there.
///
/// # Errors
/// With everything that is missing.
pub async fn check(room: &Room, toolchain: &Toolchain, config: &str) -> Result<(), BuildError> {
    let programs = BY_SYMBOL.into_iter().filter(|(symbol, program, _)| is_on(config, symbol) && !room.has(program));
    let mut absent: Vec<_> = programs.map(|(_, program, package)| (program, package)).collect();
    for (symbols, header, package) in HEADERS {
        if symbols.iter().any(|symbol| is_on(config, symbol)) && !has_header(room, command(toolchain), header).await? {
            absent.push((header, package));
        }
    }
    missing(room, absent)
}

async fn has_header(room: &Room, compiler: &str, header: &str) -> Result<bool, BuildError> {
    let mut program = room.program(compiler)?;
    program.command.args(["-fsyntax-only", "-include", header, "-x", "c", "/dev/null"]);
    Ok(program.output().await?.status.success())
}
