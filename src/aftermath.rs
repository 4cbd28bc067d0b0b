//! What is collected from a hung guest after the judgement, before its VM ends.
//!
//! The order loses nothing: what asks the guest politely comes first, what stops it next, what kills it last. Each step has a deadline, and one that fails
//! doesn't stop the next. Nothing in here is evidence that a verdict rests on: it goes into files of its own, and `rescore` never reads them.
//!
//! Read [`Aftermath`] first, then [`collect`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use hangproof_wire::{Report, Request};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::evidence::{At, ConsoleLine, VmEnd};
use crate::vm::{Order, Signal, Vm};

/// After which hangs the long steps are taken: all tasks on the console, the memory dump, the interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// After each kernel's first.
    First,
    /// After none.
    Never,
    /// After each.
    Always,
}

/// Where a trial's aftermath goes, and whether it is this trial's turn.
#[derive(Debug, Clone)]
pub struct Collecting {
    /// The trial's folder.
    pub folder: PathBuf,
    /// After which hangs.
    pub when: When,
    /// A trial of the same kernel has taken its turn.
    pub taken: Arc<AtomicBool>,
}

impl Collecting {
    /// Whether this hang is one to collect from.
    fn is_due(&self) -> bool {
        match self.when {
            When::First => !self.taken.swap(true, SeqCst),
            When::Never => false,
            When::Always => true,
        }
    }

    /// The dump failed: the kernel's next hang is one to collect from.
    fn pass_on(&self) {
        self.taken.store(false, SeqCst);
    }
}

/// What was collected: `aftermath.json`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Aftermath {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// The memory dump, if there is one.
    pub dump: Option<Dump>,
    /// The console from the judgement on: `aftermath.log`.
    #[serde(skip)]
    console: Vec<ConsoleLine>,
    #[serde(skip)]
    log: Option<String>,
    #[serde(skip)]
    pressed: Option<char>,
    #[serde(skip)]
    ended: Option<VmEnd>,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A memory dump.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dump {
    /// Its file, beside this one.
    pub file: String,
    /// Bytes of the ELF core.
    pub bytes: u64,
    /// Bytes of the file.
    pub compressed: u64,
    /// Address and size of the kernel's vmcoreinfo note, as `/sys/kernel/vmcoreinfo` gave them.
    pub vmcoreinfo: Option<String>,
}

/// kdump's names, so that who knows the one finds the other.
const VMCORE: &str = "vmcore.zst";
const VMCORE_INCOMPLETE: &str = "vmcore-incomplete";
const VMCORE_DMESG: &str = "vmcore-dmesg.txt";

/// What was done and said, as far as it was: of an interrupted one there may be less.
const STEPS: &str = "aftermath.json";
const CONSOLE: &str = "aftermath.log";

/// Its files that are texts.
pub const TEXTS: [&str; 3] = [CONSOLE, STEPS, VMCORE_DMESG];

/// The sysrq keys with their deadlines (unscaled): blocked tasks, memory, all tasks. The serial console takes 90 microseconds for a byte, a list of all
/// tasks has 100 to 250 KB.
const KEYS: [(char, Duration); 3] = [('w', Duration::from_secs(5)), ('m', Duration::from_secs(3)), ('t', Duration::from_secs(15))];

/// After a key the rest of its output has come when the console is silent for so long (unscaled).
const QUIET: Duration = Duration::from_millis(500);

/// For the kernel log (unscaled): some MB through virtio-serial.
const LOG: Duration = Duration::from_secs(5);

/// For QEMU's answer to what it does at once (unscaled).
const ORDER: Duration = Duration::from_secs(5);

/// For the memory dump (unscaled): 2 GiB of mostly empty pages.
const DUMP: Duration = Duration::from_secs(60);

/// From the interrupt to the guest's end: its panic, and the stacks that it prints (unscaled).
const PANIC: Duration = Duration::from_secs(10);

/// zstd's fastest level: empty pages are most of it.
const LEVEL: i32 = 1;

