//! What a program of the host needs to run in a guest: its interpreter and libraries, read from the ELF files.
//!
//! Nothing is executed, unlike with `ldd`: a program in a definition may be anybody's. Libraries that a program opens by itself at run time
//! (plug-ins) are not seen.
//!
//! Read [`of`] first.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, ReadCache, ReadRef};

use super::{ImageError, failed};

/// Where the dynamic linker of Debian and of most others looks without being told (`ld.so(8)`), in its order.
const SYSTEM_FOLDERS: [&str; 6] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Where libraries are put that the host finds through `/etc/ld.so.conf` only: the guest has no such file.
const GUEST_LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Files by their path in the guest, with the host's file that becomes each.
pub type Closure = BTreeMap<PathBuf, PathBuf>;

/// The program itself and all files that it needs. A file that is no ELF program (a script) needs nothing that is known here.
///
/// # Errors
/// When a file can't be read or a library is missing.
pub fn of(program: &Path) -> Result<Closure, ImageError> {
    let configured = configured_folders(Path::new("/etc/ld.so.conf"), 0);
    let mut closure = Closure::new();
    let mut waiting = VecDeque::from([(program.to_owned(), real(program)?)]);
    while let Some((guest, host)) = waiting.pop_front() {
        let file = File::open(&host).map_err(failed("read", &host))?;
        // A library may have tens of megabytes, of which a few pages tell what it needs.
        let needs = Needs::read(&ReadCache::new(file)).map_err(|cause| ImageError::Elf { path: host.clone(), cause })?;
        closure.insert(guest, host.clone());
        if let Some(interpreter) = needs.interpreter.filter(|interpreter| !closure.contains_key(interpreter)) {
            waiting.push_back((interpreter.clone(), real(&interpreter)?));
        }
        for library in needs.libraries {
            let folders = needs.folders.iter().map(|folder| expand(folder, &host));
            let (guest, host) = find(&library, folders, &configured)
                .ok_or_else(|| ImageError::Library { program: program.to_owned(), library: library.clone() })?;
            if !closure.contains_key(&guest) && !waiting.iter().any(|(waits, _)| *waits == guest) {
                waiting.push_back((guest, host));
            }
        }
    }
    Ok(closure)
}

/// What one ELF file asks for.
#[derive(Debug, Default)]
struct Needs {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    /// `DT_RUNPATH` or `DT_RPATH`, with `$ORIGIN` as it is written.
    folders: Vec<String>,
}

impl Needs {
    fn read<'a>(bytes: impl ReadRef<'a>) -> object::Result<Self> {
        if bytes.read_bytes_at(0, 4) != Ok(&object::elf::ELFMAG) {
            return Ok(Self::default());
        }
        let header = FileHeader64::<Endianness>::parse(bytes)?;
        let endian = header.endian()?;
        let mut needs = Self::default();
        for segment in header.program_headers(endian, bytes)? {
            if let Some(path) = segment.interpreter(endian, bytes)? {
                needs.interpreter = Some(PathBuf::from(text(path)));
            }
        }
        let table = ElfFile64::<Endianness, _>::parse(bytes)?.elf_dynamic_table()?;
        for entry in &table {
            if entry.tag == DT_NEEDED {
                needs.libraries.push(text(table.string(entry)?));
            } else if entry.tag == DT_RUNPATH || entry.tag == DT_RPATH {
                needs.folders.extend(text(table.string(entry)?).split(':').map(str::to_owned));
            }
        }
        Ok(needs)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn real(path: &Path) -> Result<PathBuf, ImageError> {
    path.canonicalize().map_err(failed("find", path))
}

/// `$ORIGIN` is the folder of the file that asks.
fn expand(folder: &str, host: &Path) -> PathBuf {
    let origin = host.parent().unwrap_or(Path::new("/")).to_string_lossy();
    PathBuf::from(folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
}

/// Looks in the folders that the file names, the linker's own, and the configured ones, as the linker does.
fn find(library: &str, named: impl Iterator<Item = PathBuf>, configured: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
    let in_place = named.chain(SYSTEM_FOLDERS.map(PathBuf::from)).map(|folder| (folder.clone(), folder));
    let moved = configured.iter().map(|folder| (PathBuf::from(GUEST_LIBRARIES), folder.clone()));
    in_place.chain(moved).find_map(|(guest, host)| {
        let file = host.join(library);
        let bytes = file.canonicalize().ok().filter(|file| file.is_file())?;
        // `/usr/lib/x/../y` would be no path of a guest.
        let guest = if guest == host { host.canonicalize().ok()? } else { guest };
        Some((guest.join(Path::new(library).file_name()?), bytes))
    })
}

/// The folders of `ld.so.conf` and what it includes.
fn configured_folders(file: &Path, depth: u8) -> Vec<PathBuf> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    let folders = lines.flat_map(|line| match line.strip_prefix("include ") {
        // The file's own depth of includes is 1 everywhere; a loop ends here.
        Some(pattern) if depth < 4 => {
            included(Path::new(pattern.trim())).iter().flat_map(|file| configured_folders(file, depth + 1)).collect()
        }
        Some(_) => Vec::new(),
        None => vec![PathBuf::from(line)],
    });
    folders.collect()
}

/// The files of a pattern like `/etc/ld.so.conf.d/*.conf`: the only form in use.
fn included(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else { return Vec::new() };
    let Some(suffix) = name.strip_prefix('*') else { return vec![pattern.to_owned()] };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_brings_its_linker_and_libraries() {
        let shell = of(Path::new("/bin/sh")).unwrap();
        let has = |name: &str| shell.keys().any(|path| path.to_string_lossy().contains(name));
        assert!(has("ld-linux") && has("libc.so.6") && has("/bin/sh"), "{shell:?}");
        assert!(shell.values().all(|host| host.is_file()));
    }

    #[test]
    fn a_script_is_itself_only_and_rubbish_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        assert_eq!(of(&script).unwrap().len(), 1);
        let rubbish = folder.path().join("rubbish");
        fs::write(&rubbish, b"\x7fELF and nothing").unwrap();
        assert!(matches!(of(&rubbish), Err(ImageError::Elf { .. })));
        assert!(matches!(of(&folder.path().join("missing")), Err(ImageError::Io { .. })));
    }

    #[test]
    fn origin_is_the_folder_of_the_file() {
        assert_eq!(expand("$ORIGIN/../lib", Path::new("/opt/x/bin/x")), Path::new("/opt/x/bin/../lib"));
        assert_eq!(expand("${ORIGIN}", Path::new("/opt/x")), Path::new("/opt"));
    }
}
