//! The order of things: from the kernel's first user process to a guest that is ready, and then the endless wait for orphans.
//!
//! A step that fails is reported and nothing more is tried: the host ends the VM. PID 1 never returns and never panics, because either would panic
//! the kernel and look like the kernel's fault.
//!
//! Read [`run`] first.

use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::sleep;
use std::time::Duration;

use hangproof_wire::{ASSIGNMENT, Assignment, PAYLOAD, Report, Step};
use rustix::process::{Pid, WaitOptions, wait};

use crate::beat::{self, Clocks};
use crate::cgroup::{self, Hierarchy};
use crate::clock::uptime_ms;
use crate::fault::{self, Fault};
use crate::outbox::Outbox;
use crate::threads::spawn_ordinary;
use crate::{array, kmsg, modules, mounts, network, payload, port, probe, reclaims, requests, settings, ssh};

/// A step that failed, and why.
struct Failure {
    step: Step,
    fault: Fault,
}

/// What the threads of the agent share.
struct Agent {
    outbox: Outbox,
    clocks: Arc<Clocks>,
    hierarchy: Arc<OnceLock<Hierarchy>>,
}

/// Work that goes on beside the boot.
struct Beside(mpsc::Receiver<Result<(), Fault>>);

impl Beside {
    fn start(name: &'static str, work: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> Result<Self, Fault> {
        let (sender, receiver) = mpsc::channel();
        spawn_ordinary(name, move || {
            let _ = sender.send(work());
        })?;
        Ok(Self(receiver))
    }

    /// Waits for its end.
    fn end(self) -> Result<(), Fault> {
        // The sender is gone only when it has sent.
        self.0.recv().unwrap_or(Ok(()))
    }
}

/// Boots the guest. Never returns.
pub fn run() -> ! {
    let agent = Agent { outbox: Outbox::default(), clocks: Clocks::new(), hierarchy: Arc::default() };
    let server = match agent.boot() {
        Ok((ready, server)) => {
            agent.outbox.send(&ready);
            Pid::from_raw(server.id().cast_signed())
        }
        Err(Failure { step, fault }) => {
            let error = fault.to_string();
            mounts::say(&format!("hangproof-agent failed at {step:?}: {error}"));
            agent.outbox.send(&Report::Failed { step, error, uptime_ms: uptime_ms() });
            None
        }
    };
    reap(server)
}

impl Agent {
    fn boot(&self) -> Result<(Report, Child), Failure> {
        let at = |step| move |fault| Failure { step, fault };
        mounts::early().map_err(at(Step::Start))?;
        let assignment = read_assignment();
        // Before the port, which may need one of them; a failure is reported once there is a port to report it through, and if there is none, it is why.
        let mut loaded = assignment.as_ref().map_or(Ok(()), |assignment| modules::load(&assignment.modules));
        let port = port::open().map_err(|fault| match std::mem::replace(&mut loaded, Ok(())) {
            Ok(()) => Failure { step: Step::Start, fault },
            Err(cause) => Failure { step: Step::Modules, fault: cause },
        })?;
        self.connect(port).map_err(at(Step::Start))?;
        settings::protect().map_err(at(Step::Start))?;
        let assignment = assignment.map_err(at(Step::Start))?;
        self.step(Step::Modules, || loaded)?;
        self.bring_up(&assignment)
    }

    /// Starts everything that talks to the host.
    fn connect(&self, port: File) -> Result<(), Fault> {
        let listening = port.try_clone().map_err(fault::io("share", hangproof_wire::PORT))?;
        self.outbox.send(&hello());
        self.outbox.start(port)?;
        beat::start(Arc::clone(&self.clocks), self.outbox.clone())?;
        kmsg::start(Arc::clone(&self.clocks))?;
        requests::start(listening, self.outbox.clone(), Arc::clone(&self.clocks), Arc::clone(&self.hierarchy))
    }

    fn bring_up(&self, assignment: &Assignment) -> Result<(Report, Child), Failure> {
        // Beside the array: it doesn't need the root, and every program takes its time under TCG.
        let network = Beside::start("network", network::bring_up).map_err(|fault| Failure { step: Step::Network, fault })?;
        let (hierarchy, missing_sysctls) =
            self.step(Step::Settings, || Ok((cgroup::bring_up(assignment.cgroup)?, settings::write(&assignment.sysctls)?)))?;
        let _ = self.hierarchy.set(hierarchy);
        reclaims::bring_up();
        let device = self.step(Step::Array, || array::bring_up(&assignment.root))?;
        self.step(Step::Root, || mounts::root(device).and_then(|()| mounts::inside()))?;
        self.step(Step::Payload, || payload::lay_over(Path::new(PAYLOAD), Path::new(mounts::ROOT)))?;
        self.step(Step::Network, || network.end())?;
        let (host_key, server) = self.step(Step::Ssh, || {
            ssh::authorize(&assignment.authorized_key)?;
            let host_key = ssh::make_host_key(&assignment.host_key_seed)?;
            let server = ssh::start()?;
            probe::start(device, &self.clocks)?;
            Ok((host_key, server))
        })?;
        let root = match array::described(&assignment.root) {
            Some(array) => format!("{}, {array}", mounts::root_described()),
            None => mounts::root_described(),
        };
        let ready = Report::Ready { host_key, root, cgroup: hierarchy.number(), missing_sysctls, uptime_ms: uptime_ms() };
        Ok((ready, server))
    }

    fn step<T>(&self, step: Step, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Failure> {
        self.outbox.send(&Report::Step { step, uptime_ms: uptime_ms() });
        work().map_err(|fault| Failure { step, fault })
    }
}

fn read_assignment() -> Result<Assignment, Fault> {
    let text = fs::read(ASSIGNMENT).map_err(fault::io("read", ASSIGNMENT))?;
    Ok(serde_json::from_slice(&text)?)
}

fn hello() -> Report {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Report::Hello {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: read("/proc/version"),
        command_line: read("/proc/cmdline"),
        vmcoreinfo: Some(read("/sys/kernel/vmcoreinfo")).filter(|text| !text.is_empty()),
        uptime_ms: uptime_ms(),
    }
}

/// Collects dead children for ever: those whose parents died become PID 1's. The agent itself starts no more programs by now, so it takes no status
/// away from anybody.
fn reap(server: Option<Pid>) -> ! {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == server => mounts::say(&format!("hangproof-agent: the ssh server ended: {status:?}")),
            Ok(_) => {}
            // No children at all, or interrupted.
            Err(_) => sleep(Duration::from_millis(500)),
        }
    }
}
