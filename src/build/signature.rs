//! A signature of what a kernel consists of, to see that a patch changed nothing.
//!
//! It covers the names and contents of the sections that are loaded, and nothing else: debug information and the build id may differ. It tells
//! that two kernels are the same, not that they behave differently: a comment that moves a line number in `__bug_table` counts as a change.
//!
//! Read [`of`] first.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use object::elf::SHF_ALLOC;
use object::{Object as _, ObjectSection as _, ReadCache, SectionFlags};

/// The signature of a vmlinux, in hex.
///
/// # Errors
/// When it is no ELF file; the text says what is wrong.
pub fn of(vmlinux: &Path) -> Result<String, String> {
    let file = File::open(vmlinux).map_err(|cause| cause.to_string())?;
    let cache = ReadCache::new(BufReader::new(file));
    let elf = object::File::parse(&cache).map_err(|cause| cause.to_string())?;
    let mut hasher = blake3::Hasher::new();
    for section in elf.sections() {
        let name = section.name().map_err(|cause| cause.to_string())?;
        let allocated = matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(SHF_ALLOC));
        // The build id is a hash over debug information too.
        if !allocated || name == ".notes" {
            continue;
        }
        let data = section.data().map_err(|cause| cause.to_string())?;
        hasher.update(name.as_bytes()).update(&[0]).update(&section.size().to_le_bytes()).update(data);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
