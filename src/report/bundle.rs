//! A run in one file that can be attached: the reports, the evidence, what went into the kernels, and digests of everything.
//!
//! Every file goes through the redactor, and the reports are made from what is redacted. Nothing but known files of the run's folder is taken, so that what
//! somebody put beside them stays there. The same run gives the same bytes: names are sorted, owners are nobody, times are the run's start.
//!
//! Read [`bundle`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::account::distinct;
use super::case::{Case, Damage, kept, kept_or_empty, reproducer_of};
use super::json::json;
use super::kernels::{DIGESTS, KERNELS, Patch};
use super::load::event;
use super::provenance::statement;
use super::redact::Redactor;
use super::trials::CONSOLE;
use super::{FILE, PAGE, bugzilla, html, junit, load_trial, markdown, trial_folder, write_whole};
use crate::oracle::Observation;
use crate::progress::EVENTS;

/// Of zstd's levels one that makes a console small in little time.
const LEVEL: i32 = 12;

/// What the bundle says of itself.
const README: &str = "\
A run of hangproof: kernels booted in VMs with a reproducer, and what each trial saw.

report.html      the report: read this first; it needs no network
report.txt       the same as plain text, report.md as Markdown, report.xml as JUnit, report.json as data
trials/          per trial: console.log (the kernel's log, with the host's seconds), evidence.json (both clocks, looks at the tasks),
                 stacks.txt (the kernel's task lists of a hang), events.jsonl; aftermath.log (what the kernel said to sysrq and an NMI after the hang),
                 aftermath.json and vmcore-dmesg.txt (its log, read from the dump of its memory) if the run collected them
pipeline/        the pipeline's definition, and its reproducer
kernels/         per kernel: configuration, compatibility changes and patches in order, digests of the results, and
                 provenance.json (in-toto Statement v1 with a SLSA v1 predicate; not signed)
SHA256SUMS       digests of all files here

What the run's folder lacked, or held otherwise than the run wrote it, is named in the reports (\"Missing or damaged\").

Host names, user names, home and cache folders and keys were replaced by other words. Digests of configurations and patches in report.json,
provenance.json and below kernels/ are those of the files as they were built with. `hangproof rescore .` judges the evidence again, without a VM.
";

/// Writes a run's bundle: beside its place, then renamed. Returns what was left out besides what the case says, which its reports name, too.
///
/// # Errors
/// When it can't be written.
pub fn bundle(run: &Path, case: &Case, redactor: &Redactor, place: &Path) -> io::Result<Vec<Damage>> {
    let (files, left_out) = files(run, case, redactor)?;
    let name = format!("{}-{}", case.report.pipeline, case.report.started.strftime("%Y%m%d-%H%M%S"));
    let when = u64::try_from(case.report.started.as_second()).unwrap_or_default();
    write_whole(place, &packed(&files, &redactor.text(&name), when)?)?;
    Ok(left_out)
}

/// Files by name.
type Contents = BTreeMap<String, Vec<u8>>;

/// Files without private words.
struct Files<'a> {
    redactor: &'a Redactor,
    files: Contents,
}

impl Files<'_> {
    /// Adds a file. What is no UTF-8 stays as it is, if it stands beside nothing private. Returns whether it didn't.
    fn add(&mut self, name: &Path, content: &[u8]) -> bool {
        let text = String::from_utf8_lossy(content);
        let clean = self.redactor.text(&text);
        let changed = clean != text;
        let content = if changed { clean.into_bytes() } else { content.to_vec() };
        self.files.insert(self.redactor.text(&name.display().to_string()), content);
        changed && matches!(text, Cow::Owned(_))
    }

    fn add_value<T: Serialize + DeserializeOwned>(&mut self, name: &Path, value: &T) -> io::Result<()> {
        let value = self.redactor.value(value)?;
        self.add(name, serde_json::to_string_pretty(&value)?.as_bytes());
        Ok(())
    }
}

