//! What a person sees while the work goes on: a reader of events.
//!
//! On a terminal one line per build and per VM, redrawn; elsewhere plain lines, one for each change of phase and one every ten seconds. It also writes
//! every event to a run's `events.jsonl`, and a trial's to the trial's own. It decides nothing.
//!
//! Read [`Progress`] first.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::event::{ArmProgress, Event};
use crate::plan::TrialId;
use crate::report::{counted, trial_folder};
use crate::spec::Name;

/// Shows events until the last sender is gone.
pub struct Progress {
    bars: Option<MultiProgress>,
    plain: Box<dyn Write + Send>,
    lines: HashMap<String, Line>,
    log: Option<Log>,
    /// The kernel that wasn't built, until it is known whether the program goes on.
    failed: Option<(Name, String)>,
    /// What was downloaded.
    fetched: HashSet<String>,
    start: Instant,
    quiet: bool,
}

/// The event logs of a run.
struct Log {
    folder: PathBuf,
    run: BufWriter<File>,
    trials: HashMap<TrialId, BufWriter<File>>,
}

/// The event log of a run or a trial.
pub const EVENTS: &str = "events.jsonl";

struct Line {
    bar: Option<ProgressBar>,
    phase: String,
    shown: Instant,
}

/// Plain output repeats a line's state so often at most.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// How far a proof is.
fn proof_text(arms: &[ArmProgress], reproduced: bool, passes_needed: u64) -> String {
    let shown: Vec<String> = arms.iter().map(|arm| format!("{} hung in {} of {}", arm.kernel, arm.hangs, arm.trials)).collect();
    let missing = if reproduced { "" } else { ", the baseline has to hang more often" };
    format!("{} (a fixed one needs {passes_needed} passes{missing})", shown.join(", "))
}

/// Columns of the terminal; 80 if it doesn't say.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(80)
}

/// A name that leaves room for what is said of it.
fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most { name.to_owned() } else { name.chars().take(most.saturating_sub(3)).chain("...".chars()).collect() }
}

/// A message in lines that a terminal doesn't break: between words, and not between a number and its unit.
fn fitted(text: &str, columns: usize) -> String {
    const NO_BREAK: char = '\u{a0}';
    let mut bound = String::with_capacity(text.len());
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        bound.push_str(word);
        let is_number = word.ends_with(|c: char| c.is_ascii_digit());
        let is_unit = |next: &&str| UNITS.contains(&next.trim_end_matches([',', ':', ';', '.', ')']));
        bound.extend(words.peek().map(|next| if is_number && is_unit(next) { NO_BREAK } else { ' ' }));
    }
    let options = textwrap::Options::new(columns.max(20))
        .subsequent_indent("    ")
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(&bound, options).replace(NO_BREAK, " ")
}

/// What stands behind numbers in messages.
const UNITS: [&str; 8] = ["s", "ms", "min", "MiB", "GiB", "KiB", "%", "ops/s"];

