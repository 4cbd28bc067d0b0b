//! A search that goes on: which kernel is built next, which trial is made, and what the ended ones mean. `run` builds and runs them.
//!
//! Trials are recorded in the order of their starts (`starts`), as in a proof. It decides nothing by itself: that is `search`'s, through
//! [`crate::report::Course`].
//!
//! Read [`Searching`] first, then [`Axis`], which knows how a point's kernel is made.

mod axis;
mod commits;
mod patches;
mod recipe;
mod stepping;
mod symbols;

use std::collections::BTreeSet;
use std::time::Instant;

pub use axis::{Axis, Frame, over_kernels};
pub use commits::{Commits, over_commits};
pub use patches::over_patches;
pub use recipe::recipe;
pub use stepping::Stepping;
pub use symbols::{Symbols, over_config};

use crate::event::Event;
use crate::oracle::{Fault, Observation};
use crate::plan::TrialId;
use crate::report::{Course, KernelReport, Report, SearchReport, SearchSetup};
use crate::spec::Name;
use crate::starts::Starts;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Build this kernel; say how it went by [`Searching::built`] or [`Searching::unbuildable`].
    Build(Name),
    /// Run this trial.
    Trial(TrialId),
}

/// A search that goes on.
#[derive(Debug)]
pub struct Searching {
    course: Course,
    starts: Starts,
    built: BTreeSet<Name>,
    running: BTreeSet<TrialId>,
    clock: Clock,
}

/// What builds and trials took, for choosing and for the time that is left.
#[derive(Debug)]
struct Clock {
    builds: Mean,
    trials: Mean,
    since: Instant,
    jobs: usize,
}

/// A name for a line with others: the end of a long one, which tells patches of a folder apart.
fn short(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME { name.to_owned() } else { format!("…{}", name.chars().skip(length + 1 - NAME).collect::<String>()) }
}

/// Characters of a name on such a line: three of them and what else it says fit on 160.
const NAME: usize = 30;

#[derive(Debug, Default)]
struct Mean {
    seconds: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.count += 1;
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.seconds / f64::from(self.count))
    }
}

/// What a build costs, in boots, until the first one was measured: an incremental one of a small change takes about as long as a boot with its load.
const BUILD_GUESS: f64 = 1.0;

impl Searching {
    /// A search; if it goes on where it was, with what the report holds. Whether a kernel is still in the store is seen when it is wanted again.
    #[must_use]
    pub fn new(setup: SearchSetup, before: Option<&Report>, jobs: usize) -> Self {
        let clock = Clock { builds: Mean::default(), trials: Mean::default(), since: Instant::now(), jobs };
        let kernels = before.map_or(&[][..], |before| &before.kernels);
        let recorded = before.and_then(|before| before.search.as_ref()).map_or(&[][..], |search| &search.trials);
        // Trials that had ended, behind one that was still running when the program was killed.
        let waiting = kernels.iter().flat_map(|kernel| &kernel.results).filter(|result| {
            let counts = !result.repeated && !matches!(result.observation, Observation::Invalid { fault: Fault::User, .. });
            counts && recorded.iter().all(|trial| trial.trial != result.trial)
        });
        let order: Vec<TrialId> = recorded.iter().map(|trial| &trial.trial).chain(waiting.map(|result| &result.trial)).cloned().collect();
        let went_on = before.and_then(|before| before.search.as_ref()).map_or(&[][..], |search| &search.went_on);
        let mut course = Course::of(setup, kernels, &order, went_on);
        if before.is_some() {
            course.go_on();
        }
        // Trials that were repeated or cut short have numbers too.
        let last = |kernel: &KernelReport| Some((kernel.name.clone(), kernel.results.iter().map(|result| result.trial.repeat).max()?));
        let starts = Starts::after(kernels.iter().filter_map(last).collect());
        Self { course, starts, built: BTreeSet::new(), running: BTreeSet::new(), clock }
    }

