//! PID 1 of hangproof's initramfs.
//!
//! It brings the root filesystem under test up, starts an ssh server inside it, and from then on tells the host over virtio-serial that the
//! guest is alive and whether its filesystem still makes progress. It judges nothing, it never reboots or powers off (the host ends the VM), and
//! its heartbeat touches nothing but memory. Run by anybody else than the kernel it only offers `chroot-exec`, through which it starts programs
//! inside the root filesystem.
//!
//! Read [`boot`] first: the order of things; then [`beat`], the two clocks.

mod array;
mod beat;
mod boot;
mod cgroup;
mod clock;
mod fault;
mod inside;
mod kmsg;
mod look;
mod modules;
mod mounts;
mod network;
mod outbox;
mod payload;
mod port;
mod probe;
mod reclaims;
mod requests;
mod settings;
mod ssh;
mod tasks;
mod threads;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == inside::COMMAND) {
        return inside::exec(arguments);
    }
    if !rustix::process::getpid().is_init() {
        mounts::say("hangproof-agent is PID 1 of an initramfs and does nothing here: boot it with `hangproof shell`");
        return ExitCode::from(2);
    }
    boot::run()
}