/// Collects from a hung guest and writes the files; `scratch` is for the pipe through which the memory comes, and `found` has what came since the judgement.
/// None when it isn't this trial's turn.
pub async fn collect(
    vm: &mut Vm,
    collecting: &Collecting,
    scratch: &Path,
    scale: f64,
    vmcoreinfo: Option<&str>,
    mut found: Aftermath,
) -> Option<Aftermath> {
    if !collecting.is_due() {
        return None;
    }
    let scaled = |time: Duration| time.mul_f64(scale);
    for (key, deadline) in KEYS {
        let begin = Instant::now();
        vm.request(Request::Sysrq { key });
        let until = begin + scaled(deadline);
        let pressed = found.listen(vm, until, |found| found.pressed == Some(key)).await;
        found.listen_until_quiet(vm, until, scaled(QUIET)).await;
        found.note(format!("sysrq {key}"), begin, (!pressed).then(|| "it did not come to its end".to_owned()));
    }
    let begin = Instant::now();
    vm.request(Request::Log { id: 0 });
    found.listen(vm, begin + scaled(LOG), |found| found.log.is_some()).await;
    let result = match found.log.take() {
        Some(log) => fs::create_dir_all(&collecting.folder).and_then(|()| fs::write(collecting.folder.join(VMCORE_DMESG), log + "\n")),
        None => Err(io::Error::new(io::ErrorKind::TimedOut, "the agent did not answer")),
    };
    found.note("kernel log".to_owned(), begin, result.err().map(|error| error.to_string()));
    found.order(vm, "stop", Order::Pause, scaled(ORDER)).await;
    let begin = Instant::now();
    match found.dump(vm, &collecting.folder, scratch, [DUMP, ORDER].map(scaled)).await {
        Ok((bytes, compressed)) => {
            found.dump = Some(Dump { file: VMCORE.to_owned(), bytes, compressed, vmcoreinfo: vmcoreinfo.map(str::to_owned) });
            found.note("memory dump".to_owned(), begin, None);
        }
        Err(error) => {
            // What fills the disk would take the place of the evidence.
            let _ = fs::remove_file(collecting.folder.join(VMCORE_INCOMPLETE));
            collecting.pass_on();
            found.note("memory dump".to_owned(), begin, Some(error));
        }
    }
    found.order(vm, "continue", Order::Resume, scaled(ORDER)).await;
    found.order(vm, "interrupt", Order::Nmi, scaled(ORDER)).await;
    let begin = Instant::now();
    let ended = found.listen(vm, begin + scaled(PANIC), |found| found.ended.is_some()).await;
    found.note("panic".to_owned(), begin, (!ended).then(|| "the guest did not end".to_owned()));
    Some(found)
}

