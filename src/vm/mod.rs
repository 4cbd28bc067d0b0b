//! A virtual machine as a type: started, listened to, spoken to, ended.
//!
//! Everything that a VM says (console lines, the agent's reports, QMP facts, the reproducer's output, its end) comes through one stream of
//! [`Signal`]s with a time stamp each; a trial reads that stream and knows no sockets. A VM dies with its value: dropping [`Vm`] kills QEMU, and
//! the kernel kills it when hangproof is killed. What the signals mean is not decided here.
//!
//! Read [`Vm`] first.

pub mod args;
pub mod console;
pub mod probe;
mod qemu;
mod qmp;
mod replay;

use std::path::PathBuf;
use std::time::Duration;

use hangproof_wire::{Report, Request};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::qemu::{Start, find_qemu, program};
pub use self::replay::Replay;
use crate::evidence::{At, ConsoleLine, QmpFact, ReproducerEnd, Trouble, VmEnd};
use crate::program::ProgramError;

/// Something that a VM said or that happened to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// A line of the serial console.
    Console(ConsoleLine),
    /// Console bytes were dropped; the count so far.
    ConsoleDropped(u64),
    /// The agent said something.
    Agent(Report),
    /// QEMU said something.
    Qmp(QmpFact),
    /// The ssh login succeeded.
    Login,
    /// The reproducer was started.
    Started,
    /// A line of the reproducer's output.
    Output(String),
    /// The reproducer ended, or its connection did.
    ReproducerEnded(ReproducerEnd),
    /// The mitigation was started.
    MitigationStarted,
    /// A line of the mitigation's output.
    MitigationOutput(String),
    /// The mitigation ended, or its connection did.
    MitigationEnded(ReproducerEnd),
    /// Trouble on our side.
    Trouble(Trouble),
    /// QEMU ended by itself.
    Exited(VmEnd),
}

/// The writing side of a VM's signals. Bounded in number: a guest that floods us is slowed down, it doesn't fill our memory.
#[derive(Debug, Clone)]
pub struct Signals {
    sender: mpsc::Sender<(At, Signal)>,
    clock: Clock,
}

/// A VM's clock: time since QEMU was started.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time that has passed.
    #[must_use]
    pub fn now(self) -> At {
        At(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When the clock will show `at`.
    #[must_use]
    pub fn instant(self, at: At) -> Instant {
        self.0 + Duration::from_millis(at.0)
    }
}

/// Signals that may wait to be read; a console line is at most 4 KiB, so this bounds our memory to some MiB a VM.
const SIGNALS: usize = 1024;

impl Signals {
    /// A writer and its reader.
    #[must_use]
    pub fn channel(clock: Clock) -> (Self, mpsc::Receiver<(At, Signal)>) {
        let (sender, receiver) = mpsc::channel(SIGNALS);
        (Self { sender, clock }, receiver)
    }

    /// The clock of the time stamps.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Stamps a signal and sends it, waiting for room.
    pub async fn send(&self, signal: Signal) {
        let _ = self.sender.send((self.clock.now(), signal)).await;
    }

    /// The same from a thread that may block.
    pub fn send_blocking(&self, signal: Signal) {
        let _ = self.sender.blocking_send((self.clock.now(), signal));
    }
}

/// Why a VM could not be started or spoken to. All of it is our trouble, never the kernel's.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no QEMU.
    #[error("qemu-system-x86_64 is not installed: run `apt-get install qemu-system-x86`")]
    NoQemu,
    /// The environment names a QEMU that isn't there.
    #[error("HANGPROOF_QEMU names {}, which is no file: correct or unset it", .0.display())]
    NoSuchQemu(PathBuf),
    /// The trial's folder has too long a path for a unix socket.
    #[error("the path {} is too long for a unix socket (107 bytes at most): set HANGPROOF_SCRATCH to a shorter folder", .0.display())]
    LongPath(PathBuf),
    /// An operation of the operating system failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// QEMU can't be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// QEMU is there, and runs no guest.
    #[error("{} runs no guest, not even without KVM: {trouble}: set HANGPROOF_QEMU to one that does, or install it again", qemu.display())]
    RunsNothing {
        /// Which QEMU.
        qemu: PathBuf,
        /// What became of the guest.
        trouble: String,
    },
    /// QEMU ended before it connected to us.
    #[error("QEMU did not start ({status}): {stderr}")]
    Start {
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// QEMU didn't answer.
    #[error("QEMU did not answer `{command}` within {deadline:?}")]
    Silent {
        /// The QMP command.
        command: &'static str,
        /// The deadline.
        deadline: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {error}")]
    Refused {
        /// The QMP command.
        command: &'static str,
        /// What it said.
        error: String,
    },
}

impl VmError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }
}

/// What QEMU can be told to do with a VM after its trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop the vCPUs.
    Pause,
    /// Let them run again.
    Resume,
    /// Write the guest's memory as an ELF core to this path, which may be a named pipe with a reader.
    Dump(PathBuf),
    /// Inject a non-maskable interrupt into every vCPU.
    Nmi,
}

/// A running VM.
#[derive(Debug)]
pub enum Vm {
    /// QEMU.
    Qemu(qemu::Qemu),
    /// Saved evidence, played again.
    Replay(Replay),
}

impl Vm {
    /// The clock of the VM's signals.
    #[must_use]
    pub fn clock(&self) -> Clock {
        match self {
            Self::Qemu(vm) => vm.clock(),
            Self::Replay(vm) => vm.clock(),
        }
    }

    /// The next signal; none when no more can come.
    pub async fn signal(&mut self) -> Option<(At, Signal)> {
        match self {
            Self::Qemu(vm) => vm.signal().await,
            Self::Replay(vm) => vm.signal().await,
        }
    }

    /// Sends a request to the agent; its answer comes as a signal. Never waits for the guest.
    pub fn request(&mut self, request: Request) {
        match self {
            Self::Qemu(vm) => vm.request(request),
            Self::Replay(_) => {}
        }
    }

    /// Asks QEMU whether the vCPUs run; the answer (or [`QmpFact::Silent`]) comes as a signal.
    pub fn ask_status(&mut self) {
        match self {
            Self::Qemu(vm) => vm.ask_status(),
            Self::Replay(_) => {}
        }
    }

    /// Gives QEMU an order. The answer doesn't borrow the VM, whose signals have to be read meanwhile: QEMU's events come before its answer.
    pub fn order(&self, order: Order, deadline: Duration) -> impl Future<Output = Result<(), VmError>> + Send + use<> {
        let monitor = match self {
            Self::Qemu(vm) => Some(vm.monitor()),
            Self::Replay(_) => None,
        };
        async move {
            match monitor {
                Some(monitor) => monitor.lock().await.order(order, deadline).await,
                None => Err(VmError::Refused { command: "an order", error: "this VM is a replayed one".to_owned() }),
            }
        }
    }

    /// Starts the reproducer or a mitigation over ssh; what comes of it comes as signals.
    pub fn run(&mut self, command: crate::guest::Command) {
        match self {
            Self::Qemu(vm) => vm.run(command),
            Self::Replay(_) => {}
        }
    }

    /// Ends the VM and waits until it is gone.
    pub async fn stop(self) {
        match self {
            Self::Qemu(vm) => vm.stop().await,
            Self::Replay(_) => {}
        }
    }
}
