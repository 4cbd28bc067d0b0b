//! A run in one file that can be attached: the reports, the evidence, what went into the kernels, and digests of everything.
//!
//! Every file goes through the redactor, and the reports are made from what is redacted. Nothing but known files of the run's folder is taken, so that what
//! somebody put beside them stays there. The same run gives the same bytes: names are sorted, owners are nobody, times are the run's start.
//!
//! Read [`bundle`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::case::Case;
use super::kernels::Patch;
use super::provenance::statement;
use super::redact::Redactor;
use super::{FILE, PAGE, bugzilla, html, junit, load_trial, markdown, trial_folder, write_whole};
use crate::oracle::Observation;

/// Of zstd's levels one that makes a console small in little time.
const LEVEL: i32 = 12;

/// What the bundle says of itself.
const README: &str = "\
A run of hangproof: kernels booted in VMs with a reproducer, and what each trial saw.

report.html      the report: read this first; it needs no network
report.txt       the same as plain text, report.md as Markdown, report.xml as JUnit, report.json as data
trials/          per trial: console.log (the kernel's log, with the host's seconds), evidence.json (both clocks, looks at the tasks),
                 stacks.txt (the kernel's task lists of a hang), events.jsonl
kernels/         per kernel: configuration, compatibility changes and patches in order, digests of the results, and
                 provenance.json (in-toto Statement v1 with a SLSA v1 predicate; not signed)
SHA256SUMS       digests of all files here

Host names, user names, home and cache folders and keys were replaced by other words. Digests of patches in report.json and provenance.json are those of
the patches as they were built with. `hangproof rescore .` judges the evidence again, without a VM.
";

/// Writes a run's bundle: beside its place, then renamed.
///
/// # Errors
/// When a file of the run can't be read, or the bundle can't be written.
pub fn bundle(run: &Path, case: &Case, redactor: &Redactor, place: &Path) -> io::Result<()> {
    let files = files(run, case, redactor)?;
    let name = format!("{}-{}", case.report.pipeline, case.report.started.strftime("%Y%m%d-%H%M%S"));
    let when = u64::try_from(case.report.started.as_second()).unwrap_or_default();
    write_whole(place, &packed(&files, &redactor.text(&name), when)?)
}

/// The bundle's files by name, digests included.
fn files(run: &Path, case: &Case, redactor: &Redactor) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let other = |error: Box<dyn std::error::Error + Send + Sync>| io::Error::other(error);
    let clean = redactor.value(case)?;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add =
        |name: &Path, content: &str| files.insert(redactor.text(&name.display().to_string()), redactor.text(content).into_bytes());
    add(Path::new("README"), README);
    add(Path::new(FILE), &serde_json::to_string_pretty(&clean.report)?);
    add(Path::new(PAGE), &html(&clean).map_err(|error| other(error.into()))?);
    add(Path::new("report.txt"), &bugzilla(&clean));
    add(Path::new("report.md"), &markdown(&clean));
    add(Path::new("report.xml"), &junit(&clean).map_err(|error| other(error.into()))?);
    for kernel in &case.report.kernels {
        for result in &kernel.results {
            let folder = trial_folder(&result.trial);
            if let Some(text) = text_of(run, &folder.join("console.log"))? {
                add(&folder.join("console.log"), &text);
            }
            if let Some(text) = text_of(run, &folder.join(crate::progress::EVENTS))? {
                add(&folder.join(crate::progress::EVENTS), &lines(redactor, &text)?);
            }
            // What can't be read is named in the reports.
            let Ok(evidence) = load_trial(run, &result.trial) else { continue };
            add(&folder.join("evidence.json"), &serde_json::to_string_pretty(&redactor.value(&evidence)?)?);
            if matches!(result.observation, Observation::Hang(_)) {
                let looks = evidence.looks.iter().map(|(at, look)| format!("look {} at {at}\n{}\n\n", look.id, look.log));
                add(&folder.join("stacks.txt"), &looks.collect::<String>());
            }
        }
        let (Some(build), inputs) = (&kernel.build, case.inputs(&kernel.name)) else { continue };
        let folder = Path::new(super::kernels::KERNELS).join(kernel.name.as_str());
        let kept = inputs.compatibility.iter().chain(&inputs.patches).filter_map(|patch: &Patch| patch.file.clone());
        for path in kept.chain(inputs.config.clone()).chain([folder.join("SHA256SUMS")]) {
            if let Some(text) = text_of(run, &path)? {
                add(&path, &text);
            }
        }
        let statement = redactor.value(&statement(&case.report.hangproof, build, &inputs))?;
        add(&folder.join("provenance.json"), &serde_json::to_string_pretty(&statement)?);
    }
    let sums: String = files.iter().map(|(name, content)| format!("{:x}  {name}\n", Sha256::digest(content))).collect();
    files.insert("SHA256SUMS".to_owned(), sums.into_bytes());
    Ok(files)
}

/// JSON lines, each redacted as a value: in JSON's own spelling a word may stand behind the `n` of a line feed.
fn lines(redactor: &Redactor, text: &str) -> io::Result<String> {
    let line = |line: &str| Ok(format!("{}\n", redactor.value(&serde_json::from_str::<serde_json::Value>(line)?)?));
    text.lines().map(line).collect()
}

/// A text of the run's folder; none if it isn't there. A link is none of the run's files.
fn text_of(run: &Path, path: &Path) -> io::Result<Option<String>> {
    let path: PathBuf = run.join(path);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(String::from_utf8_lossy(&fs::read(&path)?).into_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// A compressed tar archive with everything in the folder `name`.
fn packed(files: &BTreeMap<String, Vec<u8>>, name: &str, when: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(when);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, format!("{name}/{path}"), content.as_slice())?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}
