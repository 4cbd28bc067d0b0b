//! Which arm is next: random blocks from a recorded seed.
//!
//! Blocks keep the arms balanced wherever the proof stops; chance within a block keeps the host's rhythms from favouring an arm. What a block holds
//! depends only on trials that were recorded before, which is what the tests in `proof` ask for. It looks at no clock and takes no chance but the
//! seed's.
//!
//! Read [`Order`] first.

use super::{Arm, Proof};
use crate::stats::Random;

/// Candidate trials in a block once the baseline hung credibly. Then the block's one baseline trial is a positive control: does the hang still come on
/// this host? One in 21 costs a proof 3 short trials. When the candidates have their passes and it hung too long ago, it is alone in its block.
const CANDIDATES_PER_CONTROL: usize = 20;

/// The order of a proof's trials.
#[derive(Debug, Clone)]
pub struct Order {
    random: Random,
    block: Vec<Arm>,
}

impl Order {
    /// The order that this seed makes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), block: Vec::new() }
    }

    /// The next trial to start, given the trials recorded so far; none when the proof is done. With several trials at once it may name more than the
    /// proof turns out to need.
    pub fn next(&mut self, proof: &Proof) -> Option<Arm> {
        if proof.is_done() {
            return None;
        }
        loop {
            let Some(arm) = self.block.pop() else {
                self.block = block(proof);
                self.random.shuffle(&mut self.block);
                continue;
            };
            match arm {
                Arm::Baseline => return Some(arm),
                // Settled since the block was made.
                Arm::Candidate(number) if proof.settled(number) => {}
                Arm::Candidate(_) => return Some(arm),
            }
        }
    }
}

/// What the next block holds: the baseline alone until it hung for the first time, so that one that doesn't reproduce costs no candidate's trials; then one
/// trial of each arm; and once it hangs credibly, one of the baseline for many of the candidates.
fn block(proof: &Proof) -> Vec<Arm> {
    let mut block = vec![Arm::Baseline];
    if proof.tally(Arm::Baseline).same_hang > 0 {
        let open: Vec<_> = (0..proof.candidates()).filter(|&number| !proof.settled(number)).map(Arm::Candidate).collect();
        let times = if proof.baseline_hangs() && !open.is_empty() { CANDIDATES_PER_CONTROL.div_ceil(open.len()) } else { 1 };
        (0..times).for_each(|_| block.extend(&open));
    }
    block
}
