//! A search in `report.json`: its line of kernels, its trials in the order in which they were started, and what follows from them.
//!
//! All numbers and answers are `search`'s, computed from the trials and builds in this record, so that they can be computed again: a search that was cut
//! short goes on from its report. Which hang is the one that is looked for is decided by the oracle's signatures, as in a proof.
//!
//! Read [`SearchReport`] first, then [`Course`], which makes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use comfy_table::{ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use super::proof::Reading;
use super::{KernelReport, counted, observed};
use crate::build::THE_SAME;
use crate::exit::Exit;
use crate::oracle::Observation;
use crate::oracle::hang::Signature;
use crate::plan::TrialId;
use crate::proof;
use crate::search::{Answer, Design, End, Hunt, Outcome, Place, Posterior, Refusal, Tally, Unknown};
use crate::spec::Name;
use crate::text::in_one_line;

/// The method of a search, with its source.
pub const METHOD: &str = "Bayesian search for the first bad one: the hang rates are integrated out, the next trial is where it is expected to leave the \
                          least entropy for its cost (git_bayesect, 2026); no answer before it is as sure that the good end isn't bad itself";

/// How a search was set up, before its first trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SearchSetup {
    /// What was to be shown.
    pub design: Design,
    /// Seconds of load of a trial.
    pub duration: f64,
    /// What the line consists of.
    pub over: Over,
    /// What is looked for is what ended the hang: the line goes back in time.
    pub find_fix: bool,
    /// The end that doesn't hang, which is before the first point.
    pub good_end: Point,
    /// The line, from the good end to the bad end.
    pub points: Vec<Point>,
    /// Points that aren't to be tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<Name>,
    /// Digest of how its kernels are made and its trials are run, as far as nothing else here says it.
    #[serde(default)]
    pub recipe: String,
}

/// What a line consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "over", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Over {
    /// The commits of a repository.
    Commits {
        /// Where it is.
        repository: PathBuf,
        /// The kernel that says how they are built.
        kernel: Name,
    },
    /// Kernels that are defined.
    Kernels,
    /// The patches of a kernel.
    Patches {
        /// The kernel.
        kernel: Name,
    },
    /// The symbols in which two configurations differ.
    Config {
        /// The kernel that is configured.
        kernel: Name,
    },
}

impl Over {
    /// What one of them is called.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Commits { .. } => "commit",
            Self::Kernels => "kernel",
            Self::Patches { .. } => "patch",
            Self::Config { .. } => "symbol",
        }
    }
}

/// One of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Point {
    /// The kernel that is booted for it.
    pub kernel: Name,
    /// What it adds to the one before: the commit, the patch, the symbol.
    pub what: String,
    /// One line about it.
    pub title: String,
    /// A commit with several parents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merge: bool,
    /// What is added to the kernel command line: kernels that are the same but for it aren't the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_arguments: Vec<String>,
}

/// A trial of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SearchTrial {
    /// The trial.
    pub trial: TrialId,
    /// What it means.
    pub outcome: Outcome,
}

/// What is known of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PointReport {
    /// The point.
    #[serde(flatten)]
    pub point: Point,
    /// Its hangs and passes.
    pub seen: Tally,
    /// The probability that it's the one.
    pub probability: f64,
}

/// A search's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum SearchAnswer {
    /// It is one of these; more than one where what lies between can't be tested.
    Found {
        /// The points.
        culprits: Vec<Point>,
        /// The probability of that.
        probability: f64,
    },
    /// There is no answer.
    Refused {
        /// Why.
        why: Refusal,
    },
}

/// A search and what it found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SearchReport {
    /// How it was set up.
    pub setup: SearchSetup,
    /// The hang that is looked for: the first of the bad end's that counts.
    pub hang: Option<Signature>,
    /// The trials that count, in the order in which they were started.
    pub trials: Vec<SearchTrial>,
    /// After how many of these trials it went on, having been cut short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub went_on: Vec<usize>,
    /// Hangs and passes of the good end.
    pub good_end: Tally,
    /// The likeliest ones, the likeliest first: what is found, and the runners-up.
    pub likeliest: Vec<PointReport>,
    /// What can't be tested, and why.
    pub left_out: BTreeMap<Name, String>,
    /// Probability that the good end is bad itself, and only never hung so far.
    #[serde(default)]
    pub good_end_doubt: f64,
    /// Bits that are missing to certainty.
    pub entropy: f64,
    /// The same kernels are on both sides of each place where the hang can have come: something was taken back in between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_back: bool,
    /// The end.
    pub answer: Option<SearchAnswer>,
}

