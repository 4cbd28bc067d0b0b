//! A calibration in `report.json`: what a baseline's trials propose for a pipeline.
//!
//! It reads the trials' evidence; the proposal is `proof::calibration`'s.
//!
//! Read [`CalibrationReport`] first, then [`calibration`].

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::account::percent;
use super::proof::load;
use super::{Report, TrialReport, load_trial};
use crate::evidence::Evidence;
use crate::oracle::{Observation, progress};
use crate::proof::calibration::{Calibration, SHARE, STALL_FACTOR, Seen};
use crate::proof::{Design, LEAST_HANGS};

/// What a baseline's trials propose for a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalibrationReport {
    /// What a proof is to show.
    pub design: Design,
    /// What the trials saw.
    pub seen: Seen,
    /// What follows; none when the baseline hung too seldom.
    pub proposal: Option<Calibration>,
}

/// What follows from a run's trials, read from its folder: from those that calibrate a proof, or from all if there are none of that kind.
///
/// # Errors
/// When a trial's evidence can't be read.
pub fn calibration(run: &Path, report: &Report, design: Design) -> io::Result<CalibrationReport> {
    let all = || report.kernels.iter().flat_map(|kernel| &kernel.results).filter(|result| !result.repeated);
    let marked = all().any(|result| result.calibrates);
    let results = all().filter(|result| result.calibrates == marked);
    let trials: Vec<_> = results.map(|result| Ok((result, load_trial(run, &result.trial)?))).collect::<io::Result<_>>()?;
    Ok(CalibrationReport::of(design, trials))
}

impl CalibrationReport {
    /// What follows from the trials, each with its evidence.
    #[must_use]
    pub fn of<'a>(design: Design, trials: impl IntoIterator<Item = (&'a TrialReport, Evidence)>) -> Self {
        let (mut seen, mut overheads, mut certainties) = (Seen::default(), Vec::new(), Vec::new());
        for (result, evidence) in trials {
            let load = load(&evidence, &result.observation);
            match &result.observation {
                Observation::Hang(hang) => {
                    let certainty = hang.at.since(hang.last_progress).as_secs_f64();
                    seen.hangs.push(load);
                    seen.recovered.push(progress(&evidence, hang.last_progress).standstill.as_secs_f64());
                    certainties.push(certainty);
                    overheads.push((result.seconds - load - certainty).max(0.0));
                }
                Observation::Pass(pass) => {
                    seen.passes.push(load);
                    seen.recovered.push(pass.standstill.as_secs_f64());
                    overheads.push((result.seconds - load).max(0.0));
                }
                Observation::Crash { .. } | Observation::BootFailure { .. } | Observation::Invalid { .. } => {}
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        (seen.overhead, seen.certainty) = (mean(&overheads), mean(&certainties));
        Self { design, proposal: Calibration::of(&seen, &design), seen }
    }

    /// The proposal for a terminal.
    #[must_use]
    pub fn board(&self, report: &Report) -> String {
        let Seen { hangs, passes, .. } = &self.seen;
        let counted = format!("{} hangs, {} passes", hangs.len(), passes.len());
        let Some(found) = &self.proposal else {
            return format!(
                "{counted}: at least {LEAST_HANGS} hangs are needed to propose anything; press harder, or let the trials last longer\n"
            );
        };
        let per_cent = percent(self.design.confidence);
        let scale = report.host.accelerator.scale();
        let limits = &report.limits;
        let mut text = format!("{counted}, rate {:.3} to {:.3} ({per_cent} %)\n", found.rate.low, found.rate.high);
        text.push_str(&format!(
            "time to hang: {:.0} % hang sooner or later, Weibull shape {:.2}, scale {:.1} s\n",
            100.0 * found.fit.eventual,
            found.fit.shape,
            found.fit.scale
        ));
        text.push_str(&format!(
            "duration: {} s ({:.0} % of the hangs at {per_cent} % confidence; the pipeline's is {} s)\n",
            found.duration,
            100.0 * SHARE,
            limits.duration.as_secs_f64()
        ));
        text.push_str(&match found.stall {
            // The pipeline's limits are multiplied by the accelerator's factor again.
            Some(stall) => format!(
                "stall: {:.0} s ({STALL_FACTOR} times the longest standstill that ended, by this accelerator's factor of {scale}; the pipeline's is {} s)\n",
                (stall / scale).ceil(),
                limits.stall.as_secs_f64()
            ),
            None => "stall: no trial stood still and went on\n".to_owned(),
        });
        text.push_str(&format!(
            "repeats: {} of the baseline and {} of a candidate in a design of fixed size (power {} for a baseline that hangs in {} of the trials)\n",
            found.fixed_size.baseline, found.fixed_size.candidate, self.design.power, self.design.least_rate
        ));
        let minutes = |seconds: f64| seconds / 60.0;
        text.push_str(&format!(
            "prove: about {:.0} trials, {:.0} min for a candidate that is fixed; {:.0} trials, {:.0} min for one that isn't\n",
            found.fixed.trials,
            minutes(found.fixed.seconds),
            found.not_fixed.trials,
            minutes(found.not_fixed.seconds)
        ));
        text
    }
}
