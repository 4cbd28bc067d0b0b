//! Kernel settings below `/proc/sys`, and the agent's own protection against what the reproducer does to the guest's memory.

use std::fs;
use std::io;
use std::path::{Component, Path};

use rustix::mm::{MlockAllFlags, mlockall};

use crate::fault::{self, Fault};

/// Writes settings and returns those that this kernel doesn't have.
pub fn write(settings: &[(String, String)]) -> Result<Vec<String>, Fault> {
    let mut missing = Vec::new();
    for (name, value) in settings {
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Fault::Setting(name.clone()));
        }
        let path = Path::new("/proc/sys").join(name);
        match fs::write(&path, value) {
            Ok(()) => {}
            // procfs has no creat: a name that doesn't exist is ENOENT, or EACCES from O_CREAT on older kernels.
            Err(cause) if !path.exists() || cause.kind() == io::ErrorKind::NotFound => missing.push(name.clone()),
            Err(cause) => return Err(fault::io("write setting", &path)(cause)),
        }
    }
    Ok(missing)
}

/// Keeps the agent's memory from being reclaimed and the agent from being chosen by the OOM killer.
pub fn protect() -> Result<(), Fault> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(fault::io("lock memory of", "/init"))?;
    fs::write("/proc/self/oom_score_adj", "-1000").map_err(fault::io("write", "/proc/self/oom_score_adj"))
}