impl Aftermath {
    /// Writes `aftermath.json` and `aftermath.log`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let line = |line: &ConsoleLine| format!("{:>5}.{:03} | {}\n", line.at.0 / 1000, line.at.0 % 1000, line.text);
        fs::write(folder.join(CONSOLE), self.console.iter().map(line).collect::<String>())?;
        fs::write(folder.join(STEPS), serde_json::to_vec_pretty(self)?)
    }

    /// One line about it.
    #[must_use]
    pub fn title(&self) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let dump = match &self.dump {
            Some(dump) => format!("{} of {} MiB ({} MiB of memory), ", dump.file, mib(dump.compressed), mib(dump.bytes)),
            None => String::new(),
        };
        let failed = self.steps.iter().filter(|step| step.error.is_some()).count();
        format!("aftermath: {dump}{} steps, {failed} failed", self.steps.len())
    }

    fn note(&mut self, what: String, begin: Instant, error: Option<String>) {
        self.steps.push(Step { what, seconds: begin.elapsed().as_secs_f64(), error });
    }

    /// Takes what isn't judged any more.
    pub fn take(&mut self, signal: (At, Signal)) {
        match signal.1 {
            Signal::Console(line) => self.console.push(line),
            Signal::Agent(Report::Log { log, .. }) => self.log = Some(log),
            Signal::Agent(Report::Pressed { key }) => self.pressed = Some(key),
            Signal::Exited(end) => self.ended = Some(end),
            Signal::ConsoleDropped(_)
            | Signal::Agent(_)
            | Signal::Qmp(_)
            | Signal::Login
            | Signal::Started
            | Signal::Output(_)
            | Signal::ReproducerEnded(_)
            | Signal::MitigationStarted
            | Signal::MitigationOutput(_)
            | Signal::MitigationEnded(_)
            | Signal::Trouble(_) => {}
        }
    }

    /// Takes signals until `done` or until `until`; whether it is done.
    async fn listen(&mut self, vm: &mut Vm, until: Instant, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            match timeout_at(until, vm.signal()).await {
                Ok(Some(signal)) => self.take(signal),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// Takes signals until the console was silent for a while: the serial line is slower than the log.
    async fn listen_until_quiet(&mut self, vm: &mut Vm, until: Instant, quiet: Duration) {
        let mut end = until.min(Instant::now() + quiet);
        while let Ok(Some(signal)) = timeout_at(end, vm.signal()).await {
            if matches!(signal.1, Signal::Console(_)) {
                end = until.min(Instant::now() + quiet);
            }
            self.take(signal);
        }
    }

    /// Takes signals until `work` is done: QEMU's answer comes behind its events.
    async fn during<T>(&mut self, vm: &mut Vm, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                signal = vm.signal() => match signal {
                    Some(signal) => self.take(signal),
                    // Nothing more can come; the work has a deadline.
                    None => return work.await,
                },
            }
        }
    }

    async fn order(&mut self, vm: &mut Vm, what: &str, order: Order, deadline: Duration) {
        let begin = Instant::now();
        let answer = vm.order(order, deadline);
        let result = self.during(vm, answer).await;
        self.note(what.to_owned(), begin, result.err().map(|error| error.to_string()));
    }

    /// Writes the guest's memory, compressed; `deadline` is for QEMU's answer, and `rest` for what is in the pipe then. Returns the bytes of the core and of
    /// the file.
    async fn dump(&mut self, vm: &mut Vm, folder: &Path, scratch: &Path, [deadline, rest]: [Duration; 2]) -> Result<(u64, u64), String> {
        let (pipe, incomplete) = (scratch.join("memory"), folder.join(VMCORE_INCOMPLETE));
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
            .map_err(|error| format!("making the pipe {}: {error}", pipe.display()))?;
        let (from, to) = (pipe.clone(), incomplete.clone());
        let packing = tokio::task::spawn_blocking(move || pack(&from, &to));
        let answer = vm.order(Order::Dump(pipe.clone()), deadline);
        let answer = self.during(vm, answer).await;
        // Somebody who opens the pipe for writing and goes away is the end of a reader that still waits for a writer.
        let _ = rustix::fs::open(
            &pipe,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        answer.map_err(|error| error.to_string())?;
        // QEMU has written all: what is left is in the pipe.
        let packed = self.during(vm, timeout(rest, packing)).await;
        let sizes = match packed {
            Ok(Ok(Ok(sizes))) => sizes,
            Ok(Ok(Err(error))) => return Err(format!("{}: {error}", incomplete.display())),
            Ok(Err(_)) | Err(_) => return Err(format!("{} did not come to its end", incomplete.display())),
        };
        fs::rename(&incomplete, folder.join(VMCORE)).map_err(|error| format!("{}: {error}", incomplete.display()))?;
        Ok(sizes)
    }
}

fn pack(from: &Path, to: &Path) -> io::Result<(u64, u64)> {
    let mut pipe = File::open(from)?;
    let mut packed = zstd::Encoder::new(File::create(to)?, LEVEL)?;
    let bytes = io::copy(&mut pipe, &mut packed)?;
    let file = packed.finish()?;
    Ok((bytes, file.metadata()?.len()))
}
