//! The guest's end of QEMU's user network, through busybox: a fixed address, so there is no DHCP to wait for.

use std::process::Command;

use crate::fault::{self, Fault};

/// Addresses of QEMU's user network (`-netdev user`): the guest is 10.0.2.15, the gateway 10.0.2.2.
const COMMANDS: &str = "ifconfig lo 127.0.0.1 up && ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up && route add default gw 10.0.2.2";

/// Brings loopback and the network card up.
pub fn bring_up() -> Result<(), Fault> {
    fault::run(Command::new("/usr/bin/busybox").args(["sh", "-c", COMMANDS])).map(drop)
}
