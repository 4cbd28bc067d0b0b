//! What one trial saw, as plain data: all that judgement may look at.
//!
//! A trial fills an [`Evidence`] while the VM runs; it is saved beside the report, and `rescore` reads it back and judges again. So everything
//! that a verdict rests on is in here, the limits that were in force included. Nothing in here is a conclusion.
//!
//! Read [`Evidence`] first.

use std::fmt;
use std::time::Duration;

use hangproof_wire::{Beat, CgroupCounters, Look, Step};
use serde::{Deserialize, Serialize};

use crate::plan::TrialId;
use crate::spec::{HangSignature, Limits, Trigger};

/// A moment: milliseconds of the host's monotonic clock since QEMU was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct At(pub u64);

impl At {
    /// Time from `earlier` to `self`; nothing when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `self` and `time` more.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1000, self.0 % 1000)
    }
}

/// All that one trial saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evidence {
    /// The trial.
    pub trial: TrialId,
    /// The rules in force, so that judging again needs no definition.
    pub rules: Rules,
    /// The guest's life from QEMU's start to the reproducer's.
    pub boot: Boot,
    /// Heartbeats, in order; thinned to those that changed something, and the last.
    pub beats: Vec<(At, Beat)>,
    /// What the reproducer reported, in order; thinned in the same way.
    pub counts: Vec<(At, Count)>,
    /// When the reproducer said that its load was over: killing what made it may take much longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ended: Option<At>,
    /// How the reproducer ended, if it did.
    pub reproducer: Option<(At, ReproducerEnd)>,
    /// Last lines of the reproducer's output that are not counts (bounded).
    pub output: Vec<String>,
    /// What is known of the mitigation, in a trial that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigation: Option<Beside>,
    /// Looks at the task list, in order.
    pub looks: Vec<(At, Look)>,
    /// Memory cgroups' counters at the end.
    pub counters: Vec<CgroupCounters>,
    /// The serial console, in order. Saved as `console.log`, not with the rest.
    #[serde(skip)]
    pub console: Vec<ConsoleLine>,
    /// How many bytes of the console were dropped because it was longer than its bound.
    pub console_dropped: u64,
    /// What QEMU said through QMP.
    pub qmp: Vec<(At, QmpFact)>,
    /// Trouble on our side, in order.
    pub trouble: Vec<(At, Trouble)>,
    /// How the VM ended; none while it runs.
    pub end: Option<(At, VmEnd)>,
}

/// The rules that a trial was judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rules {
    /// Limits, already scaled by the accelerator's factor.
    pub limits: Limits,
    /// What proves that the trigger fired.
    pub trigger: Trigger,
    /// The accelerator's factor by which `limits` were scaled.
    pub scale: f64,
    /// Least time between two looks that are compared; scaled.
    pub look_interval: Duration,
    /// The hang that the pipeline describes.
    #[serde(default)]
    pub hang: Option<HangSignature>,
}

/// The guest's life from QEMU's start to the reproducer's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boot {
    /// The agent's first word.
    pub hello: Option<At>,
    /// Last step that the agent announced.
    pub step: Option<(At, Step)>,
    /// The step that failed and why, in the agent's words.
    pub failed: Option<(At, Step, String)>,
    /// Root mounted, ssh server started.
    pub ready: Option<At>,
    /// Logged in through ssh.
    pub login: Option<At>,
    /// The reproducer was started.
    pub started: Option<At>,
    /// `/proc/version` of the guest.
    pub kernel: Option<String>,
    /// What is mounted as root, in the agent's words.
    pub root: Option<String>,
    /// Address and size of the kernel's vmcoreinfo note, if it has one.
    pub vmcoreinfo: Option<String>,
}

/// One report of the reproducer: a line `hangproof: t=S ops=N oom_kills=N ...`, or the last one, `hangproof: done ops=N oom_kills=N ...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Count {
    /// Operations completed since its start.
    pub operations: u64,
    /// OOM kills that it saw, if it looks.
    pub oom_kills: Option<u64>,
}

/// How a reproducer's report begins.
const COUNT_MARK: &str = "hangproof: t=";

/// How its last one begins, when its load is over.
const DONE_MARK: &str = "hangproof: done ";

