//! Finds out what runs a guest on this machine, by running one.
//!
//! `/dev/kvm` can exist, open and even create a VM and still not run a guest: the vCPU spins for ever, or `-cpu host` dies on a register. So a
//! boot sector is booted under KVM, with the processor model that trials use, and has to end QEMU through its debug-exit device with a number of
//! our choice, within a deadline. Anything else means TCG, with the reason, if that
//! boots it.
//!
//! Read [`probe`] first.

use std::path::Path;
use std::time::Duration;

use super::args::Accelerator;
use super::qemu::{find_qemu, program};
use super::{Vm, VmError};
use crate::program::{Deadline, ProgramError};

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What runs guests here.
    pub accelerator: Accelerator,
    /// Why, for the user.
    pub reason: String,
}

/// From QEMU's start to the boot sector's end, of which SeaBIOS takes most: 0.2 s under KVM, and 1 s under TCG on a loaded machine. A KVM that doesn't run
/// guests is waited for so long at each start, while a machine without TCG is worth no trial.
const fn deadline(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(5),
        Accelerator::Tcg => Duration::from_secs(60),
    }
}

/// What the boot sector writes to the debug-exit device.
const WORD: u8 = 0x15;

/// QEMU's exit status for it: `(value << 1) | 1` (QEMU, hw/misc/debugexit.c).
const STATUS: i32 = (WORD as i32) << 1 | 1;

/// Chooses the accelerator by booting something in `folder`.
///
/// # Errors
/// When QEMU isn't installed, or boots the probe neither under KVM nor under TCG.
pub async fn probe(folder: &Path) -> Result<Probed, VmError> {
    let qemu = find_qemu()?;
    let sector = folder.join("probe.img");
    std::fs::write(&sector, boot_sector()).map_err(VmError::io(format!("writing {}", sector.display())))?;
    let reason = if Path::new("/dev/kvm").exists() {
        match boots(&qemu, &sector, Accelerator::Kvm).await {
            Ok(()) => return Ok(Probed { accelerator: Accelerator::Kvm, reason: "a guest booted under KVM".to_owned() }),
            Err(trouble) => format!("/dev/kvm is there, but {trouble}"),
        }
    } else {
        "there is no /dev/kvm".to_owned()
    };
    match boots(&qemu, &sector, Accelerator::Tcg).await {
        Ok(()) => Ok(Probed { accelerator: Accelerator::Tcg, reason }),
        Err(trouble) => Err(VmError::RunsNothing { qemu, trouble }),
    }
}

/// Boots the sector once. The error says what happened instead.
///
/// # Errors
/// When the guest did not run to its end within the deadline.
pub async fn boots(qemu: &Path, sector: &Path, accelerator: Accelerator) -> Result<(), String> {
    let model = match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    };
    let mut drive = std::ffi::OsString::from("if=ide,format=raw,readonly=off,snapshot=on,file=");
    drive.push(sector.to_string_lossy().replace(',', ",,"));
    let mut program = program(qemu).within(Deadline::Total(deadline(accelerator)));
    program
        .command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc", "-m", "16M"])
        .args(["-accel", accelerator.name(), "-cpu", model, "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"])
        .arg(drive)
        .env("TMPDIR", sector.parent().unwrap_or(Path::new("/tmp")));
    match program.output().await {
        Ok(output) if output.status.code() == Some(STATUS) => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("QEMU ended with {}: {}", output.status, said.lines().next().unwrap_or("(no message)")))
        }
        Err(error @ (ProgramError::Missing { .. } | ProgramError::Start { .. } | ProgramError::Failed { .. })) => Err(error.to_string()),
        Err(ProgramError::Late(_)) => Err(format!(
            "a guest that was booted under {} didn't answer within {} s",
            accelerator.name().to_uppercase(),
            deadline(accelerator).as_secs()
        )),
    }
}

/// 512 bytes that write [`WORD`] to port 0xf4 and halt.
fn boot_sector() -> [u8; 512] {
    let code = [
        0xfa, // cli
        0xba, 0xf4, 0x00, // mov dx, 0xf4
        0xb0, WORD, // mov al, WORD
        0xee, // out dx, al
        0xf4, // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

impl Vm {
    /// The loopback port that leads to the guest's ssh server; none for a replayed VM.
    #[must_use]
    pub fn ssh_port(&self) -> Option<u16> {
        match self {
            Self::Qemu(vm) => Some(vm.ssh_port()),
            Self::Replay(_) => None,
        }
    }
}
