//! A trial's time line and the arms' intervals as coordinates, for the SVG in `templates/report.html`.
//!
//! Numbers only: what comes from a guest is text and goes through the template's escaping. All trials of a run share one scale of time, so that a hang that
//! ends a trial early is seen. A curve has one point per column of pixels at most.
//!
//! Read [`TimeLine`] first.

use super::account::odds;
use super::case::arm;
use super::proof::ProofSummary;
use super::seen::{Seen, seconds};
use super::{KernelReport, Report};
use crate::oracle::Observation;
use crate::verdict::Verdict;

/// Left edge of the plot.
pub const LEFT: f64 = 64.0;
/// Right edge of the plot.
pub const RIGHT: f64 = 1036.0;
/// Top of the curves.
pub const TOP: f64 = 26.0;
/// Bottom of the curves.
pub const BOTTOM: f64 = 146.0;
/// Where the kills are marked.
pub const RUG: f64 = 152.0;

/// Room for the hang's label.
const LABEL: f64 = 330.0;

/// A trial's time line.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeLine {
    /// The reproducer's operations.
    pub operations: Option<Curve>,
    /// The agent's probes.
    pub probes: Option<Curve>,
    /// Grid lines of the time.
    pub ticks: Vec<Tick>,
    /// OOM kills, as the path of all marks.
    pub kills: String,
    /// How many kills are marked.
    pub killed: usize,
    /// Looks at the tasks.
    pub looks: Vec<f64>,
    /// The boot's end: the reproducer's start.
    pub started: Option<f64>,
    /// The reproducer's end.
    pub done: Option<f64>,
    /// The trial's end.
    pub end: f64,
    /// From the last progress to certainty.
    pub hang: Option<Span>,
    /// The moment of a crash or of a boot failure.
    pub fatal: Option<f64>,
}

/// A curve that only rises.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Points of an SVG polyline.
    pub points: String,
    /// What the top of the scale stands for.
    pub top: u64,
    /// The last value.
    pub last: u64,
}

/// A labelled place on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where.
    pub x: f64,
    /// What.
    pub label: String,
}

/// The standstill that is the hang.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The last progress.
    pub from: f64,
    /// Certain.
    pub to: f64,
    /// Width.
    pub width: f64,
    /// When the progress was last seen, in seconds.
    pub last: String,
    /// How long it took to be certain.
    pub took: String,
    /// Where the label stands: behind the span, or in it, or before it, where there is room.
    pub label: f64,
    /// The label ends there instead of beginning.
    pub turned: bool,
}

/// The time that all trials fit in, in seconds.
#[must_use]
pub fn scale<'a>(trials: impl Iterator<Item = &'a Seen>) -> f64 {
    let longest = trials.map(|seen| seen.end).fold(1.0_f64, f64::max);
    let step = step(longest);
    (longest / step).ceil() * step
}

/// A round distance of grid lines that makes about ten.
fn step(longest: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0];
    steps.into_iter().find(|step| longest / step <= 12.0).unwrap_or(86_400.0)
}

impl TimeLine {
    /// The time line of a trial, on a scale of so many seconds.
    #[must_use]
    pub fn of(seen: &Seen, observation: &Observation, scale: f64) -> Self {
        let x = |at: f64| rounded(LEFT + (RIGHT - LEFT) * (at / scale).clamp(0.0, 1.0));
        let step = step(scale);
        // Both ends of the scale are round.
        let ticks = (0..=(scale / step).round() as u64).map(|n| Tick { x: x(n as f64 * step), label: format!("{}", n as f64 * step) });
        let kills: String = columns(seen.kills.iter().map(|at| x(*at))).map(|x| format!("M{x} {RUG}v8")).collect();
        let hang = match observation {
            Observation::Hang(hang) => {
                let (from, to) = (seconds(hang.last_progress), seconds(hang.at));
                let (last, took) = (format!("{from:.1}"), format!("{:.1}", to - from));
                let (from, to) = (x(from), x(to));
                let (label, turned) = match (to < RIGHT - LABEL, to - from > LABEL) {
                    (true, _) => (to + 6.0, false),
                    (false, true) => (from + 6.0, false),
                    (false, false) => (from - 6.0, true),
                };
                Some(Span { from, to, width: rounded(to - from), last, took, label: rounded(label), turned })
            }
            Observation::Pass(_) | Observation::Crash { .. } | Observation::BootFailure { .. } | Observation::Invalid { .. } => None,
        };
        let fatal = match observation {
            Observation::Crash { at, .. } | Observation::BootFailure { at, .. } => Some(x(seconds(*at))),
            Observation::Pass(_) | Observation::Hang(_) | Observation::Invalid { .. } => None,
        };
        Self {
            operations: curve(&seen.operations, x),
            probes: curve(&seen.probes, x),
            ticks: ticks.collect(),
            kills,
            killed: seen.kills.len(),
            looks: columns(seen.looks.iter().map(|at| x(*at))).collect(),
            started: seen.started.map(x),
            done: seen.done.map(x),
            end: x(seen.end),
            hang,
            fatal,
        }
    }
}

