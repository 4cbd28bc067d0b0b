//! From `pipelines/NAME/pipeline.yaml` to [`Pipeline`].
//!
//! Names are checked against those that the files define; whether a named kernel is itself sound is its own file's report.
//!
//! Read [`check`] first.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::hang::signature;
use super::marks::Node;
use super::mitigation;
use super::problem::nearest;
use super::sheet::Sheet;
use super::words::{self, Wrong, boot_argument, reproducer_file, size, wrong};
use super::{Expected, Limits, Machine, MemMib, Mitigation, Name, Pipeline, Program, Reproducer, Trigger, raw};

/// Most vCPUs: what QEMU's default PC machine takes without further options is far above, a host's cores far below.
const MOST_CPUS: u32 = 64;

/// Least memory that a 6.1 kernel, the agent's initramfs and the workload start in.
const LEAST_MEMORY: MemMib = MemMib(256);

/// Most memory: a test VM of more is a mistake in the unit.
const MOST_MEMORY: MemMib = MemMib(1024 * 1024);

/// Least standstill after which the task list is looked at: the agent's own probe writes once in a second (its `PAUSE`).
const LEAST_STALL: Duration = Duration::from_secs(1);

/// Most repeats of a kernel in one run.
const MOST_REPEATS: u32 = 10_000;

/// The names that a pipeline may use.
#[derive(Debug)]
pub(super) struct Known {
    pub kernels: BTreeSet<String>,
    pub images: BTreeSet<String>,
}

/// Checks one file. `None` when something is missing without which there is no pipeline; then the sheet says what.
pub(super) fn check(raw: raw::Pipeline, marks: &Node, sheet: &mut Sheet, name: Option<Name>, known: &Known) -> Option<Pipeline> {
    let raw::Pipeline {
        name: _,
        description,
        kernels,
        mitigations,
        image,
        machine,
        boot_arguments,
        cgroup,
        reproducer,
        limits,
        trigger,
        hang,
        proof,
        repeats,
    } = raw;
    let description = sheet.description(description, marks);
    let mut mitigations = mitigation::check(sheet, mitigations, marks);
    let kernels =
        sheet.required(kernels, marks, "kernels").map(|kernels| arms(sheet, kernels, marks.at("kernels"), known, &mut mitigations));
    let image = sheet.required(image, marks, "image");
    let image = image.and_then(|image| sheet.value(reference(&image, "image", &known.images), marks.at("image").place));
    let machine = sheet.required(machine, marks, "machine").and_then(|machine| machine_of(sheet, machine, marks.at("machine")));
    let boot_arguments = sheet.each(boot_arguments, marks, "boot-arguments", boot_argument);
    let reproducer = sheet.required(reproducer, marks, "reproducer");
    let reproducer = reproducer.and_then(|reproducer| reproducer_of(sheet, reproducer, marks.at("reproducer")));
    let limits = sheet.required(limits, marks, "limits").and_then(|limits| limits_of(sheet, limits, marks.at("limits")));
    let trigger = sheet.required(trigger, marks, "trigger").and_then(|trigger| trigger_of(sheet, trigger, marks.at("trigger")));
    let hang = hang.and_then(|hang| signature(sheet, hang, marks.at("hang")));
    let proof_duration = proof.and_then(|raw::Proof { duration }| time(sheet, duration, marks.at("proof"), "duration", words::seconds));
    let repeats = repeats.unwrap_or(1);
    if !(1..=MOST_REPEATS).contains(&repeats) {
        sheet.say(marks.at("repeats").place, format!("{repeats} repeats are impossible"), format!("write 1 to {MOST_REPEATS}"));
    }
    Some(Pipeline {
        name: name?,
        description: description?,
        defined_in: sheet.path.clone(),
        kernels: kernels?,
        mitigations,
        image: image?,
        machine: machine?,
        boot_arguments,
        cgroup: cgroup.unwrap_or_default(),
        reproducer: reproducer?,
        limits: limits?,
        trigger: trigger?,
        hang,
        proof_duration,
        repeats,
    })
}

fn reference(text: &str, what: &str, known: &BTreeSet<String>) -> Result<Name, Wrong> {
    match Name::new(text) {
        Ok(name) if known.contains(text) => Ok(name),
        _ => wrong(format!("there is no {what} `{text}`"), nearest(text, known.iter().map(String::as_str))),
    }
}

fn arms(
    sheet: &mut Sheet,
    arms: Vec<raw::Arm>,
    marks: &Node,
    known: &Known,
    mitigations: &mut [Mitigation],
) -> Vec<(Name, Option<Expected>)> {
    if arms.is_empty() && marks.lost.is_empty() {
        sheet.say(marks.place, "a pipeline without kernels proves nothing", "list the kernels to compare");
    }
    let mut checked: Vec<(Name, Option<Expected>)> = Vec::new();
    for (index, arm) in arms.into_iter().enumerate() {
        let marks = marks.item(index);
        let Some(kernel) = sheet.required(arm.kernel, marks, "kernel") else { continue };
        let place = marks.at("kernel").place;
        let Some(name) = sheet.value(reference(&kernel, "kernel", &known.kernels), place) else { continue };
        if checked.iter().any(|(earlier, _)| *earlier == name) {
            sheet.say(place, format!("the kernel `{kernel}` is listed twice"), "keep one of the two and set `repeats`");
        }
        let expected = mitigation::expectations(sheet, &name, arm.expect, marks.at("expect"), mitigations);
        checked.push((name, expected));
    }
    checked
}

