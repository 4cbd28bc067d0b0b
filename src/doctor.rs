//! What this machine has and lacks, found out by trying it.
//!
//! It installs nothing. Each check says what it found, and what to do where that is not enough.
//!
//! Read [`examine`].

use std::path::Path;

use comfy_table::{Table, presets};

use crate::image::programs;
use crate::run::cpus;
use crate::store::{self, Store};
use crate::vm::{find_qemu, probe};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// What was found.
    pub found: Result<String, String>,
}

impl Check {
    /// Whether it is enough.
    #[must_use]
    pub fn fine(&self) -> bool {
        self.found.is_ok()
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

/// Looks at everything.
pub async fn examine() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |what: &str, found: Result<String, String>| checks.push(Check { what: what.to_owned(), found });
    let memory = std::fs::read_to_string("/proc/meminfo").ok();
    let memory = memory.and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemAvailable:").map(|kib| kib.trim().to_owned())));
    add("host", Ok(format!("{} CPUs, {} of memory available", cpus(), memory.unwrap_or_default())));
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
    let store = Store::open();
    add("store", store.as_ref().map(|store| room(store.root())).map_err(ToString::to_string));
    add("scratch", Ok(room(&store::trial_folder())));
    checks
}

async fn accelerator() -> Result<String, String> {
    let scratch = store::trial_scratch().map_err(|error| error.to_string())?;
    let probed = probe::probe(scratch.path()).await.map_err(|error| error.to_string())?;
    Ok(format!("{}: {}", probed.accelerator.name(), probed.reason))
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
        let (mark, text) = match &check.found {
            Ok(text) => ("✓", text),
            Err(text) => ("✗", text),
        };
        table.add_row([mark, &check.what, text]);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