impl Progress {
    /// Progress on standard error: bars if that is a terminal. `quiet` shows nothing but warnings.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bars = (std::io::stderr().is_terminal() && !quiet).then(MultiProgress::new);
        Self { bars, ..Self::into(Box::new(std::io::stderr()), quiet) }
    }

    /// Plain lines into `plain`.
    fn into(plain: Box<dyn Write + Send>, quiet: bool) -> Self {
        Self { bars: None, plain, lines: HashMap::new(), log: None, failed: None, fetched: HashSet::new(), start: Instant::now(), quiet }
    }

    /// Also writes every event to a new file in a run's folder, one JSON object a line.
    ///
    /// # Errors
    /// When the file is there already or can't be made.
    pub fn log_to(&mut self, folder: &Path) -> std::io::Result<()> {
        let file = File::create_new(folder.join(EVENTS))?;
        self.hold(folder, file)
    }

    /// Writes all events on in a run's folder, which nobody else's run may be doing.
    ///
    /// # Errors
    /// When the log can't be opened, or another program holds it.
    pub fn log_on(&mut self, folder: &Path) -> std::io::Result<()> {
        let file = File::options().append(true).create(true).open(folder.join(EVENTS))?;
        self.hold(folder, file)
    }

    fn hold(&mut self, folder: &Path, file: File) -> std::io::Result<()> {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        self.log = Some(Log { folder: folder.to_owned(), run: BufWriter::new(file), trials: HashMap::new() });
        Ok(())
    }

    /// Reads events until the last sender is gone.
    pub async fn show(mut self, mut events: UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            self.write_down(&event);
            self.take(event);
        }
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }

    fn write_down(&mut self, event: &Event) {
        let Some(log) = &mut self.log else { return };
        let at = self.start.elapsed().as_secs_f64();
        let Ok(mut value) = serde_json::to_value(event) else { return };
        if let Some(object) = value.as_object_mut() {
            object.insert("at".to_owned(), serde_json::json!((at * 1000.0).round() / 1000.0));
        }
        let _ = writeln!(log.run, "{value}").and_then(|()| log.run.flush());
        let Some(trial) = event.trial() else { return };
        if !log.trials.contains_key(trial) {
            let folder = log.folder.join(trial_folder(trial));
            let file = std::fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(EVENTS)));
            let Ok(file) = file else { return };
            log.trials.insert(trial.clone(), BufWriter::new(file));
        }
        if let Some(file) = log.trials.get_mut(trial) {
            let _ = writeln!(file, "{value}").and_then(|()| file.flush());
        }
        if matches!(event, Event::TrialFinished { .. }) {
            log.trials.remove(trial);
        }
    }

    fn take(&mut self, event: Event) {
        self.tell_failed(&event);
        match event {
            Event::BuildStarted { kernel } => self.state(&kernel.to_string(), "building", true),
            Event::BuildStep { kernel, step } => self.state(&kernel.to_string(), &step, true),
            Event::BuildProgress { kernel, objects, expected } => {
                let of = expected.map_or_else(String::new, |expected| format!(" of about {}", expected.max(objects)));
                self.state(&kernel.to_string(), &format!("compiling, {objects}{of} objects"), false);
            }
            Event::BuildFinished { kernel, cached: true, .. } => self.done(&kernel.to_string(), "in the cache"),
            Event::BuildFinished { kernel, cached: false, seconds } => self.done(&kernel.to_string(), &format!("built in {seconds:.1} s")),
            Event::BuildFailed { kernel, error } => {
                if let Some(bar) = self.lines.remove(kernel.as_str()).and_then(|line| line.bar) {
                    bar.finish_and_clear();
                }
                self.failed = Some((kernel, error));
            }
            Event::Image { image, seconds: None, .. } => self.state(&image.to_string(), "making the disks", true),
            Event::Image { image, cached: true, .. } => self.done(&image.to_string(), "in the cache"),
            Event::Image { image, seconds: Some(seconds), cached: false } => {
                self.done(&image.to_string(), &format!("made in {seconds:.1} s"))
            }
            Event::Download { what, bytes, total } => {
                let mib = |bytes: u64| bytes / (1 << 20);
                let of = total.map_or_else(String::new, |total| format!(" of {} MiB", mib(total)));
                if total == Some(bytes) {
                    // Its size is looked at while it comes, and once more when it is there.
                    if self.fetched.insert(what.clone()) {
                        self.done(&what, &format!("{} MiB fetched", mib(bytes)));
                    }
                    return;
                }
                self.fetched.remove(&what);
                self.state(&what, &format!("{} MiB{of}", mib(bytes)), false);
            }
            Event::Calibrated { seconds, suggested, .. } if suggested > seconds => self.print(&format!(
                "the proof's trials last {seconds} s, as the pipeline says: the baseline's time to hang suggests {suggested} s"
            )),
            Event::Calibrated { seconds, trials, minutes, .. } => self.print(&format!(
                "the proof's trials last {seconds} s, as the baseline's time to hang suggests; if a candidate is fixed, that takes about {trials:.0} \
                 trials, {minutes:.0} min if one runs at a time"
            )),
            Event::Accelerator { accelerator, reason } => self.done("accelerator", &format!("{accelerator}: {reason}")),
            Event::TrialStarted { trial } => self.state(&trial.to_string(), "starting", true),
            Event::TrialPhase { trial, phase } => self.state(&trial.to_string(), &phase, true),
            Event::TrialProgress { trial, operations_per_second, oom_kills, silent, elapsed, limit } => {
                let rate = operations_per_second.map_or_else(String::new, |rate| format!("{rate:6.0} ops/s, "));
                let name = trial.to_string();
                let phase = self.lines.get(&name).map_or_else(String::new, |line| line.phase.clone());
                let text = format!("{phase}: {rate}{oom_kills} OOM kills, {silent:.0} s since progress, {elapsed:.0} of {limit:.0} s");
                self.detail(&name, &text);
            }
            Event::TrialFinished { trial, observation, detail, seconds } => {
                self.done(&trial.to_string(), &format!("{observation} after {seconds:.1} s: {detail}"));
            }
            Event::ProofProgress { arms, reproduced, passes_needed } => {
                self.state("proof", &proof_text(&arms, reproduced, passes_needed), true)
            }
            Event::SearchProgress { phase, trials, positions, bits, likeliest, left } => {
                let likeliest: Vec<_> = likeliest.iter().map(|(what, share)| format!("{what} {:.1} %", share * 100.0)).collect();
                let left = left.map_or_else(String::new, |left| format!(", about {:.0} min left", (left / 60.0).ceil()));
                let text =
                    format!("{phase}, {}, {}, {bits:.2} bits missing{left}: {}", counted(trials, "trial"), counted(positions, "position"), likeliest.join(", "));
                self.state("search", &text, true);
            }
            Event::Warning { message } => self.print(&format!("warning: {message}")),
            Event::Wrote { what, path } => self.print(&format!("{what}: {}", path.display())),
        }
    }

    /// Tells why a kernel wasn't built, now that something comes after it. If nothing does, the error is what ends the program, and `cli` tells it; and if the
    /// next one extends this one, its error says it all.
    fn tell_failed(&mut self, next: &Event) {
        let Some((kernel, error)) = self.failed.take() else { return };
        let told = format!("{kernel}, which it extends: {error}");
        if !matches!(next, Event::BuildFailed { error: next, .. } if next.ends_with(&told)) {
            self.print(&format!("{kernel}: not built: {error}"));
        }
    }

    /// A line is in another state. Plain output shows it if it is `news` or nothing was shown for long.
    fn state(&mut self, name: &str, text: &str, news: bool) {
        let changed = self.lines.get(name).is_none_or(|line| line.phase != text);
        if news {
            self.line(name).phase = text.to_owned();
        }
        if news && changed && self.bars.is_none() {
            self.line(name).shown = Instant::now();
            self.print(&format!("{name}: {text}"));
        } else {
            self.detail(name, text);
        }
    }

    fn detail(&mut self, name: &str, text: &str) {
        let plain = self.bars.is_none();
        let line = self.line(name);
        if let Some(bar) = &line.bar {
            // The bar is one line, and is cut at the terminal's width.
            bar.set_message(text.lines().next().unwrap_or_default().to_owned());
        } else if plain && line.shown.elapsed() >= PLAIN_INTERVAL {
            line.shown = Instant::now();
            self.print(&format!("{name}: {text}"));
        }
    }

    fn done(&mut self, name: &str, text: &str) {
        if let Some(bar) = self.lines.remove(name).and_then(|line| line.bar) {
            bar.finish_and_clear();
        }
        self.print(&format!("{name}: {text}"));
    }

    fn line(&mut self, name: &str) -> &mut Line {
        let bars = &self.bars;
        self.lines.entry(name.to_owned()).or_insert_with(|| {
            let bar = bars.as_ref().map(|bars| {
                let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(shortened(name, columns() / 2)));
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            });
            Line { bar, phase: String::new(), shown: Instant::now() }
        })
    }

    fn print(&mut self, text: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(fitted(text, columns()));
            }
            None if self.quiet && !text.starts_with("warning") => {}
            // Nobody has to read it.
            None => drop(writeln!(self.plain, "[{:6.1}] {text}", self.start.elapsed().as_secs_f64())),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that events make, without their times.
    fn said(events: Vec<Event>) -> Vec<String> {
        let said = Said::default();
        let mut progress = Progress::into(Box::new(said.clone()), false);
        events.into_iter().for_each(|event| progress.take(event));
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_download_is_told_once_and_again_when_it_is_fetched_again() {
        let at = |mib: u64| Event::Download { what: "linux".to_owned(), bytes: mib << 20, total: Some(132 << 20) };
        assert_eq!(said(vec![at(7), at(132), at(132)]), ["linux: 132 MiB fetched"]);
        assert_eq!(said(vec![at(132), at(132), at(0), at(132)]), ["linux: 132 MiB fetched", "linux: 132 MiB fetched"]);
    }

    #[test]
    fn a_failed_build_is_told_here_only_if_the_program_goes_on() {
        let failed = |kernel: &str, error: &str| Event::BuildFailed { kernel: Name::new(kernel).unwrap(), error: error.to_owned() };
        assert_eq!(said(vec![failed("base", "no space")]), Vec::<String>::new());
        let went_on = vec![
            failed("base", "no space"),
            failed("variant", "base, which it extends: no space"),
            Event::Warning { message: "x".to_owned() },
        ];
        assert_eq!(said(went_on), ["variant: not built: base, which it extends: no space", "warning: x"]);
        let of_one = "base, which it extends: no space";
        let siblings =
            vec![failed("base", "no space"), failed("one", of_one), failed("two", of_one), Event::Warning { message: "x".to_owned() }];
        assert_eq!(said(siblings), [&format!("one: not built: {of_one}"), &format!("two: not built: {of_one}"), "warning: x"]);
        let both = vec![failed("one", "a"), failed("two", "b"), Event::Warning { message: "x".to_owned() }];
        assert_eq!(said(both), ["one: not built: a", "two: not built: b", "warning: x"]);
    }

    #[test]
    fn a_message_is_broken_between_words_and_not_before_a_unit() {
        let text = "[  12.3] debian-6.1#1: hang after 31.0 s: last progress 10.198 s after QEMU's start";
        let expected = "[  12.3] debian-6.1#1: hang after\n    31.0 s: last progress 10.198 s\n    after QEMU's start";
        assert_eq!(fitted(text, 38), expected);
        assert_eq!(fitted("linux-source-6.1: 132 MiB fetched", 80), "linux-source-6.1: 132 MiB fetched");
        assert_eq!((shortened("debian-6.1", 40).as_str(), shortened("debian-6.1", 8).as_str()), ("debian-6.1", "debia..."));
    }
}
