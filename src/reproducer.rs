//! Makes a pipeline's reproducer ready: compiled if it is C, laid out as payload, its command line complete.
//!
//! It runs the host's compiler and nothing of what it compiled. Parameters become words, never shell text.
//!
//! Read [`prepare`].

use std::path::{Path, PathBuf};
use std::process::Stdio;

use hangproof_wire::PAYLOAD_TARGET;

use crate::image::{ImageError, Payload};
use crate::spec::{DIR, DURATION, Pipeline, Program};
use crate::trial::GUEST_FOLDER;
use crate::vm::hardened;

/// A reproducer, ready to be put into guests.
#[derive(Debug, Clone)]
pub struct Ready {
    /// What is laid over the root filesystem.
    pub payload: Payload,
    /// The program and its arguments, in the guest.
    pub words: Vec<String>,
}

/// Why a reproducer can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ReproducerError {
    /// The compiler isn't there.
    #[error("the C compiler `gcc` could not be run ({0}): run `apt-get install gcc libc6-dev`")]
    NoCompiler(std::io::Error),
    /// It doesn't compile.
    #[error("{} does not compile as a static program:\n{said}", source_file.display())]
    Compile {
        /// The source.
        source_file: PathBuf,
        /// What the compiler said.
        said: String,
    },
    /// A file can't be put into the payload.
    #[error(transparent)]
    Payload(#[from] ImageError),
}

/// Makes the reproducer ready; `folder` takes the compiled program.
///
/// # Errors
/// When it doesn't compile, or a program that it needs isn't there.
pub async fn prepare(pipeline: &Pipeline, folder: &Path) -> Result<Ready, ReproducerError> {
    let reproducer = &pipeline.reproducer;
    let program = match &reproducer.program {
        Program::C(source) => compile(source, folder).await?,
        Program::File(path) => path.clone(),
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let guest = format!("{PAYLOAD_TARGET}/{name}");
    let mut payload = Payload::new();
    payload.file(guest.trim_start_matches('/'), &program, 0o755)?;
    for added in &reproducer.adds {
        payload.program(added)?;
    }
    let duration = pipeline.limits.duration.as_secs().to_string();
    let arguments = reproducer
        .parameters
        .iter()
        .flat_map(|(key, value)| [format!("--{key}"), value.replace(DURATION, &duration).replace(DIR, GUEST_FOLDER)]);
    let words = std::iter::once(guest).chain(arguments).collect();
    Ok(Ready { payload, words })
}

async fn compile(source: &Path, folder: &Path) -> Result<PathBuf, ReproducerError> {
    let program = folder.join(source.file_stem().unwrap_or_default());
    let output = hardened("gcc")
        .args(["-std=gnu11", "-O2", "-static", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(ReproducerError::NoCompiler)?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ReproducerError::Compile { source_file: source.to_owned(), said: said.lines().take(20).collect::<Vec<_>>().join("\n") })
}