    /// What to do next; nothing if there is an answer, or nothing to do before a trial ends.
    #[expect(clippy::should_implement_trait, reason = "what is next depends on what ended in between")]
    pub fn next(&mut self) -> Option<Next> {
        let hunt = self.course.hunt();
        let posterior = hunt.search().posterior();
        if hunt.answer(&posterior).is_some() {
            return None;
        }
        if let Some(trial) = self.starts.retry() {
            self.running.insert(trial.clone());
            return Some(Next::Trial(trial));
        }
        let build = match (self.clock.builds.mean(), self.clock.trials.mean()) {
            (Some(build), Some(trial)) if trial > 0.0 => build / trial * self.clock.jobs as f64,
            (_, _) => BUILD_GUESS,
        };
        let setup = self.course.setup();
        let is_built = |position: usize| setup.points.get(position).is_some_and(|point| self.built.contains(&point.kernel));
        // Those that go on will tell something too.
        let mut expected = hunt.clone();
        self.running.iter().filter_map(|trial| self.course.place(&trial.kernel)).for_each(|place| expected.expect(place));
        let place = expected.next(&expected.search().posterior(), |position| if is_built(position) { 1.0 } else { 1.0 + build });
        let kernel = self.course.point(place).kernel.clone();
        if !self.built.contains(&kernel) {
            return Some(Next::Build(kernel));
        }
        let trial = self.starts.another(&kernel);
        self.running.insert(trial.clone());
        Some(Next::Trial(trial))
    }

    /// A kernel was built; the signature is that of what runs. `seconds` is what that took, if the next one's build will be like it: not a whole one's.
    pub fn built(&mut self, kernel: &Name, signature: Option<&str>, seconds: Option<f64>) {
        self.built.insert(kernel.clone());
        if let Some(seconds) = seconds {
            self.clock.builds.add(seconds);
        }
        self.course.built(kernel, signature);
    }

    /// A kernel can't be built.
    pub fn unbuildable(&mut self, kernel: &Name, why: &str) {
        self.course.unbuildable(kernel, why);
    }

    /// Takes in the end of a trial; `again` says that it is to be tried once more instead.
    pub fn ended(&mut self, trial: &TrialId, observation: &Observation, seconds: f64, again: bool) {
        self.clock.trials.add(seconds);
        self.running.remove(trial);
        // A search counts trials, whatever their load.
        for (trial, observation, _) in self.starts.ended(trial, observation, 0.0, again) {
            self.course.take(trial, observation);
        }
    }

    /// The search so far.
    #[must_use]
    pub fn report(&self) -> SearchReport {
        self.course.report()
    }

    /// How far it is, by its report.
    #[must_use]
    pub fn progress(&self, report: &SearchReport) -> Event {
        let likeliest = report.likeliest.iter().take(3).map(|point| (short(point.name()), point.probability)).collect();
        let hunt = self.course.hunt();
        let missing = hunt.passes_missing(&hunt.search().posterior());
        let phase = match missing {
            _ if !hunt.bad_end_hung() => "the bad end",
            _ if !hunt.good_end_passed() => "the good end",
            Some(_) => "the good end's proof",
            None => "between",
        };
        Event::SearchProgress {
            phase: phase.to_owned(),
            trials: report.trials.len() as u64,
            positions: report.setup.points.len() as u64,
            // Rounded sums may be a hair below nothing.
            bits: report.entropy.max(0.0),
            likeliest,
            left: self.left(report.entropy, report.trials.len(), missing),
        }
    }

