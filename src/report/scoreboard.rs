//! The scoreboard: one line per kernel (and mitigation, in a pipeline that has some), what was expected and what was found.
//!
//! Returns text; the colours are the caller's choice.
//!
//! Read [`scoreboard`].

use std::collections::BTreeSet;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use textwrap::core::display_width;

use super::{KernelReport, Report};
use crate::build::Manifest;
use crate::verdict::{Counts, Verdict};

/// Columns that what was seen needs to be read as a text. Where there are fewer, everything of a kernel stands below its name.
const LEAST_SEEN: usize = 30;

/// The scoreboard of a report, as wide as `width` if given, coloured if `colour`.
#[must_use]
pub fn scoreboard(report: &Report, width: Option<u16>, colour: bool) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    if !colour {
        table.force_no_tty();
    }
    let (header, rows) = columns(report);
    let least = (0..header.len()).map(|column| 2 + rows.iter().chain([&header]).map(|row| display_width(&row[column])).max().unwrap_or(0));
    if width.is_some_and(|width| usize::from(width) < 4 + least.sum::<usize>() + LEAST_SEEN) {
        table.load_preset(presets::NOTHING);
        for kernel in &report.kernels {
            table.add_row([mark(kernel, colour), Cell::new(lines(kernel))]);
        }
    } else {
        let verdict = header.len() - 3;
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["".into()].into_iter().chain(header).chain(["WHAT WAS SEEN".into()]));
        for (kernel, row) in report.kernels.iter().zip(rows) {
            let mut cells: Vec<Cell> = row.into_iter().map(Cell::new).collect();
            cells[verdict] = painted(Cell::new(kernel.verdict), kernel, colour);
            table.add_row([mark(kernel, colour)].into_iter().chain(cells).chain([Cell::new(seen(kernel))]));
        }
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let mut noted = BTreeSet::new();
    for kernel in report.kernels.iter().filter(|kernel| noted.insert(&kernel.name)) {
        if let Some(same) = kernel.build.as_ref().and_then(Manifest::same_as_base) {
            text.push_str(&format!("note: {} is {same}\n", kernel.name));
        }
    }
    text
}

/// The columns between the mark and what was seen: their names, and the cells of each kernel.
fn columns(report: &Report) -> (Vec<String>, Vec<Vec<String>>) {
    let mut header = vec!["KERNEL", "EXPECTED", "VERDICT", "TRIALS", "HANG RATE (95 %)"];
    let mitigated = report.kernels.iter().any(|kernel| kernel.mitigation.is_some());
    if mitigated {
        header.insert(1, "MITIGATION");
    }
    let row = |kernel: &KernelReport| {
        let expected = kernel.expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string());
        let mut row = vec![kernel.name.to_string(), expected, kernel.verdict.to_string(), counts(kernel.trials), rate(kernel)];
        if mitigated {
            row.insert(1, kernel.mitigation.as_ref().map_or("-", |mitigation| mitigation.as_str()).to_owned());
        }
        row
    };
    (header.into_iter().map(str::to_owned).collect(), report.kernels.iter().map(row).collect())
}

/// A kernel in a few lines, for a narrow terminal.
fn lines(kernel: &KernelReport) -> String {
    let mitigation = kernel.mitigation.as_ref().map_or_else(String::new, |mitigation| format!(" with mitigation {mitigation}"));
    let expected = kernel.expected.map_or_else(String::new, |expected| format!(", expected {expected}"));
    let rate = if kernel.hang_rate.trials == 0 { String::new() } else { format!("; hang rate (95 %) {}", rate(kernel)) };
    let found = format!("{}{mitigation}\n{}{expected}: {}{rate}", kernel.name, kernel.verdict, counts(kernel.trials));
    match seen(kernel) {
        seen if seen.is_empty() => found,
        seen => format!("{found}\n{seen}"),
    }
}

fn tint(kernel: &KernelReport) -> (&'static str, Color) {
    match (kernel.verdict, kernel.is_as_expected()) {
        (Verdict::Inconclusive, _) => ("?", Color::Yellow),
        (_, true) => ("✓", Color::Green),
        (_, false) => ("✗", Color::Red),
    }
}

fn mark(kernel: &KernelReport, colour: bool) -> Cell {
    painted(Cell::new(tint(kernel).0), kernel, colour)
}

fn painted(cell: Cell, kernel: &KernelReport, colour: bool) -> Cell {
    if colour { cell.fg(tint(kernel).1) } else { cell }
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
    format!("{}/{} ({})", rate.hits, rate.trials, rate.outward())
}

/// The detail of the trial that the verdict rests on.
pub(super) fn seen(kernel: &KernelReport) -> String {
    if let Some(why) = kernel.why_inconclusive() {
        return why;
    }
    let Some(decisive) = kernel.decisive() else { return String::new() };
    let mut counted = kernel.results.iter().filter(|result| result.counts());
    // Where the trials differ, which one it was is worth a look into its folder.
    let which = if counted.any(|other| other.observation.word() != decisive.observation.word()) {
        format!("trial {}: ", decisive.trial.repeat)
    } else {
        String::new()
    };
    format!("{which}{}", decisive.observation.detail())
}