/// The bundle's files by name, digests included, and what was left out besides what the case says.
fn files(run: &Path, case: &Case, redactor: &Redactor) -> io::Result<(Contents, Vec<Damage>)> {
    let other = |error: Box<dyn std::error::Error + Send + Sync>| io::Error::other(error);
    let mut files = Files { redactor, files: BTreeMap::new() };
    let mut left_out = Vec::new();
    for result in case.report.kernels.iter().flat_map(|kernel| &kernel.results) {
        let folder = trial_folder(&result.trial);
        let mut lost = |what: String| left_out.push(Damage::of_trial(&result.trial, what));
        let log = folder.join(EVENTS);
        let kept_log = kept(run, &log).map_err(|error| error.to_string());
        match kept_log.and_then(|content| events(redactor, &run.join(&log), &content)) {
            Ok(text) => {
                files.add(&log, text.as_bytes());
            }
            Err(why) => lost(why),
        }
        for name in case.aftermath(&result.trial) {
            let path = folder.join(name);
            match kept_or_empty(run, &path) {
                Ok(text) => match serde_json::from_slice::<serde_json::Value>(&text) {
                    Ok(value) if name.ends_with(".json") => files.add_value(&path, &value)?,
                    _ => drop(files.add(&path, &text)),
                },
                Err(error) => lost(error.to_string()),
            }
        }
        // What can't be read is named by the case.
        let evidence = load_trial(run, &result.trial);
        match kept_or_empty(run, &folder.join(CONSOLE)) {
            Ok(console) => {
                files.add(&folder.join(CONSOLE), &console);
            }
            Err(error) if evidence.is_ok() => lost(error.to_string()),
            Err(_) => {}
        }
        let Ok(evidence) = evidence else { continue };
        files.add_value(&folder.join("evidence.json"), &evidence)?;
        if matches!(result.observation, Observation::Hang(_)) {
            let looks = evidence.looks.iter().map(|(at, look)| format!("look {} at {at}\n{}\n\n", look.id, look.log));
            files.add(&folder.join("stacks.txt"), looks.collect::<String>().as_bytes());
        }
    }
    // What can't be read is named by the case.
    for (path, content) in reproducer_of(run, &case.report).unwrap_or_default() {
        files.add(&path, &content);
    }
    for kernel in distinct(&case.report) {
        let (Some(build), inputs) = (&kernel.build, case.inputs(&kernel.name)) else { continue };
        let folder = Path::new(KERNELS).join(kernel.name.as_str());
        let patches = inputs.compatibility.iter().chain(&inputs.patches).filter_map(|patch: &Patch| patch.file.clone());
        for path in patches.chain(inputs.config.clone()).chain([folder.join(DIGESTS)]) {
            // What can't be read is named by the case.
            let Ok(content) = kept(run, &path) else { continue };
            if files.add(&path, &content) {
                let what = format!("{}: its bytes that aren't UTF-8, for it has private words, too", run.join(&path).display());
                left_out.push(Damage::of_kernel(&kernel.name, what));
            }
        }
        files.add_value(&folder.join("provenance.json"), &statement(&case.report.hangproof, build, &inputs))?;
    }
    let damaged = case.damaged.iter().chain(&left_out).cloned().collect();
    let clean = redactor.value(&Case { damaged, ..case.clone() }).map_err(io::Error::from)?;
    for (name, content) in [
        ("README", README.to_owned()),
        (FILE, json(&clean).map_err(io::Error::from)?),
        (PAGE, html(&clean).map_err(|error| other(error.into()))?),
        ("report.txt", bugzilla(&clean)),
        ("report.md", markdown(&clean)),
        ("report.xml", junit(&clean).map_err(|error| other(error.into()))?),
    ] {
        files.add(Path::new(name), content.as_bytes());
    }
    let mut files = files.files;
    let sums: String = files.iter().map(|(name, content)| format!("{:x}  {name}\n", Sha256::digest(content))).collect();
    files.insert(DIGESTS.to_owned(), sums.into_bytes());
    Ok((files, left_out))
}

/// JSON lines, each redacted as a value: in JSON's own spelling a word may stand behind the `n` of a line feed.
fn events(redactor: &Redactor, path: &Path, log: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    for (line, number) in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).zip(1..) {
        let event = event(path, number, line).map_err(|error| error.to_string())?;
        let value = redactor.value(&event).map_err(|error| error.to_string())?;
        text.push_str(&format!("{value}\n"));
    }
    Ok(text)
}

/// A compressed tar archive with everything in the folder `name`.
fn packed(files: &Contents, name: &str, when: u64) -> io::Result<Vec<u8>> {
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