    /// Seconds that are left, by what a trial told and took so far: a rough word. None before there is something to go by.
    fn left(&self, bits: f64, trials: usize, missing: Option<u64>) -> Option<f64> {
        let all = (self.course.setup().points.len() as f64).log2();
        let hunt = self.course.hunt();
        if trials == 0 || self.clock.trials.count == 0 || !hunt.good_end_passed() {
            return None;
        }
        // As if two trials before the first one had told a bit: that much is usual, and the ends' trials tell none.
        let told_each = (((all - bits) + 1.0) / (trials + 2) as f64).max(0.05);
        let each = self.clock.since.elapsed().as_secs_f64() / f64::from(self.clock.trials.count);
        let passes = || hunt.passes_expected(&hunt.search().posterior()) as f64;
        Some(missing.map_or_else(|| bits / told_each + passes(), |passes| passes as f64) * each)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::evidence::At;
    use crate::oracle::hang::Signature;
    use crate::oracle::{Hang, Pass, Witness};
    use crate::report::{Over, Point, SearchAnswer};
    use crate::search::Design;
    use crate::stats::Random;

    fn setup(points: usize) -> SearchSetup {
        let point = |number: usize| Point {
            kernel: Name::new(&format!("k{number}")).unwrap(),
            what: format!("k{number}"),
            title: String::new(),
            merge: false,
            boot_arguments: Vec::new(),
        };
        SearchSetup {
            design: Design { confidence: 0.95, max_trials: 500 },
            duration: 10.0,
            over: Over::Kernels,
            find_fix: false,
            good_end: point(0),
            points: (1..=points).map(point).collect(),
            skip: Vec::new(),
            recipe: String::new(),
        }
    }

    fn pass() -> Observation {
        Observation::Pass(Pass { operations: None, oom_kills: 20, commits: None, standstill: std::time::Duration::ZERO, said: Vec::new() })
    }

    fn hang(title: &str) -> Observation {
        Observation::Hang(Hang {
            last_progress: At(9000),
            at: At(20_000),
            witness: Witness::Silence { reported: 0, title: None },
            oom_kills: 12,
            operations: None,
            signature: Signature::of([], title),
            likeness: None,
        })
    }

    /// Plays a search, `jobs` trials at once that end in an order of chance. Returns it with the kernels in the order in which they were built.
    fn played(points: usize, jobs: usize, mut show: impl FnMut(usize, &mut Random) -> Observation) -> (SearchReport, Vec<Name>) {
        let (mut searching, mut chance) = (Searching::new(setup(points), None, jobs), Random::new(5));
        let (mut running, mut built) = (Vec::new(), Vec::new());
        loop {
            while running.len() < jobs {
                match searching.next() {
                    Some(Next::Build(kernel)) => {
                        assert!(!built.contains(&kernel), "{kernel} is built once");
                        if kernel.as_str() == "k5" {
                            searching.unbuildable(&kernel, "it doesn't compile");
                        } else {
                            searching.built(&kernel, Some(kernel.as_str()), Some(20.0));
                        }
                        built.push(kernel);
                    }
                    Some(Next::Trial(trial)) => running.push(trial),
                    None => break,
                }
            }
            if running.is_empty() {
                return (searching.report(), built);
            }
            let trial = running.swap_remove(chance.below(running.len()));
            let number: usize = trial.kernel.as_str()[1..].parse().unwrap();
            let observation = show(number, &mut chance);
            let again = matches!(&observation, Observation::Invalid { fault, .. } if fault.worth_a_retry()) && trial.attempt < 2;
            searching.ended(&trial, &observation, 30.0, again);
        }
    }

    #[test]
    fn the_first_bad_one_is_found_by_any_number_of_vms() {
        for jobs in [1, 2, 5] {
            // Half of the trials of a bad one hang, one in ten is invalid, and the last good one crashes or hangs otherwise.
            let (report, built) = played(40, jobs, |number, chance| match number {
                _ if chance.unit() < 0.1 => Observation::Invalid { fault: Fault::Host, reason: "a test's".to_owned() },
                22 => hang("another"),
                23.. if chance.unit() < 0.5 => hang("ring"),
                _ => pass(),
            });
            let Some(SearchAnswer::Found { culprits, probability }) = &report.answer else { panic!("{report:?}") };
            let found: Vec<_> = culprits.iter().map(|point| point.what.as_str()).collect();
            // k22 can't be told from k23 if it never showed anything.
            assert!((found == ["k23"] || found == ["k22", "k23"]) && *probability > 0.95, "{found:?}");
            assert!(built.len() < 20, "{built:?}");
            assert_eq!((built[0].as_str(), built[1].as_str()), ("k40", "k0"));
        }
    }
}
