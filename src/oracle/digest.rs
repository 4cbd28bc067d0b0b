//! What judgement needs of the bulky evidence, kept up to date line by line.
//!
//! A console has thousands of lines and a look hundreds of stacks; a trial judges several times a second. So each is read once, when it comes. A
//! digest holds nothing that [`Digest::of`] can't make again from the saved evidence.
//!
//! Read [`Digest`] first.

use std::time::Duration;

use hangproof_wire::Look;

use super::hang::Stuck;
use super::signature::{Kind, classify, without_prefix};
use super::tasks;
use super::wait::{Charges, ClosedWait, Ring};
use crate::evidence::{At, ConsoleLine, Evidence};

/// Facts read from console lines and looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Digest {
    /// First line after which the kernel can't be trusted.
    pub fatal: Option<Fatal>,
    /// First report of a stuck CPU.
    pub first_lockup: Option<String>,
    /// Reports of blocked tasks.
    pub blocked: u64,
    /// First of them.
    pub first_blocked: Option<String>,
    /// First line that tells of damage that the kernel goes on with: an error of the filesystem that isn't one of memory, or memory that isn't what it should be.
    pub first_damage: Option<(At, String)>,
    /// First warning.
    pub first_warning: Option<String>,
    /// Memory-cgroup OOM kills that the console shows.
    pub oom_kills: u64,
    /// Last line that isn't empty.
    pub last_line: Option<String>,
    /// For each look, the ring in it.
    pub waits: Vec<(At, Option<Ring>)>,
    /// For each look, what it says of the charges that a commit waits for.
    pub charges: Vec<(At, Option<Charges>)>,
    /// For each look, the stuck tasks in it.
    pub stuck: Vec<(At, Stuck)>,
    banners: u32,
}

/// A line after which the kernel can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fatal {
    /// When.
    pub at: At,
    /// [`Kind::Crash`] or [`Kind::HangPanic`], or [`Kind::Banner`] for a reboot.
    pub kind: Kind,
    /// The line.
    pub title: String,
}

impl Digest {
    /// The digest of saved evidence.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut digest = Self::default();
        evidence.console.iter().for_each(|line| digest.line(line));
        evidence.looks.iter().for_each(|(at, look)| digest.look(*at, look));
        digest
    }

    /// Takes a console line.
    pub fn line(&mut self, line: &ConsoleLine) {
        let text = without_prefix(&line.text);
        if !text.trim().is_empty() {
            self.last_line = Some(text.trim().to_owned());
        }
        let Some(found) = classify(&line.text) else { return };
        let mut fatal = |kind, title: &str| {
            self.fatal.get_or_insert_with(|| Fatal { at: line.at, kind, title: title.to_owned() });
        };
        match found.kind {
            Kind::Crash | Kind::HangPanic => fatal(found.kind, found.title),
            Kind::Banner => {
                self.banners += 1;
                if self.banners > 1 {
                    fatal(Kind::Banner, "the kernel started a second time");
                }
            }
            Kind::Lockup => {
                self.first_lockup.get_or_insert_with(|| found.title.to_owned());
            }
            Kind::Blocked => {
                self.blocked += 1;
                self.first_blocked.get_or_insert_with(|| found.title.to_owned());
            }
            Kind::OomKill => self.oom_kills += 1,
            Kind::Memory => {}
            Kind::Filesystem | Kind::Damage => {
                self.first_damage.get_or_insert_with(|| (line.at, found.title.to_owned()));
            }
            Kind::Warning => {
                self.first_warning.get_or_insert_with(|| found.title.to_owned());
            }
        }
    }

    /// Takes a look.
    pub fn look(&mut self, at: At, look: &Look) {
        let tasks = tasks::parse(&look.log);
        self.waits.push((at, Ring::find_in(look, &tasks)));
        self.charges.push((at, Charges::of(look, &tasks)));
        self.stuck.push((at, Stuck::of(look, &tasks)));
    }

    /// Whether a commit waits for charges that are all forced in the end, by the last look after `progress` that tells. It may be that before the last, or the one
    /// before that: between two of its tries a charge says nothing of itself.
    #[must_use]
    pub fn waits_for_forced(&self, progress: At) -> bool {
        const TELLS: usize = 3;
        let mut lately = self.charges.iter().rev().take_while(|(at, _)| *at > progress).take(TELLS);
        lately.find_map(|(_, charges)| *charges) == Some(Charges::Forced)
    }

    /// The closed wait that stands in two looks, both after `progress` and at least `interval` apart, and in all between them; and the later look's time.
    #[must_use]
    pub fn lasting_wait(&self, progress: At, interval: Duration) -> Option<(At, ClosedWait)> {
        // A look is answered a little sooner or later than its neighbour: the interval between answers may be shorter than between requests.
        let enough = interval.mul_f64(0.8);
        let waits: Vec<_> = self.waits.iter().filter(|(at, _)| *at > progress).collect();
        waits.iter().enumerate().find_map(|(number, (second, after))| {
            let after = after.as_ref()?;
            let earlier = waits[..number].iter().rev();
            let mut joint = None;
            let mut standing = earlier.map_while(|(first, before)| {
                let wait = before.as_ref()?.lasts(after)?;
                let wait = joint.as_ref().map_or_else(|| Some(wait.clone()), |joint: &ClosedWait| joint.and(&wait))?;
                joint = Some(wait.clone());
                Some((*first, wait))
            });
            standing.find(|(first, _)| second.since(*first) >= enough).map(|(_, wait)| (*second, wait))
        })
    }
}
