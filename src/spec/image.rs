//! From `images/*.yaml` to [`Image`].
//!
//! Checks what needs no tool: whether `mke2fs` is there, and whether the content fits, is for the module that makes images.
//!
//! Read [`check`] first.

use super::marks::Node;
use super::problem::nearest;
use super::sheet::Sheet;
use super::words::{self, Wrong, size, wrong};
use super::{Image, MemMib, Name, raw};

/// Features that a `mke2fs` of e2fsprogs 1.47 knows by these names (lib/e2p/feature.c), without `journal_dev`, which makes no filesystem.
const FEATURES: [&str; 37] = [
    "64bit",
    "bigalloc",
    "casefold",
    "dir_index",
    "dir_nlink",
    "dir_prealloc",
    "ea_inode",
    "encrypt",
    "exclude_bitmap",
    "ext_attr",
    "extent",
    "extents",
    "extra_isize",
    "fast_commit",
    "filetype",
    "flex_bg",
    "has_journal",
    "huge_file",
    "inline_data",
    "large_dir",
    "large_file",
    "lazy_bg",
    "meta_bg",
    "metadata_csum",
    "metadata_csum_seed",
    "mmp",
    "needs_recovery",
    "orphan_file",
    "project",
    "quota",
    "resize_inode",
    "shared_blocks",
    "sparse_super",
    "sparse_super2",
    "stable_inodes",
    "uninit_bg",
    "verity",
];

/// Smallest filesystem: below it mke2fs makes no journal worth the name, and the content doesn't fit.
const SMALLEST: MemMib = MemMib(64);

/// Largest filesystem: its sparse file has to be possible on any host filesystem.
const LARGEST: MemMib = MemMib(1024 * 1024);

/// Checks one file. `None` when something is missing without which there is no image; then the sheet says what.
pub(super) fn check(raw: raw::Image, marks: &Node, sheet: &mut Sheet, name: Option<Name>) -> Option<Image> {
    let raw::Image { name: _, description, layout, size: written, features, programs } = raw;
    let description = sheet.description(description, marks);
    let layout = sheet.required(layout, marks, "layout");
    let size = sheet.required(written, marks, "size");
    let size = size.and_then(|raw::Word(text)| sheet.value(filesystem_size(&text), marks.at("size").place));
    let features = sheet.required(features, marks, "features");
    let features = sheet.each_once(features, marks, "features", feature);
    let programs = sheet.host_programs(programs, marks, "programs");
    Some(Image { name: name?, description: description?, defined_in: sheet.path.clone(), layout: layout?, size: size?, features, programs })
}

fn filesystem_size(text: &str) -> Result<MemMib, Wrong> {
    match size(text)? {
        size if size < SMALLEST => wrong(format!("a filesystem of {text} is too small"), "write 64 MiB or more"),
        size if size > LARGEST => wrong(format!("a filesystem of {text} is too large"), "write 1 TiB or less"),
        size => Ok(size),
    }
}

fn feature(text: &str) -> Result<String, words::Wrong> {
    if FEATURES.contains(&text) {
        return Ok(text.to_owned());
    }
    let remedy = nearest(text, FEATURES);
    let remedy = if remedy.starts_with("did") { remedy } else { "write a feature of `man 5 ext4`, without `^`".to_owned() };
    wrong(format!("mke2fs has no feature {text:?}"), remedy)
}
