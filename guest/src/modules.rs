//! Kernel modules of a vendor's own kernel, loaded in the order that the host gives. It resolves no dependencies.

use std::fs::File;

use rustix::io::Errno;
use rustix::system::finit_module;

use crate::fault::{self, Fault};

/// Loads modules; one that is already there is fine.
pub fn load(paths: &[String]) -> Result<(), Fault> {
    for path in paths {
        let file = File::open(path).map_err(fault::io("open module", path))?;
        match finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(fault::io("load module", path)(cause)),
        }
    }
    Ok(())
}
