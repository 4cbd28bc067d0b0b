//! QEMU's command line as a pure function of what the VM is to be.
//!
//! Nothing is started, opened or looked up here, so that a snapshot test shows every argument. All paths are escaped for QEMU's option
//! parser, in which a comma ends a value.
//!
//! Read [`Invocation`] first.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::spec::Machine;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: works everywhere, and is slow.
    Tcg,
}

impl Accelerator {
    /// Its name, as QEMU spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The factor by which deadlines are stretched. TCG's comes from boots of the same 6.1 kernel: 3.7 s under TCG on 2 cores; a factor
    /// of 2 over the definitions' values, which are chosen for a loaded KVM host, left every boot a tenfold margin.
    #[must_use]
    pub fn scale(self) -> f64 {
        match self {
            Self::Kvm => 1.0,
            Self::Tcg => 2.0,
        }
    }
}

/// What a VM is to be.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// What runs the instructions.
    pub accelerator: Accelerator,
    /// CPUs and memory.
    pub machine: Machine,
    /// The kernel's bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// Kernel command line additions.
    pub boot_arguments: Vec<String>,
    /// Raw disk images, in order of their virtio names; none is written to.
    pub disks: Vec<PathBuf>,
    /// Folder with the unix sockets that hangproof listens on: see [`Socket`].
    pub sockets: PathBuf,
    /// Loopback port that leads to the guest's ssh server; QEMU chooses a free one when none is given.
    pub ssh_port: Option<u16>,
}

/// A unix socket between QEMU and hangproof. hangproof listens, QEMU connects: so there is nothing to poll for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// The serial console.
    Console,
    /// The agent's virtio-serial port.
    Agent,
    /// QMP.
    Qmp,
    /// A second QMP session, for when the first has timed out.
    QmpSpare,
}

impl Socket {
    /// All sockets.
    pub const ALL: [Self; 4] = [Self::Console, Self::Agent, Self::Qmp, Self::QmpSpare];

    /// Its file name.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Agent => "agent",
            Self::Qmp => "qmp",
            Self::QmpSpare => "qmp2",
        }
    }
}

/// The kernel arguments that every trial has. `panic=-1` reboots at once and `-no-reboot` turns that into QEMU's end; `oops=panic` makes the
/// first oops the last event; `loglevel=6` keeps task lists and OOM statistics (info) off the slow serial line but in the kernel log, which the
/// agent reads; `log_buf_len` holds a list of some hundred tasks.
const BOOT_ARGUMENTS: [&str; 8] =
    ["console=ttyS0,115200", "nokaslr", "panic=-1", "oops=panic", "loglevel=6", "log_buf_len=4M", "random.trust_cpu=on", "rdinit=/init"];

/// QEMU's arguments.
#[must_use]
pub fn arguments(vm: &Invocation) -> Vec<OsString> {
    let mut line = Line::default();
    line.words(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // A guest that panics tells QEMU so before its console has printed why; it ends by itself, by its reboot.
    line.words(["-action", "panic=none"]);
    // Its threads have names then: `CPU 0/KVM`.
    line.words(["-name", "hangproof,debug-threads=on", "-machine", "pc"]);
    match vm.accelerator {
        Accelerator::Kvm => line.words(["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => line.words(["-accel", "tcg,thread=multi", "-cpu", "max"]),
    }
    line.words(["-smp", &vm.machine.cpus.to_string(), "-m", &format!("{}M", vm.machine.memory.0)]);
    line.word("-kernel").path("", &vm.kernel);
    line.word("-initrd").path("", &vm.initrd);
    line.words(["-append", &command_line(vm.accelerator, &vm.boot_arguments)]);
    for (number, disk) in vm.disks.iter().enumerate() {
        // snapshot=on: QEMU writes to an unlinked temporary file (in TMPDIR, the trial's folder), which vanishes with it however it ends.
        // werror/rerror=stop: a full host disk stops the guest and says so through QMP, instead of showing the guest a broken disk.
        line.word("-drive")
            .option(&format!("if=none,id=disk{number},format=raw,snapshot=on,cache=unsafe,werror=stop,rerror=stop,file="), disk);
        line.words(["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
    }
    let port = vm.ssh_port.unwrap_or(0);
    line.words(["-netdev", &format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")]);
    line.words(["-device", "virtio-net-pci,netdev=net,romfile="]);
    line.words(["-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"]);
    for socket in Socket::ALL {
        line.word("-chardev").option(&format!("socket,id={},server=off,path=", socket.file()), &vm.sockets.join(socket.file()));
    }
    line.words(["-serial", "chardev:console"]);
    line.words(["-device", "virtio-serial-pci", "-device"]);
    line.word(&format!("virtserialport,chardev=agent,name={}", hangproof_wire::PORT));
    line.words(["-mon", "chardev=qmp,mode=control", "-mon", "chardev=qmp2,mode=control"]);
    line.words(["-device", "pvpanic"]);
    line.0
}

/// Routing interrupts by ACPI's byte code costs 0.2 to 0.5 s for each virtio device under TCG (measured on 6.1: agent's first word after 1.4 s instead
/// of 2.5 s); the MP table says the same. Under KVM it costs nothing, so there the guest is left as it is. On a loaded host the kernel's check that the
/// timer's interrupts arrive misses some, and panics (`IO-APIC + timer doesn't work!`, arch/x86/kernel/apic/io_apic.c); under KVM it leaves it out by itself.
const TCG_BOOT_ARGUMENTS: &[&str] = &["acpi=noirq", "no_timer_check"];

/// The kernel's command line.
#[must_use]
pub fn command_line(accelerator: Accelerator, additions: &[String]) -> String {
    let own: &[&str] = match accelerator {
        Accelerator::Kvm => &[],
        Accelerator::Tcg => TCG_BOOT_ARGUMENTS,
    };
    let words = BOOT_ARGUMENTS.into_iter().chain(own.iter().copied()).chain(additions.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn word(&mut self, word: &str) -> &mut Self {
        self.0.push(word.into());
        self
    }

    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    /// A word that is a path as a whole: not parsed by QEMU, so not escaped.
    fn path(&mut self, before: &str, path: &Path) {
        let mut word = OsString::from(before);
        word.push(path);
        self.0.push(word);
    }

    /// A word that ends in a path within an option list.
    fn option(&mut self, before: &str, path: &Path) {
        let mut word = OsString::from(before);
        word.push(escaped(path.as_os_str()));
        self.0.push(word);
    }
}

/// Doubles commas, QEMU's way of quoting them.
fn escaped(value: &OsStr) -> OsString {
    let doubled = value.as_bytes().iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MemMib;

    fn shown(vm: &Invocation) -> String {
        arguments(vm).iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    }

    fn vm() -> Invocation {
        Invocation {
            accelerator: Accelerator::Tcg,
            machine: Machine { cpus: 2, memory: MemMib(2048) },
            kernel: "/k/bzImage".into(),
            initrd: "/t/initrd".into(),
            boot_arguments: vec!["cgroup.memory=nokmem".into()],
            disks: vec!["/i/disk0.raw".into(), "/i,comma/disk1.raw".into()],
            sockets: "/t".into(),
            ssh_port: None,
        }
    }

    #[test]
    fn tcg() {
        insta::assert_snapshot!(shown(&vm()));
    }

    #[test]
    fn kvm_with_a_port() {
        insta::assert_snapshot!(shown(&Invocation { accelerator: Accelerator::Kvm, ssh_port: Some(2222), ..vm() }));
    }
}
