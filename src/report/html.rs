//! A run as one HTML page that needs nothing else: `report.html` beside `report.json`.
//!
//! No script, no network. The template is checked when hangproof is compiled, and escapes every value: a guest's task may be named `<script>`, and its
//! console may hold anything. Links are made of trials' names only, which have no such characters.
//!
//! Read [`html`]; the page itself is `templates/report.html`.

use std::path::Path;

use askama::Template;

use super::account::{NOT_THE_EVIDENCE, distinct, done_text, outcome, percent, setting, toolchains};
use super::case::{Case, arm};
use super::kernels::{Inputs, Patch};
use super::materials::{Material, own_changes, toolchain};
use super::proof::ProofSummary;
use super::seen::Stack;
use super::text::counted;
use super::timeline::{self, Bar, Tick, TimeLine, bars};
use super::{KernelReport, TrialReport, trial_folder};
use crate::build::Manifest;
use crate::oracle::Observation;
use crate::verdict::Verdict;

/// File name of the page in a run's folder.
pub const PAGE: &str = "report.html";

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    case: &'a Case,
    /// One line about all verdicts.
    outcome: (&'static str, String),
    done: String,
    setting: Vec<(&'static str, String)>,
    toolchains: Vec<String>,
    rows: Vec<Row<'a>>,
    mitigated: bool,
    bars: Vec<Bar>,
    bar_ticks: Vec<Tick>,
    bars_height: f64,
    bars_percent: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    builds: Vec<BuildView<'a>>,
    proof: Option<&'a ProofSummary>,
    cpus: String,
    not_the_evidence: &'static str,
    /// What is wrong with the reproducer's file.
    damaged: Vec<&'a str>,
}

/// A line of the matrix, with its trials.
struct Row<'a> {
    kernel: &'a KernelReport,
    arm: String,
    /// What ran beside the reproducer; the column is shown if a line has one.
    mitigation: Option<String>,
    expected: String,
    class: &'static str,
    mark: &'static str,
    rate: String,
    seen: String,
    trials: Vec<TrialView<'a>>,
    /// Trials beside each other in the matrix: all, if they aren't many.
    dots: usize,
}

/// Trials beside each other in a line of the matrix.
const MOST_DOTS: usize = 10;

/// A trial with its time line.
struct TrialView<'a> {
    id: String,
    repeat: u32,
    attempt: u32,
    class: &'static str,
    word: &'static str,
    detail: String,
    seconds: f64,
    repeated: bool,
    calibrates: bool,
    line: Option<TimeLine>,
    stacks: &'a [Stack],
    tail: &'a [String],
    cgroups: Vec<[String; 5]>,
    root: &'a str,
    console: String,
    evidence: String,
    events: String,
    /// Name and link of what was collected after the hang.
    aftermath: Vec<(&'a str, String)>,
    damaged: Vec<&'a str>,
}