impl Count {
    /// Reads a line of the reproducer's output; none if it is no report.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let rest = line.strip_prefix(COUNT_MARK).or_else(|| line.strip_prefix(DONE_MARK))?;
        let value = |key: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
        Some(Self { operations: value("ops")?, oom_kills: value("oom_kills") })
    }

    /// Whether a report is the last one: the load is over.
    #[must_use]
    pub fn is_last(line: &str) -> bool {
        line.trim().starts_with(DONE_MARK)
    }

    /// The line that would be read as this report.
    #[must_use]
    pub fn line(&self) -> String {
        let kills = self.oom_kills.map(|kills| format!(" oom_kills={kills}")).unwrap_or_default();
        format!("{COUNT_MARK}0 ops={}{kills}", self.operations)
    }
}

/// How the reproducer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReproducerEnd {
    /// With this status, proven by the nonce line.
    Status(i32),
    /// The connection ended and no nonce line came: nobody knows its status.
    Lost(String),
}

/// What is known of the program that ran beside the reproducer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Beside {
    /// When it was started.
    pub started: At,
    /// Last lines of its output (bounded).
    pub output: Vec<String>,
    /// How it ended, if it did before the trial.
    pub end: Option<(At, ReproducerEnd)>,
}

/// One line of the serial console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// When its last byte came.
    pub at: At,
    /// The line without its end, control characters removed.
    pub text: String,
}

/// What QEMU said through QMP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QmpFact {
    /// Answer to `query-status`: `running`, `paused`, `io-error`, `internal-error`, ...
    Status(String),
    /// Event `SHUTDOWN`, with its reason: `guest-shutdown`, `guest-reset`, `guest-panic`, `host-qmp-quit`, `host-signal`, ...
    Shutdown(String),
    /// Event `GUEST_PANICKED`.
    GuestPanicked,
    /// What the host gave the vCPUs so far. It isn't QEMU that says it, but the host when QEMU is asked.
    Cpus(CpuTime),
    /// Event `STOP`: the vCPUs stand still.
    Stop,
    /// Event `RESUME`.
    Resume,
    /// Event `BLOCK_IO_ERROR`: the host could not read or write a disk, with the operating system's words.
    BlockIoError(String),
    /// Event `WATCHDOG`.
    Watchdog,
    /// A command got no answer within its deadline.
    Silent,
}

/// What the host gave the threads of a VM's vCPUs since QEMU's start, all together (the kernel's Documentation/scheduler/sched-stats.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CpuTime {
    /// How many vCPUs there are.
    pub cpus: u32,
    /// Milliseconds in which they ran.
    pub ran: u64,
    /// Milliseconds in which they could have run and waited for a CPU of the host.
    pub waited: u64,
}

/// Trouble on our side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// QEMU could not be started.
    QemuStart(String),
    /// The agent sent what is no message of the protocol.
    Agent(String),
    /// The agent answered, but refused.
    Refused(String),
    /// ssh: no connection, no login, no execution.
    Ssh(String),
    /// The host: disk full, out of memory, no permission.
    Host(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QemuStart(error) | Self::Host(error) => f.write_str(error),
            Self::Agent(error) => write!(f, "the agent's message is not understood: {error}"),
            Self::Refused(error) => write!(f, "the agent refused: {error}"),
            Self::Ssh(error) => write!(f, "ssh: {error}"),
        }
    }
}

/// How the VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmEnd {
    /// We ended it, after everything was seen.
    Stopped,
    /// We ended it because the user interrupted the run.
    Interrupted,
    /// QEMU ended by itself with this exit status (the guest reset, powered off or panicked: see the QMP facts).
    Exited {
        /// Exit status, if it was not a signal.
        status: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Last lines of its standard error.
        stderr: String,
    },
}

impl Evidence {
    /// Empty evidence of a trial that is about to start.
    #[must_use]
    pub fn new(trial: TrialId, rules: Rules) -> Self {
        Self {
            trial,
            rules,
            boot: Boot::default(),
            beats: Vec::new(),
            counts: Vec::new(),
            load_ended: None,
            reproducer: None,
            output: Vec::new(),
            mitigation: None,
            looks: Vec::new(),
            counters: Vec::new(),
            console: Vec::new(),
            console_dropped: 0,
            qmp: Vec::new(),
            trouble: Vec::new(),
            end: None,
        }
    }
}