/// How many points a report names.
const LIKELIEST: usize = 6;

/// A search on its way: what was built and what the trials showed.
#[derive(Debug, Clone)]
pub struct Course {
    setup: SearchSetup,
    places: HashMap<Name, Place>,
    hunt: Hunt,
    reading: Reading,
    trials: Vec<SearchTrial>,
    went_on: Vec<usize>,
    // Of what runs: where it runs, in the order in which that was found out.
    signatures: HashMap<String, Vec<Name>>,
    left_out: BTreeMap<Name, String>,
    // Those of them that were for what their trials showed.
    untestable: BTreeSet<Name>,
    // What the last trial of each that showed nothing said.
    unclear: BTreeMap<Name, String>,
}

impl Course {
    /// A search without trials.
    #[must_use]
    pub fn new(setup: SearchSetup) -> Self {
        let points = setup.points.iter().enumerate().map(|(position, point)| (point.kernel.clone(), Place::At(position)));
        let places = points.chain([(setup.good_end.kernel.clone(), Place::GoodEnd)]).collect();
        let hunt = Hunt::new(setup.points.len(), setup.design);
        let (trials, signatures, left_out, unclear) = (Vec::new(), HashMap::new(), BTreeMap::new(), BTreeMap::new());
        let skip = setup.skip.clone();
        let reading = Reading::default();
        let (went_on, untestable) = (Vec::new(), BTreeSet::new());
        let mut course = Self { setup, places, hunt, reading, trials, went_on, signatures, left_out, untestable, unclear };
        skip.iter().for_each(|kernel| course.leave_out(kernel, "skipped, as --skip says".to_owned()));
        course
    }

    /// A search with what was built and seen, the trials in the order in which they were started; it went on after so many of them.
    #[must_use]
    pub fn of(setup: SearchSetup, kernels: &[KernelReport], order: &[TrialId], went_on: &[usize]) -> Self {
        let mut course = Self::new(setup);
        for kernel in kernels {
            match &kernel.build {
                Some(manifest) => course.built(&kernel.name, manifest.elf_signature.as_deref()),
                None => course.unbuildable(&kernel.name, kernel.build_error.as_deref().unwrap_or_default()),
            }
        }
        let observed = observed(kernels);
        for (number, trial) in order.iter().enumerate() {
            if went_on.contains(&number) {
                course.go_on();
            }
            if let Some(observation) = observed.get(trial) {
                course.take(trial, observation);
            }
        }
        if went_on.contains(&order.len()) {
            course.go_on();
        }
        course
    }

    /// The search goes on after somebody has looked.
    pub fn go_on(&mut self) {
        self.hunt.go_on();
        if self.went_on.last() != Some(&self.trials.len()) {
            self.went_on.push(self.trials.len());
        }
        let (places, hunt) = (&self.places, &self.hunt);
        self.left_out.retain(|kernel, _| places.get(kernel).is_some_and(|place| *place != Place::GoodEnd || hunt.is_left_out(*place)));
    }

    /// The search itself.
    #[must_use]
    pub fn hunt(&self) -> &Hunt {
        &self.hunt
    }

    /// The place of a kernel in the line.
    #[must_use]
    pub fn place(&self, kernel: &Name) -> Option<Place> {
        self.places.get(kernel).copied()
    }

    /// The set-up.
    #[must_use]
    pub fn setup(&self) -> &SearchSetup {
        &self.setup
    }

    /// The point at a place.
    #[must_use]
    pub fn point(&self, place: Place) -> &Point {
        match place {
            Place::GoodEnd => &self.setup.good_end,
            // There are as many positions as points.
            Place::At(position) => self.setup.points.get(position).unwrap_or(&self.setup.good_end),
        }
    }

    /// A kernel was built; the signature is that of what runs. Kernels with the same one count as one.
    pub fn built(&mut self, kernel: &Name, signature: Option<&str>) {
        let (Some(place), Some(signature)) = (self.places.get(kernel).copied(), signature) else { return };
        let whole = format!("{signature} {}", self.point(place).boot_arguments.join(" "));
        let twins = self.signatures.entry(whole).or_default();
        if let Some(known) = twins.first().and_then(|twin| self.places.get(twin)) {
            self.hunt.same(*known, place);
        }
        // A search that goes on builds, or finds, what it knows already.
        if !twins.contains(kernel) {
            twins.push(kernel.clone());
        }
        self.leave_out_twins();
    }

