//! The scoreboard: one line per kernel (and mitigation, in a pipeline that has some), what was expected and what was found.
//!
//! Returns text; the colours are the caller's choice.
//!
//! Read [`scoreboard`].

use std::collections::BTreeSet;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::{KernelReport, Report};
use crate::oracle::Observation;
use crate::verdict::{Counts, Verdict};

/// The scoreboard of a report, as wide as `width` if given, coloured if `colour`.
#[must_use]
pub fn scoreboard(report: &Report, width: Option<u16>, colour: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    if !colour {
        table.force_no_tty();
    }
    let mitigated = report.kernels.iter().any(|kernel| kernel.mitigation.is_some());
    let mut header = vec!["", "KERNEL", "EXPECTED", "VERDICT", "TRIALS", "HANG RATE (95 %)", "WHAT WAS SEEN"];
    if mitigated {
        header.insert(2, "MITIGATION");
    }
    table.set_header(header);
    for kernel in &report.kernels {
        let met = kernel.is_as_expected();
        let (mark, tint) = match (kernel.verdict, met) {
            (Verdict::Inconclusive, _) => ("?", Color::Yellow),
            (_, true) => ("✓", Color::Green),
            (_, false) => ("✗", Color::Red),
        };
        let paint = |cell: Cell| if colour { cell.fg(tint) } else { cell };
        let mut row = vec![
            paint(Cell::new(mark)),
            Cell::new(&kernel.name),
            Cell::new(kernel.expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string())),
            paint(Cell::new(kernel.verdict)),
            Cell::new(counts(kernel.trials)),
            Cell::new(rate(kernel)),
            Cell::new(seen(kernel)),
        ];
        if mitigated {
            row.insert(2, Cell::new(kernel.mitigation.as_ref().map_or("-", |mitigation| mitigation.as_str())));
        }
        table.add_row(row);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let unchanged = report.kernels.iter().filter(|kernel| kernel.build.as_ref().is_some_and(|build| build.unchanged_from_base));
    let mut noted = BTreeSet::new();
    for kernel in unchanged.filter(|kernel| noted.insert(&kernel.name)) {
        text.push_str(&format!("note: the patches of {} change nothing that runs: it is its base\n", kernel.name));
    }
    text
}

pub(super) fn counts(counts: Counts) -> String {
    let named = [
        (counts.pass, "pass"),
        (counts.hang, "hang"),
        (counts.crash, "crash"),
        (counts.boot_failure, "boot-failure"),
        (counts.invalid, "invalid"),
        (counts.repeated, "repeated"),
    ];
    let shown: Vec<String> = named.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn rate(kernel: &KernelReport) -> String {
    let rate = &kernel.hang_rate;
    if rate.trials == 0 {
        return "-".to_owned();
    }
    format!("{}/{} ({:.2} to {:.2})", rate.hits, rate.trials, rate.low, rate.high)
}

/// The detail of the trial that the verdict rests on.
pub(super) fn seen(kernel: &KernelReport) -> String {
    if let Some(why) = kernel.why_inconclusive() {
        return why;
    }
    if let Some(other) = kernel.other_hang() {
        return other.observation.detail();
    }
    let bears_it = |observation: &Observation| observation.word() == kernel.verdict.to_string();
    let found = kernel.results.iter().rev().find(|result| bears_it(&result.observation));
    found.map_or_else(String::new, |result| result.observation.detail())
}
