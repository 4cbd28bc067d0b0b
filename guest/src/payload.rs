//! Copies what the host packed for this trial over the root filesystem. It keeps relative paths, modes and symbolic links, replaces files that are
//! there, and removes nothing else.

use std::fs;
use std::io;
use std::path::Path;

use crate::fault::{self, Fault};

/// Lays the tree `from` over the tree `to`. A missing `from` is an empty one.
pub fn lay_over(from: &Path, to: &Path) -> Result<(), Fault> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(fault::io("list", from)(cause)),
    };
    for entry in entries {
        let source = entry.map_err(fault::io("list", from))?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        let meta = source.symlink_metadata().map_err(fault::io("look at", &source))?;
        if meta.is_dir() {
            // A folder that is there keeps its mode; it may be a link (/lib).
            if !target.is_dir() {
                fs::create_dir(&target).map_err(fault::io("create", &target))?;
                fs::set_permissions(&target, meta.permissions()).map_err(fault::io("set the mode of", &target))?;
            }
            lay_over(&source, &target)?;
            continue;
        }
        // Never through a link: /bin/x may be a link to busybox.
        match fs::remove_file(&target) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(fault::io("replace", &target)(cause)),
            _ => {}
        }
        if meta.is_symlink() {
            let aim = fs::read_link(&source).map_err(fault::io("read link", &source))?;
            std::os::unix::fs::symlink(aim, &target).map_err(fault::io("link", &target))?;
        } else {
            fs::copy(&source, &target).map_err(fault::io("copy to", &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_replaces_a_link_and_folders_stay() {
        let base = std::env::temp_dir().join(format!("hangproof-agent-payload-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("usr/bin")).unwrap();
        fs::create_dir_all(to.join("usr/bin")).unwrap();
        fs::write(to.join("usr/bin/busybox"), "busybox").unwrap();
        symlink("busybox", to.join("usr/bin/x")).unwrap();
        fs::write(from.join("usr/bin/x"), "program").unwrap();
        fs::set_permissions(from.join("usr/bin/x"), fs::Permissions::from_mode(0o751)).unwrap();
        symlink("x", from.join("usr/bin/y")).unwrap();
        lay_over(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("usr/bin/busybox")).unwrap(), "busybox");
        assert_eq!(fs::read_to_string(to.join("usr/bin/y")).unwrap(), "program");
        assert_eq!(fs::metadata(to.join("usr/bin/x")).unwrap().permissions().mode() & 0o777, 0o751);
        lay_over(&base.join("nothing"), &to).unwrap();
        fs::remove_dir_all(base).unwrap();
    }
}