    /// What was left out for what its trials showed, is left out wherever the same kernel runs. What showed something itself, and an end, stays.
    fn leave_out_twins(&mut self) {
        let mut found = Vec::new();
        for twins in self.signatures.values().filter(|twins| twins.len() > 1) {
            let Some((known, why)) = twins.iter().find_map(|kernel| {
                let why = self.unclear.get(kernel).filter(|_| self.untestable.contains(kernel))?;
                Some((kernel, why))
            }) else {
                continue;
            };
            for twin in twins.iter().filter(|twin| !self.left_out.contains_key(*twin)) {
                match self.places.get(twin) {
                    Some(Place::At(position))
                        if position + 1 < self.setup.points.len() && self.hunt.search().seen(*position).trials() == 0 =>
                    {
                        found.push((twin.clone(), format!("the same kernel as {known}: {why}")));
                    }
                    Some(Place::At(_) | Place::GoodEnd) | None => {}
                }
            }
        }
        found.into_iter().for_each(|(kernel, why)| self.leave_out(&kernel, why));
    }

    /// A kernel can't be built.
    pub fn unbuildable(&mut self, kernel: &Name, why: &str) {
        self.leave_out(kernel, format!("not built: {}", in_one_line(why)));
    }

    fn leave_out(&mut self, kernel: &Name, why: String) {
        let Some(place) = self.places.get(kernel).copied() else { return };
        self.left_out.insert(kernel.clone(), why);
        self.hunt.leave_out(place);
    }

    /// Takes in a trial.
    pub fn take(&mut self, trial: &TrialId, observation: &Observation) {
        let Some(place) = self.places.get(&trial.kernel).copied() else { return };
        let bad_end = place == Place::At(self.setup.points.len() - 1);
        let arm = if bad_end { proof::Arm::Baseline } else { proof::Arm::Candidate(0) };
        let outcome = match self.reading.take(arm, observation, 0.0).outcome {
            proof::Outcome::SameHang => Outcome::Hang,
            proof::Outcome::Pass => Outcome::Pass,
            proof::Outcome::OtherHang => Outcome::Unknown(Unknown::OtherHang),
            proof::Outcome::Crash => Outcome::Unknown(Unknown::Crash),
            proof::Outcome::BootFailure => Outcome::Unknown(Unknown::BootFailure),
            proof::Outcome::NotTriggered => Outcome::Unknown(Unknown::NotTriggered),
            proof::Outcome::Unresolved => Outcome::Unknown(Unknown::Standstill),
            proof::Outcome::Invalid => Outcome::Unknown(Unknown::Invalid),
        };
        if let Outcome::Unknown(_) = outcome {
            self.unclear.insert(trial.kernel.clone(), format!("{} ({})", observation.detail(), observation.word()));
        }
        self.hunt.record(place, outcome);
        self.trials.push(SearchTrial { trial: trial.clone(), outcome });
        // A trial of the bad end may tell that another one's were its own doing.
        for (kernel, why) in &self.unclear {
            let is_left_out = self.places.get(kernel).is_some_and(|place| self.hunt.is_left_out(*place));
            if is_left_out && !self.left_out.contains_key(kernel) {
                self.left_out.insert(kernel.clone(), why.clone());
                self.untestable.insert(kernel.clone());
            }
        }
        self.leave_out_twins();
    }

    /// The search so far.
    #[must_use]
    pub fn report(&self) -> SearchReport {
        let search = self.hunt.search();
        let posterior = search.posterior();
        let answer = self.hunt.answer(&posterior).map(|answer| match answer {
            Answer::Found(culprit) => SearchAnswer::Found {
                culprits: culprit
                    .positions
                    .filter(|position| search.is_possible(*position))
                    .map(|position| self.point(self.blamed(position)).clone())
                    .collect(),
                probability: culprit.probability,
            },
            Answer::Refused(why) => SearchAnswer::Refused { why },
        });
        SearchReport {
            hang: self.reading.hang().cloned(),
            trials: self.trials.clone(),
            went_on: self.went_on.clone(),
            good_end: self.hunt.good_end(),
            likeliest: self.likeliest(&posterior),
            left_out: self.left_out.clone(),
            good_end_doubt: posterior.before,
            entropy: posterior.entropy(),
            goes_back: self.hunt.goes_back(),
            answer,
            setup: self.setup.clone(),
        }
    }

    /// What is to blame, or to thank, if this position is the first bad one: going back in time it is the one before.
    fn blamed(&self, position: usize) -> Place {
        match (self.setup.find_fix, position) {
            (false, position) => Place::At(position),
            (true, 0) => Place::GoodEnd,
            (true, position) => Place::At(position - 1),
        }
    }

