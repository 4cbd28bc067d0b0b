//! Makes a pipeline's reproducer ready: compiled if it is C, laid out as payload, its command line complete.
//!
//! It runs the host's compiler and nothing of what it compiled. Parameters become words, never shell text.
//!
//! Read [`prepare`].

use std::path::{Path, PathBuf};

use hangproof_wire::PAYLOAD_TARGET;
use object::elf::ELFMAG;
use sha2::Digest as _;

use crate::fault::Whose;
use crate::image::{ImageError, Payload};
use crate::input;
use crate::program::{self, ProgramError};
use crate::spec::{DIR, DURATION, Pipeline, Program};
use crate::trial::GUEST_FOLDER;

/// A reproducer, ready to be put into guests.
#[derive(Debug, Clone)]
pub struct Ready {
    /// What is laid over the root filesystem.
    pub payload: Payload,
    /// The program and its arguments, in the guest.
    pub words: Vec<String>,
    /// The C source or the program, as it was taken.
    pub source: PathBuf,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Why a reproducer can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ReproducerError {
    /// The compiler isn't there, or doesn't come to an end.
    #[error(transparent)]
    Compiler(#[from] ProgramError),
    /// It doesn't compile.
    #[error("{} does not compile as a static program:\n{said}", source_file.display())]
    Compile {
        /// The source.
        source_file: PathBuf,
        /// What the compiler said.
        said: String,
    },
    /// It can't be read.
    #[error("read reproducer {}: {cause}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It can't be what is executed.
    #[error("reproducer {} {why}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong, and the remedy.
        why: &'static str,
    },
    /// It can't be copied.
    #[error("copying {}: {cause}", file.display())]
    Copy {
        /// The file.
        file: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A file can't be put into the payload.
    #[error(transparent)]
    Payload(#[from] ImageError),
}

impl ReproducerError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::Compile { .. } | Self::Read { .. } | Self::Unfit { .. } | Self::Copy { .. } | Self::Payload(_) => Whose::Definition,
            Self::Compiler(_) => Whose::Ours,
        }
    }
}

/// Largest program: a static one with all of a database in it is smaller.
const LARGEST: u64 = 1 << 30;

/// Whether a file can be a reproducer: no compiler is asked, and nothing is run.
///
/// # Errors
/// When it can't be read, is empty, or begins as nothing that a kernel executes.
pub fn check(program: &Program) -> Result<(), ReproducerError> {
    let (Program::C(file) | Program::File(file)) = program;
    let bytes = input::read(file, LARGEST).map_err(|cause| ReproducerError::Read { file: file.clone(), cause })?;
    let why = match program {
        Program::C(_) if bytes.trim_ascii().is_empty() => "is empty: write a C program with a `main`",
        Program::File(_) if !bytes.starts_with(b"#!") && !bytes.starts_with(&ELFMAG) => {
            "is neither a script nor an ELF program: let it begin with `#!/bin/sh`, or write `c:` for a C source"
        }
        Program::C(_) | Program::File(_) => return Ok(()),
    };
    Err(ReproducerError::Unfit { file: file.clone(), why })
}

/// Makes the reproducer ready. `folder` takes copies of everything, so that a file that is edited while a run goes on changes nothing; it has to live as
/// long as the run.
///
/// # Errors
/// When it doesn't compile, or a program that it needs isn't there.
pub async fn prepare(pipeline: &Pipeline, folder: &Path) -> Result<Ready, ReproducerError> {
    let reproducer = &pipeline.reproducer;
    let (Program::C(given) | Program::File(given)) = &reproducer.program;
    let taken = folder.join(given.file_name().unwrap_or_default());
    let failed = |cause| ReproducerError::Copy { file: given.clone(), cause };
    std::fs::copy(given, &taken).map_err(failed)?;
    let sha256 = format!("{:x}", sha2::Sha256::digest(std::fs::read(&taken).map_err(failed)?));
    let program = match &reproducer.program {
        Program::C(source) => compile(source, folder).await?,
        Program::File(_) => taken.clone(),
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let guest = format!("{PAYLOAD_TARGET}/{name}");
    let mut payload = Payload::new();
    payload.file(&guest, &program, 0o755)?;
    for added in &reproducer.adds {
        payload.program(added)?;
    }
    let duration = pipeline.limits.duration.as_secs().to_string();
    let arguments = reproducer
        .parameters
        .iter()
        .flat_map(|(key, value)| [format!("--{key}"), value.replace(DURATION, &duration).replace(DIR, GUEST_FOLDER)]);
    let words = std::iter::once(guest).chain(arguments).collect();
    let source = taken;
    Ok(Ready { payload, words, source, sha256 })
}

/// Compiles the copy of `source` that is in `folder`. The compiler is told its bare name, so that messages don't show our folder.
async fn compile(source: &Path, folder: &Path) -> Result<PathBuf, ReproducerError> {
    let programs = folder.join("programs");
    std::fs::create_dir_all(&programs).map_err(|cause| ReproducerError::Copy { file: programs.clone(), cause })?;
    let program = programs.join(source.file_stem().unwrap_or_default());
    let mut gcc = program::Program::new("gcc", "gcc libc6-dev");
    gcc.command
        .args(["-std=gnu11", "-O2", "-static", "-pthread", "-o"])
        .arg(&program)
        .arg(source.file_name().unwrap_or_default())
        .current_dir(folder);
    let output = gcc.output().await?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ReproducerError::Compile { source_file: source.to_owned(), said: said.lines().take(20).collect::<Vec<_>>().join("\n") })
}