/// What went into a kernel.
struct BuildView<'a> {
    name: &'a str,
    version: &'a str,
    build: Option<&'a Manifest>,
    error: &'a str,
    materials: Vec<Material>,
    own_changes: Vec<String>,
    toolchain: String,
    inputs: Inputs,
    /// Compatibility changes, and the user's patches.
    patches: [(&'static str, Vec<Patch>); 2],
    damaged: Vec<&'a str>,
}

impl Patch {
    fn href(&self) -> Option<String> {
        self.file.as_deref().map(href)
    }
}

impl Inputs {
    fn href(&self) -> Option<String> {
        self.config.as_deref().map(href)
    }
}

/// The report as an HTML page.
///
/// # Errors
/// Never in practice: the template writes into memory.
pub fn html(case: &Case) -> Result<String, askama::Error> {
    let report = &case.report;
    let scale = timeline::scale(case.trials.values());
    let bars = bars(report, case.proof.as_ref());
    let rows: Vec<Row<'_>> = report.kernels.iter().map(|kernel| row(case, kernel, scale)).collect();
    let page = Page {
        outcome: outcome(case),
        done: done_text(report),
        setting: setting(report),
        toolchains: toolchains(report),
        mitigated: rows.iter().any(|row| row.mitigation.is_some()),
        rows,
        bars_height: 34.0 + timeline::BARS_STEP * bars.len() as f64 + 22.0,
        bars_percent: match (&case.proof, report.kernels.first()) {
            (Some(proof), _) => proof.percent(),
            (None, kernel) => kernel.map_or_else(String::new, |kernel| percent(kernel.hang_rate.confidence)),
        },
        bars,
        bar_ticks: timeline::rates(),
        left: timeline::LEFT,
        right: timeline::RIGHT,
        top: timeline::TOP,
        bottom: timeline::BOTTOM,
        builds: distinct(report).map(|kernel| build(case, kernel)).collect(),
        proof: case.proof.as_ref(),
        cpus: counted(u64::from(report.machine.cpus), "CPU"),
        not_the_evidence: NOT_THE_EVIDENCE,
        damaged: case.damage(None, None),
        case,
    };
    page.render()
}

fn row<'a>(case: &'a Case, kernel: &'a KernelReport, scale: f64) -> Row<'a> {
    let (class, mark) = match (kernel.verdict, kernel.is_as_expected()) {
        (Verdict::Inconclusive, _) => ("inconclusive", "?"),
        (_, true) => ("met", "✓"),
        (_, false) => ("contrary", "✗"),
    };
    let rate = &kernel.hang_rate;
    Row {
        kernel,
        arm: arm(kernel),
        mitigation: kernel.mitigation.as_ref().map(ToString::to_string),
        expected: kernel.expected.map_or_else(|| "–".to_owned(), |expected| expected.to_string()),
        class,
        mark,
        rate: if rate.trials == 0 { "–".to_owned() } else { format!("{}/{}", rate.hits, rate.trials) },
        seen: super::scoreboard::seen(kernel),
        trials: kernel.results.iter().map(|result| trial(case, result, scale)).collect(),
        dots: kernel.results.len().clamp(1, MOST_DOTS),
    }
}

fn trial<'a>(case: &'a Case, result: &'a TrialReport, scale: f64) -> TrialView<'a> {
    let seen = case.seen(&result.trial);
    let folder = trial_folder(&result.trial);
    let link = |name: &str| folder.join(name).display().to_string();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let cgroups = seen.map_or(&[][..], |seen| &seen.cgroups).iter().map(|group| {
        let kills = group.oom_kills.map_or_else(|| "–".to_owned(), |kills| kills.to_string());
        [group.path.clone(), mib(group.usage), mib(group.limit), group.hits.to_string(), kills]
    });
    TrialView {
        id: result.trial.to_string(),
        repeat: result.trial.repeat,
        attempt: result.trial.attempt,
        class: class(&result.observation),
        word: result.observation.word(),
        detail: result.observation.detail(),
        seconds: result.seconds,
        repeated: result.repeated,
        calibrates: result.calibrates,
        // Before the reproducer's start there is nothing to draw.
        line: seen.filter(|seen| seen.started.is_some()).map(|seen| TimeLine::of(seen, &result.observation, scale)),
        stacks: seen.map_or(&[], |seen| &seen.stacks),
        tail: seen.map_or(&[], |seen| &seen.tail),
        cgroups: cgroups.collect(),
        root: seen.and_then(|seen| seen.root.as_deref()).unwrap_or_default(),
        console: link("console.log"),
        evidence: link("evidence.json"),
        events: link(crate::progress::EVENTS),
        aftermath: case.aftermath(&result.trial).iter().map(|name| (name.as_str(), link(name))).collect(),
        damaged: case.damage(Some(&result.trial.kernel), Some(&result.trial)),
    }
}

fn class(observation: &Observation) -> &'static str {
    match observation {
        Observation::Pass(_) => "pass",
        Observation::Hang(_) => "hang",
        Observation::Crash { .. } | Observation::BootFailure { .. } => "crash",
        Observation::Invalid { .. } => "invalid",
    }
}

fn build<'a>(case: &'a Case, kernel: &'a KernelReport) -> BuildView<'a> {
    let build = kernel.build.as_ref();
    let inputs = case.inputs(&kernel.name);
    BuildView {
        name: kernel.name.as_str(),
        version: case.version(kernel).unwrap_or_else(|unknown| unknown),
        build,
        error: kernel.build_error.as_deref().unwrap_or_default(),
        materials: build.map_or_else(Vec::new, |build| Material::all(&build.source)),
        own_changes: build.map_or_else(Vec::new, |build| own_changes(&build.source)),
        toolchain: build.map_or_else(String::new, toolchain),
        patches: [("compatibility", inputs.compatibility.clone()), ("patches", inputs.patches.clone())],
        inputs,
        damaged: case.damage(Some(&kernel.name), None),
    }
}

/// A path as a link's target: what means something in a URL is quoted.
fn href(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~+".contains(&byte);
    let quoted = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).iter().map(|byte| quoted(*byte)).collect()
}
