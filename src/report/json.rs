//! A report as data: what the run saved, where that isn't what the evidence says, and beside each trial and kernel what is missing or damaged of it now.
//!
//! A run's folder with it as its `report.json` is read again; what it says of damage is then looked at anew.
//!
//! Read [`json`].

use serde_json::Value;

use super::case::{Case, Comparison};

/// The report as JSON.
///
/// # Errors
/// Never in practice: everything in it was read from JSON.
pub fn json(case: &Case) -> serde_json::Result<String> {
    if case.damaged.is_empty() && case.comparison == Comparison::Made(Vec::new()) {
        return serde_json::to_string_pretty(&case.report);
    }
    let mut report = serde_json::to_value(&case.report)?;
    note(&mut report, &case.damage(None, None));
    match &case.comparison {
        Comparison::Made(contradictions) if contradictions.is_empty() => {}
        Comparison::Made(contradictions) => report["contradictions"] = contradictions.as_slice().into(),
        Comparison::NotMade(why) => report["not-compared"] = why.as_str().into(),
    }
    for (kernel, shown) in case.report.kernels.iter().zip(items(&mut report["kernels"])) {
        note(shown, &case.damage(Some(&kernel.name), None));
        for (result, shown) in kernel.results.iter().zip(items(&mut shown["results"])) {
            note(shown, &case.damage(Some(&kernel.name), Some(&result.trial)));
        }
    }
    serde_json::to_string_pretty(&report)
}

fn items(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

fn note(shown: &mut Value, damage: &[&str]) {
    if !damage.is_empty() {
        shown["damaged"] = damage.into();
    }
}