fn curve(values: &[(f64, u64)], x: impl Fn(f64) -> f64) -> Option<Curve> {
    let last = values.last()?.1;
    let top = values.iter().map(|(_, value)| *value).max()?.max(1);
    let y = |value: u64| rounded(BOTTOM - (BOTTOM - TOP) * value as f64 / top as f64);
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (at, value) in values {
        let (x, y) = (x(*at), y(*value));
        match points.as_mut_slice() {
            // Of a column the first and the last point are kept: a level line stays level.
            [.., before, last] if before.0.floor() == x.floor() && last.0.floor() == x.floor() => *last = (x, y),
            _ => points.push((x, y)),
        }
    }
    let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x},{y}")).collect();
    Some(Curve { points: points.join(" "), top, last })
}

/// One place per column of pixels.
fn columns(places: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
    let mut last = f64::NEG_INFINITY;
    places.filter(move |x| {
        let news = x.floor() > last;
        last = last.max(x.floor());
        news
    })
}

/// A tenth of a pixel is enough.
fn rounded(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// An arm of the interval plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// The arm.
    pub arm: String,
    /// Height of its line.
    pub y: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// The rate itself; none without trials.
    pub rate: Option<f64>,
    /// `k/n`.
    pub count: String,
    /// The bounds.
    pub bounds: String,
    /// What the count excludes, in a sentence.
    pub odds: String,
    /// The class of its colour.
    pub class: &'static str,
}

/// Left edge of the interval plot: arms have long names.
pub const BARS_LEFT: f64 = 330.0;
/// Right edge of the interval plot.
pub const BARS_RIGHT: f64 = 880.0;
/// Distance of two arms.
pub const BARS_STEP: f64 = 30.0;

/// Grid lines of the interval plot.
#[must_use]
pub fn rates() -> Vec<Tick> {
    (0..=5)
        .map(|n| Tick { x: BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * f64::from(n) / 5.0, label: format!("{:.1}", f64::from(n) / 5.0) })
        .collect()
}

/// The interval plot of a run's arms. In a proof only the hangs that are the baseline's count, of the trials that the answer rests on, at its confidence.
#[must_use]
pub fn bars(report: &Report, proof: Option<&ProofSummary>) -> Vec<Bar> {
    let proved = |kernel: &KernelReport| proof.and_then(|proof| proof.arms.iter().find(|proved| kernel.name.as_str() == proved.name));
    let x = |rate: f64| rounded(BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * rate);
    let bar = |(index, kernel): (usize, &KernelReport)| {
        let rate = proved(kernel).map_or(&kernel.hang_rate, |arm| &arm.rate);
        Bar {
            arm: arm(kernel),
            y: 34.0 + BARS_STEP * index as f64,
            low: x(rate.low),
            high: x(rate.high),
            rate: (rate.trials > 0).then(|| x(rate.hits as f64 / rate.trials as f64)),
            count: format!("{}/{}", rate.hits, rate.trials),
            bounds: format!("{:.2} to {:.2}", rate.low, rate.high),
            odds: odds(rate),
            class: match kernel.verdict {
                Verdict::Pass => "pass",
                Verdict::Hang => "hang",
                Verdict::Crash | Verdict::BootFailure => "crash",
                Verdict::Inconclusive => "inconclusive",
            },
        }
    };
    report.kernels.iter().enumerate().map(bar).collect()
}