    fn likeliest(&self, posterior: &Posterior) -> Vec<PointReport> {
        let mut order: Vec<(usize, f64)> = posterior.first_bad.iter().copied().enumerate().collect();
        order.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let report = |(position, probability): (usize, f64)| {
            let place = self.blamed(position);
            let seen = match place {
                Place::GoodEnd => self.hunt.good_end(),
                Place::At(position) => self.hunt.search().seen(position),
            };
            PointReport { point: self.point(place).clone(), seen, probability }
        };
        order.into_iter().take(LIKELIEST).filter(|(_, probability)| *probability > 0.0).map(report).collect()
    }
}

impl SearchReport {
    /// The exit code that it stands for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.answer {
            Some(SearchAnswer::Found { .. }) => Exit::Expected,
            Some(SearchAnswer::Refused { why: Refusal::BadEndPasses | Refusal::GoodEndHangs }) => Exit::Contrary,
            Some(SearchAnswer::Refused { why: Refusal::Trouble }) => Exit::Trouble,
            Some(SearchAnswer::Refused { why: Refusal::Unknown(_) | Refusal::Same | Refusal::Limit }) | None => Exit::Inconclusive,
        }
    }

    /// The search for a terminal.
    #[must_use]
    pub fn board(&self, width: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
        if let Some(width) = width {
            table.set_width(width);
        }
        let what = self.setup.over.word().to_uppercase();
        table.set_header(vec!["PROBABILITY".to_owned(), what, "HANGS".to_owned(), "TITLE".to_owned()]);
        for PointReport { point, seen, probability, .. } in &self.likeliest {
            table.add_row(vec![format!("{probability:.4}"), short(&point.what).to_owned(), hangs_of(*seen), point.title.clone()]);
        }
        let mut text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        text.push_str(&format!("{}\n", self.told()));
        for (kernel, why) in &self.left_out {
            text.push_str(&format!("left out: {kernel}: {why}\n"));
        }
        if self.goes_back {
            let why = "the same kernels are on both sides: a change was taken back and made again in between; the answer is one of the places where it came";
            text.push_str(&format!("note: {why}\n"));
        }
        text.push_str(&format!("{}\n", self.effort()));
        text
    }

    /// What came out, in a sentence.
    #[must_use]
    pub fn told(&self) -> String {
        let (word, first) = (self.setup.over.word(), if self.setup.find_fix { "fix" } else { "first bad" });
        match &self.answer {
            None => "no answer yet: it was cut short".to_owned(),
            Some(SearchAnswer::Found { culprits, probability }) => {
                let mut text = match culprits.as_slice() {
                    [only] => {
                        let role =
                            if self.setup.find_fix { format!("the {word} that repairs it") } else { format!("the first bad {word}") };
                        format!("{role}: {}", self.named(only))
                    }
                    several => {
                        let list: Vec<_> = several.iter().map(|point| format!("\n  {}", self.named(point))).collect();
                        format!("the {first} {word} is one of these, which can't be told apart:{}\n", list.concat())
                    }
                };
                text = format!("{} (probability {probability:.4})", text.trim_end());
                if let [Point { merge: true, what, .. }] = culprits.as_slice() {
                    let (old, new) = if self.setup.find_fix { ("--bad", "--good") } else { ("--good", "--bad") };
                    let ends = format!("{old} \"$(git merge-base {what}^1 {what}^2)\" {new} {what}^2");
                    text.push_str(&format!("\nit is a merge: `hangproof bisect ... {ends}` searches what came in with it"));
                }
                text
            }
            Some(SearchAnswer::Refused { why }) => self.refused(*why),
        }
    }

    /// A point and its title, a commit as git writes it.
    fn named(&self, Point { what, title, .. }: &Point) -> String {
        match self.setup.over {
            _ if title.is_empty() => what.clone(),
            Over::Commits { .. } => format!("{what} {title}"),
            Over::Kernels | Over::Patches { .. } | Over::Config { .. } => format!("{what}: {title}"),
        }
    }

    fn refused(&self, why: Refusal) -> String {
        let [good, bad] = [Some(&self.setup.good_end), self.setup.points.last()].map(|end| end.map_or("?", |end| short(&end.what)));
        match why {
            Refusal::BadEndPasses => format!("{bad} doesn't hang, or hardly ever: name another bad end, or a longer --duration"),
            Refusal::GoodEndHangs => format!("{good} hangs in the same way: name another good end"),
            Refusal::Unknown(end) => {
                let (end, point) = if end == End::Good { (good, Some(&self.setup.good_end)) } else { (bad, self.setup.points.last()) };
                let why = point.and_then(|point| self.left_out.get(&point.kernel)).map_or_else(String::new, |why| format!(" ({why})"));
                let remedy = match self.setup.over {
                    Over::Commits { .. } | Over::Kernels => "mend that, or name another one",
                    Over::Patches { .. } => "mend that: the line goes from no patch to all of them",
                    Over::Config { .. } => "mend that, or name another configuration",
                };
                format!("{end} can't be tested, and it is an end{why}: {remedy}")
            }
            Refusal::Same => format!("{good} and {bad} are the same kernel: {THE_SAME}"),
            Refusal::Trouble => {
                "one invalid trial after the other: mend what the reasons above tell of, and go on with --resume; --skip leaves one out"
                    .to_owned()
            }
            Refusal::Limit => "as many trials as were allowed, and no answer: --max-trials allows more, also with --resume".to_owned(),
        }
    }

    /// What it took, and by which method.
    #[must_use]
    pub fn effort(&self) -> String {
        let count = |wanted: fn(Outcome) -> bool| self.trials.iter().filter(|trial| wanted(trial.outcome)).count();
        let hangs = count(|outcome| outcome == Outcome::Hang);
        let passes = count(|outcome| outcome == Outcome::Pass);
        let unknown = count(|outcome| matches!(outcome, Outcome::Unknown(_)));
        format!(
            "{} of {} s ({hangs} hangs, {passes} passes, {unknown} unknown) over {}; good end: {} hung, bad itself with a probability of {:.4}; \
             confidence {}; {METHOD}",
            counted(self.trials.len() as u64, "trial"),
            self.setup.duration,
            counted(self.setup.points.len() as u64, "position"),
            if self.good_end.trials() == 0 { "0/0".to_owned() } else { hangs_of(self.good_end) },
            self.good_end_doubt,
            self.setup.design.confidence
        )
    }

    /// The finished search as a log that `git bisect replay` reads; none of an unfinished one, or of one that wasn't over commits.
    #[must_use]
    pub fn git_bisect_log(&self) -> Option<String> {
        let Over::Commits { .. } = self.setup.over else { return None };
        let Some(SearchAnswer::Found { culprits, .. }) = &self.answer else { return None };
        let setup = &self.setup;
        let position = |point: &Point| setup.points.iter().position(|other| other == point);
        // In the line's order: from there on it hangs.
        let first = |point: &Point| if setup.find_fix { position(point).map_or(0, |fix| fix + 1) } else { position(point).unwrap_or(0) };
        let (start, end) = (culprits.iter().map(first).min()?, culprits.iter().map(first).max()?);
        let (good, bad) = if setup.find_fix { ("new", "old") } else { ("good", "bad") };
        // Commits came along the first parents; quoted, as git itself writes it, and replays it.
        let mut text = "git bisect start '--first-parent'\n".to_owned();
        let mut say = |word: &str, point: &Point| {
            text.push_str(&format!("# {word}: [{}] {}\ngit bisect {word} {}\n", point.what, point.title, point.what))
        };
        say(bad, setup.points.last()?);
        say(good, &setup.good_end);
        // What the answer says of a point that was left out is said below, and git would believe the skip.
        let told = [start.checked_sub(1), Some(end)].map(|position| position.and_then(|position| setup.points.get(position)));
        let skipped = setup.points.iter().filter(|point| self.left_out.contains_key(&point.kernel) && !told.contains(&Some(point)));
        skipped.for_each(|point| say("skip", point));
        if end + 1 < setup.points.len() {
            say(bad, &setup.points[end]);
        }
        if start > 0 {
            say(good, &setup.points[start - 1]);
        }
        Some(text)
    }
}

impl PointReport {
    /// The point's name as people write it.
    #[must_use]
    pub fn name(&self) -> &str {
        short(&self.point.what)
    }

    /// Its hangs of its trials.
    #[must_use]
    pub fn hangs(&self) -> String {
        hangs_of(self.seen)
    }

    /// The probability in per cent.
    #[must_use]
    pub fn percent(&self) -> String {
        format!("{:.2}", self.probability * 100.0)
    }
}

fn hangs_of(seen: Tally) -> String {
    if seen.trials() == 0 { "-".to_owned() } else { format!("{}/{}", seen.hang, seen.trials()) }
}

/// A commit's name is long; everything else is as it is.
fn short(what: &str) -> &str {
    if matches!(what.len(), 40 | 64) && what.chars().all(|c| c.is_ascii_hexdigit()) { &what[..12] } else { what }
}
