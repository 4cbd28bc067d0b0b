//! Which arm is next: random blocks from a recorded seed.
//!
//! Blocks keep the arms balanced wherever the proof stops; chance within a block keeps the host's rhythms from favouring an arm. What a block holds
//! depends only on trials that were recorded before, which is what the tests in `proof` ask for. It looks at no clock and takes no chance but the
//! seed's.
//!
//! Read [`Order`] first.

use super::{Arm, Proof};

/// Candidate trials in a block once the baseline hung credibly. Then the block's one baseline trial is a positive control: does the hang still come on
/// this host? One in 21 costs a proof 3 short trials.
const CANDIDATES_PER_CONTROL: usize = 20;

/// A small generator of numbers that look random: `SplitMix64` (G. L. Steele, D. Lea and C. H. Flood, OOPSLA 2014), in full below, so that an order can be
/// repeated from its seed by anyone, in any version of this program.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1, with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `end`, which isn't 0. The bias is below 2^-53.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end - 1)
    }

    /// Shuffles (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

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