fn machine_of(sheet: &mut Sheet, machine: raw::Machine, marks: &Node) -> Option<Machine> {
    let cpus = sheet.required(machine.cpus, marks, "cpus");
    let memory = sheet.required(machine.memory, marks, "memory");
    let cpus = cpus.and_then(|cpus| {
        let fine = (1..=MOST_CPUS).contains(&cpus);
        let checked =
            if fine { Ok(cpus) } else { wrong(format!("a machine of {cpus} CPUs is impossible"), format!("write 1 to {MOST_CPUS}")) };
        sheet.value(checked, marks.at("cpus").place)
    });
    let memory = memory.and_then(|raw::Word(text)| {
        let checked = size(&text).and_then(|size| match size {
            size if size < LEAST_MEMORY => wrong(format!("a machine with {text} doesn't boot"), "write 256 MiB or more"),
            size if size > MOST_MEMORY => wrong(format!("a machine with {text} is impossible"), "write 1 TiB or less"),
            size => Ok(size),
        });
        sheet.value(checked, marks.at("memory").place)
    });
    Some(Machine { cpus: cpus?, memory: memory? })
}

fn reproducer_of(sheet: &mut Sheet, reproducer: raw::Reproducer, marks: &Node) -> Option<Reproducer> {
    let raw::Reproducer { c, file, parameters, adds } = reproducer;
    let folder = sheet.path.parent().unwrap_or(Path::new("")).to_owned();
    let shown = sheet.shown.parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let program = match (c, file) {
        (Some(c), None) => {
            let source = reproducer_file(&folder, &shown, &c).and_then(|path| match path.extension() {
                Some(ending) if ending == "c" => Ok(path),
                _ => wrong(format!("`{c}` doesn't end in `.c`"), "name a C source, or write `file:` for a script or static program"),
            });
            sheet.value(source, marks.at("c").place).map(Program::C)
        }
        (None, Some(file)) => sheet.value(reproducer_file(&folder, &shown, &file), marks.at("file").place).map(Program::File),
        _ if marks.lost.is_empty() => {
            let message = "a reproducer is exactly one of `c` (a C source) and `file` (a script or static program)";
            sheet.say(marks.place, message, "write one of the two");
            None
        }
        _ => None,
    };
    let parameters = parameters.unwrap_or_default().0;
    let written = marks.at("parameters");
    for (key, value) in &parameters {
        sheet.value(words::parameter_key(key), written.key(key));
        sheet.value(words::parameter_value(key, value), written.at(key).place);
    }
    let adds = sheet.host_programs(adds, marks, "adds");
    Some(Reproducer { program: program?, parameters, adds })
}

fn limits_of(sheet: &mut Sheet, limits: raw::Limits, marks: &Node) -> Option<Limits> {
    let duration = time(sheet, limits.duration, marks, "duration", words::seconds);
    let mut time = |text, key| time(sheet, text, marks, key, words::duration);
    let boot = time(limits.boot, "boot");
    let (stall, silence) = (time(limits.stall, "stall"), time(limits.silence, "silence"));
    if stall.is_some_and(|stall| stall < LEAST_STALL) {
        sheet.say(
            marks.at("stall").place,
            "the guest is asked for progress once in a second, so less than that is no standstill",
            "write 1s or more",
        );
    }
    if let (Some(stall), Some(silence)) = (stall, silence)
        && stall >= silence
    {
        sheet.say(
            marks.at("stall").place,
            "`stall` is not below `silence`, so that the task list would never be looked at",
            "lower `stall`",
        );
    }
    Some(Limits { duration: duration?, boot: boot?, stall: stall?, silence: silence? })
}

fn time(
    sheet: &mut Sheet,
    text: Option<raw::Word>,
    marks: &Node,
    key: &str,
    read: impl Fn(&str) -> Result<Duration, Wrong>,
) -> Option<Duration> {
    let raw::Word(text) = sheet.required(text, marks, key)?;
    sheet.value(read(&text), marks.at(key).place)
}

fn trigger_of(sheet: &mut Sheet, trigger: raw::Trigger, marks: &Node) -> Option<Trigger> {
    let oom_kills = sheet.required(trigger.oom_kills, marks, "oom-kills");
    let commits = sheet.required(trigger.commits, marks, "commits");
    if (oom_kills, commits) == (Some(0), Some(0)) {
        sheet.say(marks.place, "a trigger of nothing lets every pass count", "require at least one OOM kill or commit");
    }
    Some(Trigger { oom_kills: oom_kills?, commits: commits? })
}
