//! What this machine has and lacks, found out by trying it.
//!
//! It installs nothing. Each check says what it found, and what to do where that is not enough.
//!
//! Read [`examine`].

use std::path::Path;

use comfy_table::{Table, presets};

use crate::build::Room;
use crate::image::programs;
use crate::program::find;
use crate::report::counted;
use crate::run::cpus;
use crate::store::{self, Store};
use crate::vm::args::Accelerator;
use crate::vm::probe::Probed;
use crate::vm::{find_qemu, probe};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// What was found.
    pub found: Result<String, String>,
    /// The only thing that needs it; none for what everybody needs.
    pub only_for: Option<&'static str>,
}

impl Check {
    /// Whether it is enough, for those who don't need what only some do.
    #[must_use]
    pub fn fine(&self) -> bool {
        self.found.is_ok() || self.only_for.is_some()
    }
}

/// Programs that building needs, with their Debian packages; what a certain configuration needs besides is found out by the build.
const BUILD: [(&str, &str); 9] = [
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("git", "git"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
];

/// Programs that some kernels need and others don't, with their Debian packages and what they are for.
const SOME: [(&str, &str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap", "kernels whose toolchain is `debian:` (CentOS 7's), to make the buildroot"),
    ("bwrap", "bubblewrap", "kernels whose toolchain is `debian:` or `container:`, to run compilers in it"),
    ("curl", "curl", "sources behind a URL (CentOS's packages, tarballs), to download them"),
    ("patch", "patch", "source packages (`srpm:`), to apply their own patches"),
    ("gpgv", "gpgv", "source packages (`srpm:`) with a `key`, to check their signature"),
    ("depmod", "kmod", "prebuilt kernels, to find out which modules a guest needs"),
    ("podman", "podman", "kernels whose toolchain is `container:`, to take the image's files (docker does as well)"),
];

/// Looks at everything.
pub async fn examine() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |what: &str, found: Result<String, String>| checks.push(Check { what: what.to_owned(), found, only_for: None });
    let memory = std::fs::read_to_string("/proc/meminfo").ok();
    add("host", Ok(host(cpus(), memory.as_deref().unwrap_or_default())));
    add("qemu", find_qemu().map(|path| path.display().to_string()).map_err(|error| error.to_string()));
    add("accelerator", accelerator().await);
    for (program, package) in BUILD {
        let found = crate::program::find(program).map(|path| path.display().to_string());
        add(program, found.ok_or_else(|| format!("missing: run `apt-get install {package}`")));
    }
    for needed in programs::ALL {
        let found = needed.find().map(|path| path.display().to_string());
        add(needed.program, found.ok_or_else(|| format!("missing: run `apt-get install {}`", needed.package)));
    }
    // What is made in them is removed again: a folder that isn't there, is read-only or belongs to somebody else has room, too.
    let store = Store::open().and_then(|store| store.work().map(|_| room(store.root())));
    add("store", store.map_err(|error| error.to_string()));
    let scratch = store::trial_scratch().map(|_| room(&store::trial_folder()));
    add("scratch", scratch.map_err(|error| error.to_string()));
    for needed in &SOME {
        let mut check = only_some(needed);
        if needed.0 == "bwrap" && check.found.is_ok() {
            check.found = Room::of_host().check().await.map_or_else(|error| Err(error.to_string()), |()| check.found);
        }
        checks.push(check);
    }
    checks
}

fn only_some((program, package, purpose): &(&'static str, &'static str, &'static str)) -> Check {
    // An ordinary user's PATH lacks the folder that depmod is in.
    let found = find(program).or_else(|| find(format!("/usr/sbin/{program}"))).map(|path| path.display().to_string());
    Check {
        what: (*program).to_owned(),
        found: found.ok_or_else(|| format!("missing: `apt-get install {package}`")),
        only_for: Some(purpose),
    }
}

async fn accelerator() -> Result<String, String> {
    let scratch = store::trial_scratch().map_err(|error| error.to_string())?;
    let probed = probe::probe(scratch.path()).await.map_err(|error| error.to_string())?;
    Ok(runs(&probed))
}

/// The machine; `meminfo` is what `/proc/meminfo` says, in KiB (proc(5)).
fn host(cpus: usize, meminfo: &str) -> String {
    let available =
        meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let memory = available.map_or_else(|| "an unknown amount".to_owned(), |kib| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)));
    format!("{}, {memory} of memory available", counted(cpus as u64, "CPU"))
}

/// What runs guests here, why, and what that means for times.
fn runs(probed: &Probed) -> String {
    let Probed { accelerator, reason } = probed;
    match accelerator {
        Accelerator::Kvm => format!("KVM: {reason}"),
        Accelerator::Tcg => format!(
            "TCG: {reason}, so QEMU translates the guests' instructions: they run some times slower, and limits of time are multiplied by {}",
            accelerator.scale()
        ),
    }
}

fn room(path: &Path) -> String {
    let free = rustix::fs::statvfs(path).map_or(0, |stat| (stat.f_bavail * stat.f_frsize) >> 30);
    format!("{} ({free} GiB free)", path.display())
}

/// The checks as a table.
#[must_use]
pub fn table(checks: &[Check]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for check in checks {
        let (mark, text) = match (&check.found, check.only_for) {
            (Ok(text), _) => ("✓", text),
            (Err(text), None) => ("✗", text),
            (Err(text), Some(_)) => ("-", text),
        };
        let only_for = check.only_for.map_or_else(String::new, |purpose| format!("; only for {purpose}"));
        table.add_row([mark, &check.what, &format!("{text}{only_for}")]);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accelerator_and_the_memory_are_told_plainly() {
        let probed = |accelerator, reason: &str| runs(&Probed { accelerator, reason: reason.to_owned() });
        let silent = "/dev/kvm is there, but a guest that was booted under KVM didn't answer within 5 s";
        let expected = format!(
            "TCG: {silent}, so QEMU translates the guests' instructions: they run some times slower, and limits of time are multiplied by 2"
        );
        assert_eq!(probed(Accelerator::Tcg, silent), expected);
        assert_eq!(probed(Accelerator::Kvm, "a guest booted under KVM"), "KVM: a guest booted under KVM");
        assert_eq!(host(1, "MemTotal: 9 kB\nMemAvailable:   24588012 kB\n"), "1 CPU, 23.4 GiB of memory available");
        assert_eq!(host(2, ""), "2 CPUs, an unknown amount of memory available");
    }

    #[test]
    fn what_only_some_need_is_said_and_is_no_fault() {
        let missing = only_some(&("no-such-program", "its-package", "kernels that need it"));
        assert!(missing.fine());
        let found = only_some(&("sh", "dash", "scripts"));
        let needed = Check { what: "gcc".to_owned(), found: Err("missing".to_owned()), only_for: None };
        assert!(found.fine() && !needed.fine());
        let place = found.found.clone().unwrap_or_default();
        let expected = format!(
            " -  no-such-program  missing: `apt-get install its-package`; only for kernels that need it\n \
             ✓  sh               {place}; only for scripts\n \
             ✗  gcc              missing\n"
        );
        assert_eq!(table(&[missing, found, needed]), expected);
    }
}
