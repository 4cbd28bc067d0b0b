//! Trials in the order of their starts, which is the order in which they count.
//!
//! Hangs end sooner than passes: recorded as they end, they would be counted too early. So a trial that ended waits for those that were started before it.
//! Which kernel is next, and what a trial means, is for `prove` and `bisect`. It starts nothing and writes nothing.
//!
//! Read [`Starts`].

use std::collections::{BTreeMap, VecDeque};

use crate::oracle::{Fault, Observation};
use crate::plan::TrialId;
use crate::spec::Name;

/// The trials that were started.
#[derive(Debug, Default)]
pub struct Starts {
    /// In their order; the first `recorded` are recorded.
    started: Vec<(TrialId, End)>,
    recorded: usize,
    again: VecDeque<TrialId>,
    repeats: BTreeMap<Name, u32>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are as many as trials, and a box would be every reader's trouble")]
enum End {
    /// It still runs.
    Open,
    /// It showed this, after so many seconds of load.
    Showed(Observation, f64),
    /// It says nothing: it was tried again, interrupted, or its evidence is lost.
    Withdrawn,
}

impl Starts {
    /// None yet; the trials of these kernels are numbered on from here.
    #[must_use]
    pub fn after(repeats: BTreeMap<Name, u32>) -> Self {
        Self { repeats, ..Self::default() }
    }

    /// Starts a trial that is to be tried again, if there is one.
    pub fn retry(&mut self) -> Option<TrialId> {
        self.again.pop_front().map(|trial| self.start(trial))
    }

    /// Starts another trial of a kernel.
    pub fn another(&mut self, kernel: &Name) -> TrialId {
        let repeat = self.repeats.entry(kernel.clone()).or_default();
        *repeat += 1;
        let trial = TrialId { kernel: kernel.clone(), mitigation: None, repeat: *repeat, attempt: 1 };
        self.start(trial)
    }

    fn start(&mut self, trial: TrialId) -> TrialId {
        self.started.push((trial.clone(), End::Open));
        trial
    }

    /// Takes in the end of a trial; `again` says that it is to be tried once more instead. Returns what can be recorded now, in order.
    pub fn ended(&mut self, trial: &TrialId, observation: &Observation, load: f64, again: bool) -> impl Iterator<Item = Recorded<'_>> {
        let interrupted = matches!(observation, Observation::Invalid { fault: Fault::User, .. });
        if again {
            self.again.push_back(trial.retried());
        }
        if let Some((_, end)) = self.started.iter_mut().find(|(started, _)| started == trial) {
            *end = if again || interrupted { End::Withdrawn } else { End::Showed(observation.clone(), load) };
        }
        let before = self.recorded;
        self.recorded += self.started[before..].iter().take_while(|(_, end)| !matches!(end, End::Open)).count();
        showed(&self.started[before..self.recorded])
    }

    /// All that is recorded, in order.
    pub fn recorded(&self) -> impl Iterator<Item = Recorded<'_>> {
        showed(&self.started[..self.recorded])
    }
}

/// A trial, what it showed, and its seconds of load.
pub type Recorded<'a> = (&'a TrialId, &'a Observation, f64);

fn showed(started: &[(TrialId, End)]) -> impl Iterator<Item = Recorded<'_>> {
    started.iter().filter_map(|(trial, end)| match end {
        End::Showed(observation, load) => Some((trial, observation, *load)),
        End::Open | End::Withdrawn => None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn kernel() -> Name {
        Name::new("lost").unwrap()
    }

    fn invalid(fault: Fault) -> Observation {
        Observation::Invalid { fault, reason: "a test's".to_owned() }
    }

    /// Ends a trial, and says which ones are recorded by that.
    fn ended(starts: &mut Starts, trial: &TrialId, fault: Fault, again: bool) -> Vec<TrialId> {
        starts.ended(trial, &invalid(fault), 4.0, again).map(|(trial, ..)| trial.clone()).collect()
    }

    #[test]
    fn a_trial_waits_for_those_that_were_started_before_it() {
        let mut starts = Starts::default();
        let [first, second, third] = [(); 3].map(|()| starts.another(&kernel()));
        assert_eq!(ended(&mut starts, &second, Fault::Guest, false), []);
        assert_eq!(ended(&mut starts, &first, Fault::Guest, false), [first.clone(), second.clone()]);
        assert_eq!(ended(&mut starts, &third, Fault::Guest, false), std::slice::from_ref(&third));
        assert!(starts.recorded().map(|(trial, ..)| trial).eq([&first, &second, &third]));
    }

    #[test]
    fn what_is_tried_again_counts_where_it_was_started_again() {
        let mut starts = Starts::default();
        let [first, second] = [(); 2].map(|()| starts.another(&kernel()));
        assert_eq!(starts.retry(), None);
        assert_eq!(ended(&mut starts, &first, Fault::Host, true), []);
        let retry = starts.retry().unwrap();
        assert_eq!((retry.repeat, retry.attempt), (first.repeat, 2));
        assert_eq!(ended(&mut starts, &retry, Fault::Guest, false), []);
        assert_eq!(ended(&mut starts, &second, Fault::Guest, false), [second, retry]);
    }

    #[test]
    fn an_interrupted_trial_is_passed_over_and_an_unknown_one_changes_nothing() {
        let mut starts = Starts::default();
        let [stopped, last] = [(); 2].map(|()| starts.another(&kernel()));
        assert_eq!(ended(&mut starts, &stopped.retried(), Fault::Guest, false), []);
        assert_eq!(ended(&mut starts, &stopped, Fault::User, false), []);
        assert_eq!(ended(&mut starts, &last, Fault::Guest, false), [last]);
    }

    #[test]
    fn numbers_go_on() {
        let mut starts = Starts::after([(kernel(), 7)].into());
        assert_eq!([kernel(), kernel(), Name::new("fix").unwrap()].map(|kernel| starts.another(&kernel).repeat), [8, 9, 1]);
    }
}
