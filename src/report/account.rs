//! The account of a run: what was done, expected and seen, as blocks of text. `bugzilla` and `markdown` are its two renderings.
//!
//! Pure. The most important comes first: a maintainer who reads three lines knows the kernels and what they did. Everything has its denominator.
//!
//! Read [`account`].

use super::case::{Case, Comparison, arm};
use super::materials::{Material, own_changes, toolchain};
use super::proof::ProofSummary;
use super::search::SearchReport;
use super::seen::Role;
use super::text::counted;
use super::{KernelReport, Report, TrialReport};
use crate::image::Description;
use crate::mitigation::Provenance;
use crate::oracle::{Hang, Observation};
use crate::spec::Layout;
use crate::stats::Interval;
use crate::verdict::Verdict;

/// A part of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// Begins a section.
    Heading(String),
    /// Is wrapped.
    Paragraph(String),
    /// Names with what they stand for, below a title.
    Fields(Option<String>, Vec<(&'static str, String)>),
    /// Isn't wrapped.
    Verbatim(Vec<String>),
    /// A command line, which is broken between words only.
    Command(String),
}

/// What a report is worth that says otherwise than its evidence.
pub(super) const NOT_THE_EVIDENCE: &str =
    "This report and the evidence beside it don't belong together: one of them was edited. Don't rely on either.";

/// The whole account.
#[must_use]
pub(super) fn account(case: &Case) -> Vec<Block> {
    let report = &case.report;
    let mut blocks = Vec::new();
    let contradictions = case.comparison.contradictions();
    if !contradictions.is_empty() {
        blocks.push(Block::Heading("Not what the evidence says".to_owned()));
        blocks.push(Block::Paragraph(NOT_THE_EVIDENCE.to_owned()));
        blocks.extend(contradictions.iter().map(|what| Block::Paragraph(what.clone())));
    }
    if let Some(untold) = case.comparison.untold() {
        blocks.extend([Block::Heading("Not compared".to_owned()), Block::Paragraph(untold)]);
    }
    blocks.push(Block::Heading("Kernels".to_owned()));
    blocks.extend(distinct(report).map(|kernel| kernel_block(case, kernel)));
    blocks.push(Block::Heading("What was done".to_owned()));
    blocks.push(done(report));
    blocks.push(setup(report));
    blocks.push(Block::Heading("Expected and actual".to_owned()));
    blocks.extend(report.kernels.iter().map(verdict_block));
    blocks.push(Block::Heading("Statistics".to_owned()));
    blocks.extend(report.kernels.iter().map(|kernel| Block::Paragraph(format!("{}: {}", arm(kernel), odds(&kernel.hang_rate)))));
    blocks.extend(case.proof.iter().flat_map(proof_blocks));
    blocks.extend(report.search.iter().flat_map(search_blocks));
    blocks.extend(report.step.iter().map(|step| Block::Paragraph(step.board().trim_end().to_owned())));
    if let Some((kernel, result, hang)) = first_hang(report) {
        blocks.extend(hang_blocks(case, kernel, result, hang));
    }
    if !case.damaged.is_empty() {
        blocks.push(Block::Heading("Missing or damaged".to_owned()));
        blocks.extend(case.damaged.iter().map(|damage| Block::Paragraph(damage.to_string())));
    }
    blocks.push(Block::Heading("To repeat it".to_owned()));
    blocks.push(Block::Command(report.command.clone()));
    blocks
}

/// What came out, in a line, with the colour's name that a page shows it in.
#[must_use]
pub(super) fn outcome(case: &Case) -> (&'static str, String) {
    if !case.comparison.contradictions().is_empty() {
        return ("hang", "not what its evidence says".to_owned());
    }
    let kernels = &case.report.kernels;
    let count = |is: &dyn Fn(&KernelReport) -> bool| kernels.iter().filter(|kernel| is(kernel)).count();
    let inconclusive = count(&|kernel| kernel.verdict == Verdict::Inconclusive);
    let contrary = count(&|kernel| kernel.verdict != Verdict::Inconclusive && !kernel.is_as_expected());
    let expected = count(&|kernel| kernel.expected.is_some());
    let (class, told) = if let Some(proof) = &case.proof {
        (proof.class(), proof.answer.clone())
    } else if let Some(search) = &case.report.search {
        (if search.answer.is_some() { "pass" } else { "inconclusive" }, search.told().lines().next().unwrap_or_default().to_owned())
    } else {
        match (contrary, inconclusive) {
            (0, 0) if expected == 0 => ("inconclusive", "no verdict was expected".to_owned()),
            (0, 0) if !case.report.complete => ("inconclusive", "every verdict so far as expected".to_owned()),
            (0, 0) => ("pass", "every verdict as expected".to_owned()),
            (0, _) => ("inconclusive", format!("{inconclusive} of {} verdicts inconclusive", kernels.len())),
            (_, _) => ("hang", format!("{contrary} of {} verdicts contrary to what was expected", kernels.len())),
        }
    };
    match case.comparison {
        Comparison::Made(_) => (class, told),
        Comparison::NotMade(_) => ("inconclusive", format!("{told}, not compared with its evidence")),
    }
}

/// What came out, for a text that has no colours.
#[must_use]
pub(super) fn result(case: &Case) -> String {
    let cut = if case.report.complete { "" } else { " (the run was cut short)" };
    format!("{}{cut}", outcome(case).1)
}

/// Each kernel once, though it may have a line with each mitigation.
pub(super) fn distinct(report: &Report) -> impl Iterator<Item = &KernelReport> {
    let kernels = &report.kernels;
    kernels
        .iter()
        .enumerate()
        .filter(move |(index, kernel)| kernels[..*index].iter().all(|before| before.name != kernel.name))
        .map(|(_, kernel)| kernel)
}

fn kernel_block(case: &Case, kernel: &KernelReport) -> Block {
    let version = case.version(kernel).unwrap_or_else(|unknown| unknown);
    let Some(build) = &kernel.build else {
        let error = kernel.build_error.clone().unwrap_or_default();
        return Block::Fields(Some(kernel.name.to_string()), vec![("not built", error)]);
    };
    let inputs = case.inputs(&kernel.name);
    let sources = Material::all(&build.source).into_iter();
    let mut fields: Vec<_> = sources.map(|material| ("source", format!("{} ({})", material.name, material.digest()))).collect();
    fields.extend(own_changes(&build.source).into_iter().map(|line| ("package", line)));
    fields.push(("uname -r", version.to_owned()));
    if let Some(base) = &build.base {
        fields.push(("built on", base.to_string()));
    }
    for (what, patches) in [("compatible", &inputs.compatibility), ("patch", &inputs.patches)] {
        for patch in patches {
            let subject = patch.subject.as_ref().map_or_else(String::new, |subject| format!(": {subject}"));
            let commits = patch.commits.iter().map(|commit| format!(" (mainline {commit})")).collect::<String>();
            fields.push((what, format!("{}{subject}{commits}", patch.name)));
        }
    }
    fields.extend(build.same_as_base().map(|same| ("note", same)));
    fields.extend(build.toolchain.as_ref().map(|tools| ("compiler", tools.compiler.clone())));
    fields.extend(build.elf_signature.as_ref().map(|signature| ("vmlinux", format!("blake3 {signature} (loaded sections)"))));
    Block::Fields(Some(kernel.name.to_string()), fields)
}

/// What was done, in a sentence or two.
pub(super) fn done_text(report: &Report) -> String {
    let (host, limits) = (&report.host, &report.limits);
    let trials: u64 = report.kernels.iter().map(|kernel| kernel.results.len() as u64).sum();
    let state = if report.complete { "" } else { " The run was cut short." };
    let rules = format!(
        "A hang is silence of two clocks (the reproducer's operations, and a small write and fsync outside any memory cgroup) while the VM is proven \
         alive: for {} s with the same closed wait in two looks at the tasks, or for {} s (three times that while the kernel says of each charge that is \
         waited for that it is forced in the end).",
        limits.stall.mul_f64(host.accelerator.scale()).as_secs_f64(),
        limits.silence.mul_f64(host.accelerator.scale()).as_secs_f64()
    );
    let proof = format!(
        "A pass needs {} s without that, and proof of the trigger: {} memory-cgroup OOM kills and {} journal commits at least.",
        limits.duration.as_secs_f64(),
        report.trigger.oom_kills,
        report.trigger.commits
    );
    let scale = match host.accelerator.scale() {
        1.0 => String::new(),
        scale => format!(
            " The VMs ran under {}, so the times of a hang are the pipeline's {} s and {} s times {scale}; the reproducer's isn't changed.",
            host.accelerator.name().to_uppercase(),
            limits.stall.as_secs_f64(),
            limits.silence.as_secs_f64()
        ),
    };
    let trials = counted(trials, "trial");
    format!("hangproof {} booted each kernel in a fresh VM, {trials} in all, interleaved.{state} {rules}{scale} {proof}", report.hangproof)
}

fn done(report: &Report) -> Block {
    Block::Paragraph(done_text(report))
}

/// The setting, as names and values.
pub(super) fn setting(report: &Report) -> Vec<(&'static str, String)> {
    let host = &report.host;
    let mut fields = vec![
        ("pipeline", report.pipeline.to_string()),
        ("reproducer", report.reproducer.join(" ")),
        ("its source", format!("sha256 {}", report.reproducer_sha256)),
    ];
    fields.extend(report.mitigations.iter().filter(|(_, words)| !words.is_empty()).map(|(name, words)| {
        let of = |one: &Provenance| format!(" ({}, sha256 {})", one.package.as_deref().unwrap_or("of no package"), one.sha256);
        ("mitigation", format!("{name}: {}{}", words.join(" "), report.mitigation_programs.get(name).map_or_else(String::new, of)))
    }));
    fields.extend(report.image.iter().map(|image| ("image", image_text(image))));
    fields.push(("machine", format!("{}, {} MiB", counted(report.machine.cpus.into(), "CPU"), report.machine.memory.0)));
    fields.push(("accelerator", format!("{} ({})", host.accelerator.name(), host.reason)));
    fields.push(("emulator", host.qemu.clone()));
    fields.push(("host", format!("{}, VMs at once: {}", counted(host.cpus as u64, "CPU"), host.jobs)));
    fields.push(("started", report.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()));
    fields
}

fn setup(report: &Report) -> Block {
    Block::Fields(None, setting(report))
}

fn image_text(image: &Description) -> String {
    let layout = match image.layout {
        Layout::Md => "ext4 on md RAID1 of two virtio disks",
        Layout::Plain => "ext4 on a virtio disk",
    };
    format!("{}: {layout}, {} MiB, features {}", image.image, image.size, image.features.join(", "))
}

fn verdict_block(kernel: &KernelReport) -> Block {
    let expected = kernel.expected.map_or_else(|| "nothing".to_owned(), |expected| expected.to_string());
    let mark = match (kernel.verdict, kernel.is_as_expected()) {
        (Verdict::Inconclusive, _) => "nobody can tell",
        (_, true) if kernel.expected.is_some() => "as expected",
        (_, true) => "no expectation",
        (_, false) => "contrary",
    };
    let fields = vec![
        ("expected", expected),
        ("actual", format!("{} ({mark})", kernel.verdict)),
        ("trials", super::scoreboard::counts(kernel.trials)),
        ("seen", super::scoreboard::seen(kernel)),
    ];
    Block::Fields(Some(arm(kernel)), fields)
}

/// What a count says of a rate, and what it excludes.
#[must_use]
pub(super) fn odds(rate: &Interval) -> String {
    let Interval { hits, trials, confidence, low, high } = rate;
    if *trials == 0 {
        return "no valid trial, so nothing is known of its hang rate".to_owned();
    }
    let excluded = match (*hits > 0, hits < trials) {
        (true, true) => format!("rates below {low:.3} and above {high:.3} are excluded"),
        (true, false) => format!("rates below {low:.3} are excluded"),
        (false, _) => format!("rates above {high:.3} are excluded"),
    };
    format!("{hits} of {trials} trials hung; exact {} % interval {low:.3} to {high:.3}: {excluded}", percent(*confidence))
}

/// A share in per cent, without needless digits.
#[must_use]
pub(super) fn percent(share: f64) -> String {
    // 0.95 * 100 isn't 95 to the last bit.
    format!("{}", (share * 1e6).round() / 1e4)
}

/// The proof's table, as fields.
fn proof_blocks(proof: &ProofSummary) -> Vec<Block> {
    let mut blocks = vec![
        Block::Heading(format!("Proof: {}", proof.answer)),
        Block::Paragraph(format!("{}. Method: {}; confidence {} %.", proof.reason, proof.method, percent(proof.confidence))),
    ];
    for arm in &proof.arms {
        let mut fields = vec![("role", arm.role.clone()), ("hang rate", odds(&arm.rate))];
        fields.push((
            "looked at",
            format!("after each trial; interval that allows for it {:.3} to {:.3}", arm.anytime.low, arm.anytime.high),
        ));
        fields.extend(arm.bound.map(|bound| ("bound", format!("at most {bound:.3} at {} % confidence", percent(proof.confidence)))));
        fields.extend(arm.test.map(|(value, wanted)| ("test", format!("{value:.3}, {wanted:.3} are needed"))));
        blocks.push(Block::Fields(Some(arm.name.clone()), fields));
    }
    blocks
}

/// What a search found, and the likeliest points.
fn search_blocks(search: &SearchReport) -> Vec<Block> {
    let mut blocks = vec![Block::Heading("Search".to_owned()), Block::Paragraph(search.told()), Block::Paragraph(search.effort())];
    for point in &search.likeliest {
        let fields =
            vec![("title", point.point.title.clone()), ("probability", format!("{} %", point.percent())), ("hangs", point.hangs())];
        blocks.push(Block::Fields(Some(point.name().to_owned()), fields));
    }
    blocks.extend(search.left_out.iter().map(|(kernel, why)| Block::Paragraph(format!("Left out: {kernel}: {why}"))));
    blocks
}

/// The hang that is described: the first of the first kernel that hung in a way that names its parties, or any.
#[must_use]
pub(super) fn first_hang(report: &Report) -> Option<(&KernelReport, &TrialReport, &Hang)> {
    let hangs = || {
        report.kernels.iter().flat_map(|kernel| {
            kernel.results.iter().filter_map(move |result| match &result.observation {
                Observation::Hang(hang) => Some((kernel, result, hang)),
                Observation::Pass(_) | Observation::Crash { .. } | Observation::BootFailure { .. } | Observation::Invalid { .. } => None,
            })
        })
    };
    let closed = |(_, _, hang): &(_, _, &Hang)| matches!(hang.witness, crate::oracle::Witness::ClosedWait(_));
    hangs().find(closed).or_else(|| hangs().next())
}

fn hang_blocks(case: &Case, kernel: &KernelReport, result: &TrialReport, hang: &Hang) -> Vec<Block> {
    let seen = case.seen(&result.trial);
    let last = super::seen::seconds(hang.last_progress);
    let after = match seen.and_then(|seen| seen.started) {
        Some(started) => format!("{:.1} s after the reproducer's", (last - started).max(0.0)),
        None => "the reproducer's is unknown, for the trial's evidence is missing".to_owned(),
    };
    let mut fields = vec![
        ("seen in", format!("{}, trial {}", arm(kernel), result.trial.repeat)),
        ("last progress", format!("{last:.1} s after QEMU's start, {after}")),
        ("certain", format!("{:.1} s later", hang.at.since(hang.last_progress).as_secs_f64())),
        ("witness", hang.witness.to_string()),
        ("OOM kills", hang.oom_kills.to_string()),
    ];
    fields.extend(hang.operations.map(|operations| ("operations", operations.to_string())));
    let mut blocks = vec![Block::Heading("The hang".to_owned()), Block::Fields(None, fields)];
    for role in [Role::Journal, Role::Holder, Role::Victim] {
        let Some(stack) = seen.and_then(|seen| seen.stack(role)) else { continue };
        let first = stack.tasks.first().map_or("", String::as_str);
        let more = match stack.tasks.len() {
            0 | 1 => String::new(),
            tasks => format!(", and {} more at the same place", tasks - 1),
        };
        blocks.push(Block::Paragraph(format!("{} {first} {}{more}:", role.word(), role.does())));
        blocks.push(Block::Verbatim(stack.frames.clone()));
    }
    blocks
}

/// What compiled the kernels, if it is the same for all.
#[must_use]
pub(super) fn toolchains(report: &Report) -> Vec<String> {
    let mut all: Vec<String> = report.kernels.iter().filter_map(|kernel| kernel.build.as_ref()).map(toolchain).collect();
    all.sort();
    all.dedup();
    all
}
