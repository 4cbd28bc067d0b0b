//! A search that somebody sets up, and one that plays itself to its end.

use hangproof::bisect::Frame;
use hangproof::evidence::At;
use hangproof::oracle::hang::Signature;
use hangproof::oracle::{Hang, Observation, Pass, Witness};
use hangproof::plan::TrialId;
use hangproof::report::{Course, SearchSetup};
use hangproof::search::{Design, Place};

/// What is searched for, with 95 per cent.
pub fn frame(find_fix: bool) -> Frame {
    Frame { design: Design { confidence: 0.95, max_trials: 500 }, find_fix, duration: 10.0 }
}

/// One that passes.
pub fn pass() -> Observation {
    Observation::Pass(Pass { operations: None, oom_kills: 20, commits: None, standstill: std::time::Duration::ZERO, said: Vec::new() })
}

/// The hang that is looked for.
pub fn hang() -> Observation {
    Observation::Hang(Hang {
        last_progress: At(9000),
        at: At(20_000),
        witness: Witness::Silence { reported: 0, title: None },
        oom_kills: 12,
        operations: None,
        signature: Signature::of([], "ring"),
        likeness: None,
    })
}

/// Lets a search run to its end: the points from `first_bad` on hang each time.
pub fn searched(setup: SearchSetup, first_bad: usize, untestable: &[usize]) -> Course {
    let mut course = Course::new(setup);
    for repeat in 1..500 {
        let posterior = course.hunt().search().posterior();
        if course.hunt().answer(&posterior).is_some() {
            return course;
        }
        let place = course.hunt().next(&posterior, |_| 1.0);
        let kernel = course.point(place).kernel.clone();
        match place {
            Place::At(position) if untestable.contains(&position) => course.unbuildable(&kernel, "it doesn't compile"),
            Place::At(_) | Place::GoodEnd => {
                let observation = if matches!(place, Place::At(position) if position >= first_bad) { hang() } else { pass() };
                course.take(&TrialId { kernel, mitigation: None, repeat, attempt: 1 }, &observation);
            }
        }
    }
    panic!("no answer after 500 trials");
}
