//! What happens during a run, as values: the only contract between the work and what a person sees.
//!
//! The work sends events and never prints; progress bars, the event log and reports are readers of them. An event says what happened, not how
//! to show it.
//!
//! Read [`Event`] first, then [`Events`], the sender that is handed down.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::mpsc;

use crate::plan::TrialId;
use crate::spec::Name;

/// Something that happened. Durations are seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// A kernel's build began.
    BuildStarted {
        /// The kernel.
        kernel: Name,
    },
    /// A step of a build began.
    BuildStep {
        /// The kernel.
        kernel: Name,
        /// The step, as shown: `fetching linux-source-6.1`, `applying 3 patches`.
        step: String,
    },
    /// A build went on.
    BuildProgress {
        /// The kernel.
        kernel: Name,
        /// Objects compiled.
        objects: u64,
        /// Objects that the whole build has, as far as is known.
        expected: Option<u64>,
    },
    /// A build ended well.
    BuildFinished {
        /// The kernel.
        kernel: Name,
        /// It was in the cache.
        cached: bool,
        /// How long it took.
        seconds: f64,
    },
    /// A build failed.
    BuildFailed {
        /// The kernel.
        kernel: Name,
        /// Why.
        error: String,
    },
    /// An image's making began or ended.
    Image {
        /// The image.
        image: Name,
        /// None at the start; at the end how long it took.
        seconds: Option<f64>,
        /// It was in the cache.
        cached: bool,
    },
    /// Bytes of a download.
    Download {
        /// What is downloaded.
        what: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// The accelerator was chosen.
    Accelerator {
        /// `kvm` or `tcg`.
        accelerator: String,
        /// Why.
        reason: String,
    },
    /// A trial began.
    TrialStarted {
        /// The trial.
        trial: TrialId,
    },
    /// A trial went into another phase.
    TrialPhase {
        /// The trial.
        trial: TrialId,
        /// The phase, as shown: `booting`, `running`, `looking`.
        phase: String,
    },
    /// A trial went on.
    TrialProgress {
        /// The trial.
        trial: TrialId,
        /// Operations per second of the last seconds; none from a reproducer that doesn't count.
        operations_per_second: Option<f64>,
        /// Memory-cgroup OOM kills so far.
        oom_kills: u64,
        /// Time since the progress clock moved.
        silent: f64,
        /// Time since the reproducer started.
        elapsed: f64,
        /// How long the reproducer is to run.
        limit: f64,
    },
    /// A trial ended.
    TrialFinished {
        /// The trial.
        trial: TrialId,
        /// What it showed: `pass`, `hang`, ...
        observation: String,
        /// One line about it.
        detail: String,
        /// How long it took.
        seconds: f64,
    },
    /// The baseline's time to hang says how long the trials of a proof last.
    Calibrated {
        /// So long.
        seconds: f64,
        /// What it suggests: it may be longer than the pipeline allows.
        suggested: f64,
        /// Trials that last as long as suggested, which a proof of one candidate that is fixed should take.
        trials: f64,
        /// Minutes of these, if one runs at a time.
        minutes: f64,
    },
    /// A proof went on: trials that are recorded by now.
    ProofProgress {
        /// The arms, the baseline first.
        arms: Vec<ArmProgress>,
        /// The baseline hung credibly.
        reproduced: bool,
        /// Passes in a row that a candidate needs.
        passes_needed: u64,
    },
    /// A search went on: trials that are recorded by now.
    SearchProgress {
        /// Where it is: `the bad end`, `the good end`, `between`.
        phase: String,
        /// Trials that count.
        trials: u64,
        /// Positions of the line.
        positions: u64,
        /// Bits that are missing to certainty.
        bits: f64,
        /// The likeliest ones, with their probability.
        likeliest: Vec<(String, f64)>,
        /// What is left, roughly.
        left: Option<f64>,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// What.
        message: String,
    },
    /// A file of lasting interest was written.
    Wrote {
        /// What it is.
        what: String,
        /// Where it is.
        path: PathBuf,
    },
}

/// An arm of a proof that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArmProgress {
    /// The kernel.
    pub kernel: Name,
    /// Trials with the baseline's hang.
    pub hangs: u64,
    /// Valid trials.
    pub trials: u64,
}

impl Event {
    /// The trial that it is about.
    #[must_use]
    pub fn trial(&self) -> Option<&TrialId> {
        match self {
            Self::TrialStarted { trial }
            | Self::TrialPhase { trial, .. }
            | Self::TrialProgress { trial, .. }
            | Self::TrialFinished { trial, .. } => Some(trial),
            Self::BuildStarted { .. }
            | Self::BuildStep { .. }
            | Self::BuildProgress { .. }
            | Self::BuildFinished { .. }
            | Self::BuildFailed { .. }
            | Self::Image { .. }
            | Self::Download { .. }
            | Self::Accelerator { .. }
            | Self::Calibrated { .. }
            | Self::ProofProgress { .. }
            | Self::SearchProgress { .. }
            | Self::Warning { .. }
            | Self::Wrote { .. } => None,
        }
    }
}

/// The sending side. Cheap to clone; sending never blocks and never fails (a reader that is gone is not the work's business).
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Event>,
    /// What [`Self::warn_once`] has said.
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl Events {
    /// A sender and its reader.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, said: Arc::default() }, receiver)
    }

    /// A sender whose events nobody reads.
    #[must_use]
    pub fn ignored() -> Self {
        Self::channel().0
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        let _ = self.sender.send(event);
    }

    /// Sends a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning { message: message.into() });
    }

    /// Sends a warning, unless the same one was sent by it before.
    pub fn warn_once(&self, message: String) {
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(message.clone()) {
            self.warn(message);
        }
    }
}
