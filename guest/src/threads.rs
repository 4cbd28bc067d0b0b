//! How the agent starts threads. Each is called `hp-NAME` in the task list, so that the agent is told from the guest's own tasks.
//!
//! Read [`spawn`] first.

use std::thread;

use rustix::process::setpriority_process;

use crate::fault::{self, Fault};

/// Stack of the agent's threads. All memory is locked, so the default of 2 MiB each would be 2 MiB each.
const STACK: usize = 256 * 1024;

/// The highest priority of an ordinary task (`setpriority(2)`).
const URGENT: i32 = -20;

/// Starts a thread that runs before the guest's tasks do: the guest's processors may be busier than the guest is sick, and the host has to be able to tell.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    spawn_ordinary(name, move || {
        // The calling thread only: Linux has a priority for each. If it can't be had, the thread is late rather than missing.
        let _ = setpriority_process(None, URGENT);
        work();
    })
}

/// Starts a thread that waits for its turn like any task of the guest.
pub fn spawn_ordinary(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let thread = thread::Builder::new().name(format!("hp-{name}")).stack_size(STACK).spawn(work);
    thread.map(drop).map_err(fault::io("start thread", name))
}
