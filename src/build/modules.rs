//! Which modules of a prebuilt kernel a guest needs, and in which order they are loaded: a pure function of depmod's tables.
//!
//! Nothing is unpacked or loaded here, and nothing is known of packages.
//!
//! Read [`Tables`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Drivers without which no guest gets ready, modules or built in: the way to the agent first, so that it can tell what fails after it.
pub const REQUIRED: [&str; 6] = ["virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "raid1", "ext4"];

/// What workloads like to have, if the kernel does.
pub const WELCOME: [&str; 2] = ["virtio_rng", "loop"];

/// What depmod found out about a kernel's modules (modules.dep(5)). A module's name is its file's without the ending, with `_` for every `-`.
#[derive(Debug, Default)]
pub struct Tables {
    /// File, relative to the kernel's folder, and the names of the modules that it uses.
    modules: BTreeMap<String, (PathBuf, Vec<String>)>,
    /// Names of modules by another name of theirs; patterns are left out.
    aliases: BTreeMap<String, Vec<String>>,
    /// What has to be loaded before a module though it uses none of its symbols.
    before: BTreeMap<String, Vec<String>>,
    built_in: BTreeSet<String>,
}

/// A module to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its file, relative to the kernel's folder.
    pub file: PathBuf,
}

impl Tables {
    /// Reads `modules.dep`, `modules.alias` and `modules.softdep`, one behind the other as `depmod -n` prints them, and `modules.builtin`.
    ///
    /// # Errors
    /// With the line that names a file outside of the kernel's folder.
    pub fn read(tables: &str, built_in: &str) -> Result<Self, String> {
        let mut read = Self { built_in: built_in.lines().filter_map(|line| name_of(Path::new(line.trim()))).collect(), ..Self::default() };
        for line in tables.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("alias"), Some(alias)) => {
                    let is_plain = !alias.contains(['*', '?', '[']);
                    let module = words.next().filter(|_| is_plain);
                    read.aliases.entry(underscored(alias)).or_default().extend(module.map(underscored));
                }
                (Some("softdep"), Some(module)) => {
                    let before = words.skip_while(|word| *word != "pre:").skip(1).take_while(|word| *word != "post:");
                    read.before.entry(underscored(module)).or_default().extend(before.map(underscored));
                }
                (Some(first), second) => {
                    let Some(file) = first.strip_suffix(':') else { continue };
                    let inside = |file: &str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
                    if !inside(file) {
                        return Err(line.to_owned());
                    }
                    let Some(name) = name_of(Path::new(file)) else { continue };
                    let uses = second.into_iter().chain(words).filter_map(|used| name_of(Path::new(used))).collect();
                    read.modules.insert(name, (PathBuf::from(file), uses));
                }
                (None, _) => {}
            }
        }
        Ok(read)
    }

    /// The modules that a guest needs, each after what it needs itself. Built-in ones need no loading.
    ///
    /// # Errors
    /// With the names of required drivers, and of modules that others use, which are neither there nor built in.
    pub fn order(&self) -> Result<Vec<Module>, Vec<String>> {
        let mut order = Order { tables: self, seen: BTreeSet::new(), modules: Vec::new(), missing: Vec::new() };
        REQUIRED.iter().for_each(|name| order.add(name, 0));
        let welcome = WELCOME.into_iter().filter(|name| self.modules.contains_key(*name));
        welcome.for_each(|name| order.add(name, 0));
        if order.missing.is_empty() { Ok(order.modules) } else { Err(order.missing) }
    }
}

/// Most modules that need each other in a row; Debian 12's deepest have ten. The table is the package's, and it may be anybody's.
const DEEPEST: usize = 100;

struct Order<'a> {
    tables: &'a Tables,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
    missing: Vec<String>,
}

impl Order<'_> {
    fn add(&mut self, name: &str, depth: usize) {
        if depth > DEEPEST {
            self.missing.push(format!("an end to what {name} is needed for"));
            return;
        }
        if self.tables.built_in.contains(name) || !self.seen.insert(name.to_owned()) {
            return;
        }
        let Some((file, uses)) = self.tables.modules.get(name) else {
            self.missing.push(name.to_owned());
            return;
        };
        let before = self.tables.before.get(name).into_iter().flatten().filter_map(|wish| self.wished(wish));
        before.collect::<Vec<_>>().iter().chain(uses).for_each(|name| self.add(name, depth + 1));
        self.modules.push(Module { name: name.to_owned(), file: file.clone() });
    }

    /// The module that a wish is met by, if it has to be loaded. `crc32c` may be met by several, of which the one for any processor always loads.
    fn wished(&self, wish: &str) -> Option<String> {
        if self.tables.built_in.contains(wish) || self.tables.built_in.contains(&format!("{wish}_generic")) {
            return None;
        }
        let candidates = || std::iter::once(wish).chain(self.tables.aliases.get(wish).into_iter().flatten().map(String::as_str));
        let there = || candidates().filter(|name| self.tables.modules.contains_key(*name));
        there().find(|name| name.ends_with("_generic")).or_else(|| there().next()).map(str::to_owned)
    }
}

/// `kernel/drivers/md/md-mod.ko.xz` is `md_mod`.
fn name_of(file: &Path) -> Option<String> {
    let (name, _) = file.file_name()?.to_str()?.split_once(".ko")?;
    Some(underscored(name))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const BUILT_IN: &str = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/net/virtio_net.ko\n";

    const TABLES: &str = "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/drivers/char/virtio_console.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
kernel/drivers/md/raid1.ko.xz: kernel/drivers/md/md-mod.ko.xz
kernel/drivers/md/md-mod.ko.xz:
kernel/drivers/net/e1000.ko.xz:
kernel/fs/ext4/ext4.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/crypto/crc32c-intel.ko.xz:
# Aliases extracted from modules themselves.
alias crc32c crc32c_intel
alias crc32c crc32c_generic
alias virtio:d00000002v* virtio_blk
softdep ext4 pre: crc32c crc16 post: lz4
";

    fn names(order: &[Module]) -> Vec<&str> {
        order.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn each_module_comes_after_what_it_needs() {
        let order = Tables::read(TABLES, BUILT_IN).unwrap().order().unwrap();
        let expected = ["virtio_ring", "virtio", "virtio_console", "virtio_blk", "md_mod", "raid1", "crc32c_generic", "ext4", "virtio_rng"];
        assert_eq!(names(&order), expected);
        assert_eq!(order[0].file, Path::new("kernel/drivers/virtio/virtio_ring.ko.xz"));
    }

    #[test]
    fn what_is_neither_there_nor_built_in_is_named() {
        let without = TABLES.replace("kernel/drivers/block/virtio_blk.ko.xz:", "#").replace("kernel/drivers/md/md-mod.ko.xz:\n", "");
        assert_eq!(Tables::read(&without, BUILT_IN).unwrap().order(), Err(vec!["virtio_blk".to_owned(), "md_mod".to_owned()]));
        let none = REQUIRED.map(str::to_owned).to_vec();
        assert_eq!(Tables::read("", "").unwrap().order(), Err(none));
    }

    #[test]
    fn a_table_may_go_in_circles_but_not_out() {
        let circle = TABLES.replace("md-mod.ko.xz:\n", "md-mod.ko.xz: kernel/drivers/md/raid1.ko.xz\n");
        assert!(Tables::read(&circle, BUILT_IN).unwrap().order().is_ok());
        for line in ["../../../etc/raid1.ko:", "/etc/raid1.ko: x.ko"] {
            assert_eq!(Tables::read(line, "").unwrap_err(), line);
        }
    }
}
