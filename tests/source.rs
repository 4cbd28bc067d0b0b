//! Sources: hostile archives one by one, digests, git, folders, downloads, and strict patches.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/bench.rs"]
mod bench;
#[path = "common/web.rs"]
mod web;

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use bench::Bench;
use hangproof::event::Events;
use hangproof::source::stop::Stop;
use hangproof::source::{self, ArchiveError, Fetched, Limits, Provenance, Refusal, SourceError, decompressed, patch, unpack};
use hangproof::spec::{Location, Source};
use sha2::Digest as _;
use tar::EntryType;
use web::{Server, header};

// ---- archives

/// An entry of an archive for a test; written raw, because no decent tar writes most of these.
struct Entry<'a> {
    path: &'a str,
    kind: EntryType,
    link: &'a str,
    content: &'a [u8],
    mode: u32,
}

const FILE: Entry<'_> = Entry { path: "linux/file", kind: EntryType::Regular, link: "", content: b"text", mode: 0o644 };

/// 2020-09-13, a time that no test makes by chance.
const MTIME: u64 = 1_600_000_000;

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        raw.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_size(entry.content.len() as u64);
        header.set_mode(entry.mode);
        header.set_mtime(MTIME);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn unpacked(archive: &[u8], limits: Limits) -> (tempfile::TempDir, Result<(), ArchiveError>) {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    let result = decompressed(archive).and_then(|bytes| unpack(bytes, &into, limits, &Stop::default()));
    (folder, result)
}

/// Unpacks an archive of one decent file and `entries`, and wants them refused; returns which entry was and why.
fn refusal(entries: &[Entry<'_>], limits: Limits) -> (String, Refusal) {
    let all: Vec<_> = [&FILE].into_iter().chain(entries).map(|e| Entry { ..*e }).collect();
    let (folder, result) = unpacked(&archive(&all), limits);
    let outside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["into"]);
    match result.unwrap_err() {
        ArchiveError::Refused { entry, why } => (entry, why),
        other => panic!("{other}"),
    }
}

#[test]
fn a_decent_archive_is_unpacked_without_its_top_folder() {
    let entries = [
        Entry { path: "linux/", kind: EntryType::Directory, content: b"", mode: 0o755, ..FILE },
        Entry { path: "linux/mm/deep/file", ..FILE },
        Entry { path: "./linux/script", mode: 0o6777, ..FILE },
        Entry { path: "linux/mm/deep/link", kind: EntryType::Symlink, link: "../../script", content: b"", ..FILE },
        Entry { path: "linux/mm/dangling", kind: EntryType::Symlink, link: "../not/there", content: b"", ..FILE },
        Entry { path: "linux/hard", kind: EntryType::Link, link: "linux/script", content: b"", ..FILE },
    ];
    let plain = archive(&entries);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    gz.write_all(&plain).unwrap();
    xz.write_all(&plain).unwrap();
    let zst = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for archive in [gz.finish().unwrap(), xz.finish().unwrap(), zst, plain] {
        let (folder, result) = unpacked(&archive, Limits::default());
        result.unwrap();
        let into = folder.path().join("into");
        assert_eq!(fs::read(into.join("mm/deep/file")).unwrap(), b"text");
        assert_eq!(fs::read(into.join("mm/deep/link")).unwrap(), b"text");
        let script = fs::metadata(into.join("script")).unwrap();
        assert_eq!(script.permissions().mode() & 0o7777, 0o755, "set-user-id and others' write bits are gone");
        assert_eq!(script.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME));
        assert_eq!(fs::metadata(into.join("hard")).unwrap().ino(), script.ino());
    }
}

#[test]
fn hostile_entries_are_refused_and_named() {
    let symlink = |path, link| Entry { path, kind: EntryType::Symlink, link, content: b"", ..FILE };
    let hard = |path, link| Entry { path, kind: EntryType::Link, link, content: b"", ..FILE };
    let out = |link: &str| Refusal::LinkOut(link.into());
    let cases: Vec<(Vec<Entry<'_>>, &str, Refusal)> = vec![
        (vec![Entry { path: "/linux/evil", ..FILE }], "/linux/evil", Refusal::Absolute),
        (vec![Entry { path: "linux/../../evil", ..FILE }], "linux/../../evil", Refusal::Parent),
        (vec![Entry { path: "linux/a\x1bb", ..FILE }], "linux/a\x1bb", Refusal::Unprintable),
        (vec![Entry { path: "other/evil", ..FILE }], "other/evil", Refusal::NoTopFolder),
        (vec![Entry { path: "linux", ..FILE }], "linux", Refusal::NoTopFolder),
        (vec![symlink("linux/l", "/etc/passwd")], "linux/l", out("/etc/passwd")),
        (vec![symlink("linux/l", "..")], "linux/l", out("..")),
        (vec![symlink("linux/a/l", "../../../x")], "linux/a/l", out("../../../x")),
        // Each harmless alone: `a/b/up` is the top folder, so `a/b/up/..` is outside.
        (vec![symlink("linux/a/b/up", "../.."), symlink("linux/l", "a/b/up/../x")], "linux/l", out("a/b/up/../x")),
        (vec![symlink("linux/l", "m"), symlink("linux/m", "l")], "linux/l", out("m")),
        (vec![hard("linux/l", "/etc/passwd")], "linux/l", out("/etc/passwd")),
        (vec![hard("linux/l", "linux/../../x")], "linux/l", out("linux/../../x")),
        (vec![hard("linux/l", "linux/nothing")], "linux/l", Refusal::LinkToNothing("linux/nothing".into())),
        // Through a link: the link is made last, and finds its place taken.
        (vec![symlink("linux/l", "a"), Entry { path: "linux/l/evil", ..FILE }], "linux/l", Refusal::Twice),
        (vec![symlink("linux/l", "a"), Entry { path: "linux/l", ..FILE }], "linux/l", Refusal::Twice),
        (vec![Entry { ..FILE }], "linux/file", Refusal::Twice),
        (vec![Entry { path: "linux/file/below", ..FILE }], "linux/file/below", Refusal::Twice),
        (vec![Entry { path: "linux/d", kind: EntryType::Char, content: b"", ..FILE }], "linux/d", Refusal::Special("device")),
        (vec![Entry { path: "linux/d", kind: EntryType::Block, content: b"", ..FILE }], "linux/d", Refusal::Special("device")),
        (vec![Entry { path: "linux/f", kind: EntryType::Fifo, content: b"", ..FILE }], "linux/f", Refusal::Special("fifo")),
    ];
    for (entries, entry, why) in cases {
        assert_eq!(refusal(&entries, Limits::default()), (entry.to_owned(), why));
    }
}

#[test]
fn an_archive_has_bounds() {
    let small = Limits { bytes: 6, entries: 3, path: 20 };
    let file = |path| Entry { path, ..FILE };
    assert_eq!(refusal(&[file("linux/b")], small), ("linux/b".into(), Refusal::TooLarge(6)));
    let empty = |path| Entry { path, content: b"", ..FILE };
    assert_eq!(refusal(&[empty("linux/b"), empty("linux/c"), empty("linux/d")], small), ("linux/d".into(), Refusal::TooMany(4)));
    assert_eq!(refusal(&[file("linux/a-path-too-long")], small), ("linux/a-path-too-long".into(), Refusal::LongPath(21)));
}

#[test]
fn what_an_archive_says_of_a_name_is_bounded_before_it_is_held() {
    // A long name and extended attributes that say that they have a terabyte; so much of them comes as is read.
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let mut header = tar::Header::new_gnu();
        header.set_path("long").unwrap();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.set_cksum();
        let read = std::cell::Cell::new(0);
        let endless = Counted { inner: header.as_bytes().chain(std::io::repeat(b'a')), read: &read };
        let into = tempfile::tempdir().unwrap();
        let error = unpack(endless, into.path(), Limits::default(), &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("an entry's name or attributes are longer than they can be"), "{error}");
        assert!(read.get() <= 128 << 10, "{kind:?}: {}", read.get());
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    read: &'a std::cell::Cell<usize>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read);
        Ok(read)
    }
}

#[test]
fn what_is_no_archive_is_told() {
    let whole = archive(&[FILE]);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(&whole).unwrap();
    let xz = xz.finish().unwrap();
    let said = |bytes: &[u8]| unpacked(bytes, Limits::default()).1.unwrap_err().to_string();
    assert!(said(&xz[..xz.len() / 2]).starts_with("it is damaged or truncated: "));
    assert!(said(&whole[..514]).starts_with("it is damaged or truncated: "));
    assert!(said(b"").starts_with("it is damaged or truncated: "));
    // A dictionary of 4 GiB: its size is the fifth byte of the first block's header, whose last four are a checksum (the format's description, 3.1 and 5.3.1).
    let mut greedy = xz.clone();
    let end = 12 + (usize::from(greedy[12]) + 1) * 4;
    assert_eq!(greedy[14..16], [0x21, 1]);
    greedy[16] = 40;
    let mut sum = flate2::Crc::new();
    sum.update(&greedy[12..end - 4]);
    greedy[end - 4..end].copy_from_slice(&sum.sum().to_le_bytes());
    assert!(said(&greedy).contains("memory"), "{}", said(&greedy));
    assert_eq!(said(b"BZh91AY"), "it is compressed with bzip2; use a plain, gz, xz or zstd archive");
}

// ---- kinds of sources

impl Bench {
    async fn fetch(&self, source: &Source) -> Result<Fetched, SourceError> {
        let fetched = source::fetch(&self.store, source, &Events::ignored()).await;
        assert_eq!(self.scratch_folders(), 0, "no scratch folder is left");
        fetched
    }
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_tarball_is_checked_and_found_again() {
    let bench = Bench::new();
    let path = bench.path("linux.tar");
    fs::write(&path, archive(&[FILE])).unwrap();
    let digest = sha256(&fs::read(&path).unwrap());
    let source = |sha256: Option<&str>| Source::Tarball { location: Location::Path(path.clone()), sha256: sha256.map(ToOwned::to_owned) };
    let wrong = bench.fetch(&source(Some(&"0".repeat(64)))).await.unwrap_err();
    let expected = format!(
        "{} has SHA-256 {digest}, expected {}: fetch it again, or correct the definition if the new content is right",
        path.display(),
        "0".repeat(64)
    );
    assert_eq!(wrong.to_string(), expected);
    let fetched = bench.fetch(&source(Some(&digest))).await.unwrap();
    assert_eq!(fs::read(fetched.tree.join("file")).unwrap(), b"text");
    assert_eq!(fetched.provenance, Provenance::Tarball { location: path.display().to_string(), sha256: digest.clone() });
    assert_eq!(bench.fetch(&source(None)).await.unwrap().digest, digest);
    // A file that changed is another source, whatever was remembered of it.
    fs::write(&path, archive(&[FILE, Entry { path: "linux/more", ..FILE }])).unwrap();
    assert_ne!(bench.fetch(&source(None)).await.unwrap().digest, digest);
}

#[tokio::test]
async fn a_hostile_tarball_leaves_nothing() {
    let bench = Bench::new();
    let path = bench.path("linux.tar");
    fs::write(&path, archive(&[FILE, Entry { path: "linux/../../evil", ..FILE }])).unwrap();
    let error = bench.fetch(&Source::Tarball { location: Location::Path(path), sha256: None }).await.unwrap_err().to_string();
    assert!(error.ends_with(
        "linux.tar: refused entry \"linux/../../evil\": its path contains `..`; use an archive of a source tree from somebody you trust"
    ));
    assert_eq!(fs::read_dir(bench.store.root().join("sources")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_and_is_checked() {
    let bench = Bench::new();
    let body = archive(&[FILE]);
    let digest = sha256(&body);
    // The first answer breaks off after half of the body.
    let (half, whole) = (body.len() / 2, body.len());
    let server = Server::start(vec![("\"a\"", body.clone(), half), ("\"a\"", body, whole)]);
    let url = format!("{}/linux.tar", server.url);
    let source = |sha256: &str| Source::Tarball { location: Location::Url(url.clone()), sha256: Some(sha256.to_owned()) };
    let fetched = bench.fetch(&source(&digest)).await.unwrap();
    assert_eq!(fs::read(fetched.tree.join("file")).unwrap(), b"text");
    let wrong = bench.fetch(&source(&"0".repeat(64))).await.unwrap_err();
    assert!(matches!(wrong, SourceError::Digest { .. }), "{wrong}");
    let requests = server.stop();
    assert!(header(&requests[1], "Range").is_some_and(|range| range.starts_with("bytes=")), "{requests:?}");
    // It is there now, so no network is needed.
    assert_eq!(bench.fetch(&source(&digest)).await.unwrap().digest, digest);
}

#[tokio::test]
async fn only_web_urls_are_downloaded() {
    let source = Source::Tarball { location: Location::Url("file:///etc/passwd".into()), sha256: None };
    assert!(matches!(Bench::new().fetch(&source).await, Err(SourceError::Unusable { .. })));
}

#[tokio::test]
async fn a_folder_is_copied_without_git_and_named_by_its_content() {
    let bench = Bench::new();
    let path = bench.path("linux");
    fs::create_dir_all(path.join(".git")).unwrap();
    fs::write(path.join(".git/config"), "").unwrap();
    fs::write(path.join("Makefile"), "all:\n").unwrap();
    let source = Source::Directory { path: path.clone() };
    let first = bench.fetch(&source).await.unwrap();
    assert!(!first.tree.join(".git").exists());
    assert_eq!(
        fs::metadata(first.tree.join("Makefile")).unwrap().modified().unwrap(),
        fs::metadata(path.join("Makefile")).unwrap().modified().unwrap()
    );
    // Touched only: the same. Changed, renamed or made executable: another.
    fs::File::open(path.join("Makefile")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(bench.fetch(&source).await.unwrap().digest, first.digest);
    let mut digests = std::collections::HashSet::from([first.digest]);
    fs::set_permissions(path.join("Makefile"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(digests.insert(bench.fetch(&source).await.unwrap().digest));
    fs::write(path.join("Makefile"), "all: \n").unwrap();
    assert!(digests.insert(bench.fetch(&source).await.unwrap().digest));
    fs::rename(path.join("Makefile"), path.join("Kbuild")).unwrap();
    assert!(digests.insert(bench.fetch(&source).await.unwrap().digest));
    let missing = bench.fetch(&Source::Directory { path: bench.path("no") }).await.unwrap_err();
    assert!(missing.to_string().ends_with("/no is no folder: correct the path"));
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]).args(arguments).current_dir(folder);
    let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_git_revision_is_exported_and_found_again_without_the_repository() {
    let bench = Bench::new();
    let repository = bench.path("linux.git-work");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "--quiet"]);
    fs::write(repository.join("Makefile"), "one\n").unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "one"]);
    git(&repository, &["tag", "v1"]);
    let one = git(&repository, &["rev-parse", "HEAD"]);
    fs::write(repository.join("Makefile"), "two\n").unwrap();
    git(&repository, &["commit", "--quiet", "-am", "two"]);
    let source = |revision: &str| Source::Git { repository: repository.display().to_string(), revision: revision.to_owned() };
    for revision in ["v1", one.as_str(), &one[..12]] {
        let fetched = bench.fetch(&source(revision)).await.unwrap();
        assert_eq!(fs::read(fetched.tree.join("Makefile")).unwrap(), b"one\n");
        let Provenance::Git { commit, .. } = fetched.provenance else { panic!() };
        assert_eq!(commit, one);
    }
    assert_eq!(fs::read(bench.fetch(&source("main")).await.unwrap().tree.join("Makefile")).unwrap(), b"two\n");
    let unknown = bench.fetch(&source("v9")).await.unwrap_err().to_string();
    assert!(unknown.ends_with("has no revision v9: it is unknown there; name a commit, tag or branch that it has"), "{unknown}");
    for hostile in ["--upload-pack=touch evil", "-x", "a b", ""] {
        assert!(matches!(bench.fetch(&source(hostile)).await, Err(SourceError::Unusable { .. })));
    }
    fs::rename(&repository, bench.path("gone")).unwrap();
    for revision in ["v1", "main", one.as_str()] {
        bench.fetch(&source(revision)).await.unwrap();
    }
    let ext = Source::Git { repository: "ext::touch%20/tmp/evil".into(), revision: "main".into() };
    assert!(bench.fetch(&ext).await.unwrap_err().to_string().contains("transport 'ext' not allowed"));
}

#[tokio::test]
async fn a_package_that_apt_does_not_know_has_a_remedy() {
    let source = Source::Debian { package: "linux-source-0.0".into(), version: None };
    let error = Bench::new().fetch(&source).await.unwrap_err().to_string();
    assert!(error.starts_with("apt has no package linux-source-0.0: `apt-get update`"), "{error}");
}

// ---- patches

/// A tree below somebody's git repository, as the store may be; with a hard link to each file in `pristine`.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    let tree = folder.path().join("tree");
    for path in ["pristine/mm", "tree/mm"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let pristine = folder.path().join("pristine/mm/filemap.c");
    fs::write(&pristine, (1..=30).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
    fs::hard_link(&pristine, tree.join("mm/filemap.c")).unwrap();
    (folder, tree)
}

async fn apply(tree: &Path, patches: &[&str]) -> Result<Vec<patch::Applied>, String> {
    let folder = tree.parent().unwrap();
    let write = |(number, text): (usize, &&str)| {
        let path = folder.join(format!("{number}.patch"));
        fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<_> = patches.iter().enumerate().map(write).collect();
    patch::apply(tree, &paths).await.map_err(|error| error.to_string().replace(folder.to_str().unwrap(), "DIR"))
}

const GOOD: &str = "From 1234 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] mm: change\n\nWhy.\n---\n mm/filemap.c | 2 +-\n\n\
    diff --git a/mm/filemap.c b/mm/filemap.c\nindex 1..2 100644\n--- a/mm/filemap.c\n+++ b/mm/filemap.c\n\
    @@ -4,3 +4,3 @@ context\n line 4\n-line 5\n+line five\n line 6\n@@ -20,3 +20,4 @@\n line 20\n+new\n line 21\n line 22\n-- \n2.39\n";

#[tokio::test]
async fn a_patch_breaks_links_and_is_seen_below_a_repository() {
    let (folder, tree) = tree();
    let applied = apply(&tree, &[GOOD]).await.unwrap();
    assert_eq!(applied[0].files.iter().collect::<Vec<_>>(), [Path::new("mm/filemap.c")]);
    assert!(applied[0].offsets.is_empty());
    assert!(fs::read_to_string(tree.join("mm/filemap.c")).unwrap().contains("line five\n"));
    let pristine = fs::read_to_string(folder.path().join("pristine/mm/filemap.c")).unwrap();
    assert!(pristine.contains("line 5\n"), "never through a hard link");
}

#[tokio::test]
async fn files_come_and_go() {
    let (_folder, tree) = tree();
    let new = "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1,2 @@\n+one\n+two\n";
    let renamed = "diff --git a/mm/new.c b/mm/other.c\nsimilarity index 100%\nrename from mm/new.c\nrename to mm/other.c\n";
    let gone = "--- a/mm/other.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n";
    apply(&tree, &[new, renamed]).await.unwrap();
    assert!(tree.join("mm/other.c").exists() && !tree.join("mm/new.c").exists());
    apply(&tree, &[gone]).await.unwrap();
    assert!(!tree.join("mm/other.c").exists());
}

#[tokio::test]
async fn what_does_not_apply_is_named_and_changes_nothing() {
    let (_folder, tree) = tree();
    let before = fs::read(tree.join("mm/filemap.c")).unwrap();
    let second_hunk = GOOD.replace(" line 21\n", " line twenty-one\n");
    assert_eq!(
        apply(&tree, &[&second_hunk]).await.unwrap_err(),
        "patch DIR/0.patch doesn't apply: hunk 2 of mm/filemap.c (line 20 there, line 18 of the patch) finds other text; rebase it onto this source"
    );
    let fuzzy = GOOD.replace(" line 4\n", " line four\n");
    assert!(apply(&tree, &[&fuzzy]).await.unwrap_err().contains("hunk 1 of mm/filemap.c"), "no fuzz");
    let elsewhere = GOOD.replace("filemap.c", "nothing.c");
    assert_eq!(
        apply(&tree, &[&elsewhere]).await.unwrap_err(),
        "patch DIR/0.patch doesn't apply: mm/nothing.c: No such file or directory; rebase it onto this source"
    );
    assert_eq!(fs::read(tree.join("mm/filemap.c")).unwrap(), before);
}

#[tokio::test]
async fn a_hunk_that_moved_is_told() {
    let (_folder, tree) = tree();
    let applied = apply(&tree, &[&GOOD.replace("@@ -20,3 +20,4 @@", "@@ -18,3 +18,4 @@")]).await.unwrap();
    assert_eq!(applied[0].offsets, ["Hunk #2 succeeded at 20 (offset 2 lines)."]);
}

#[tokio::test]
async fn what_git_would_skip_is_an_error() {
    let (_folder, tree) = tree();
    let empty = "patch DIR/0.patch touches no file: give a unified diff with `--- a/file` and `+++ b/file` lines";
    assert_eq!(apply(&tree, &["just words\n"]).await.unwrap_err(), empty);
    assert_eq!(apply(&tree, &[""]).await.unwrap_err(), empty);
    // One line more than the header says: git takes it for a comment.
    let longer = "--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -4,3 +4,3 @@\n line 4\n-line 5\n+line five\n line 6\n+line 6.5\n";
    assert!(apply(&tree, &[longer]).await.unwrap_err().starts_with("patch DIR/0.patch, line 8: this line is one more"));
    let shorter = "--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -4,4 +4,4 @@\n line 4\n-line 5\n+line five\n line 6\n";
    assert!(apply(&tree, &[shorter]).await.unwrap_err().starts_with("patch DIR/0.patch, line 3: this hunk ends too early"));
    let headless = "@@ -4,3 +4,3 @@\n line 4\n-line 5\n+line five\n line 6\n";
    assert!(apply(&tree, &[headless]).await.unwrap_err().starts_with("patch DIR/0.patch, line 1: this hunk belongs to no file"));
    let no_context = "--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -5 +5 @@\n-line 5\n+line five\n";
    assert!(apply(&tree, &[no_context]).await.unwrap_err().contains("has no lines of context (`diff -U3` gives them)"));
    let cut_off = "--- a/mm/filemap.c\n+++ b/mm/filemap.c\n";
    let told = "patch DIR/0.patch, line 2: no hunk follows; make it anew with `git format-patch` or `diff -u`";
    assert_eq!(apply(&tree, &[cut_off]).await.unwrap_err(), told);
    let mailed = GOOD.replace('\n', "\r\n");
    let told = "patch DIR/0.patch, line 13: its lines end in a carriage return, as a mail program leaves them (`dos2unix` takes \
                them away); make it anew with `git format-patch` or `diff -u`";
    assert_eq!(apply(&tree, &[&mailed]).await.unwrap_err(), told);
}

#[tokio::test]
async fn a_patch_stays_in_the_tree() {
    let (folder, tree) = tree();
    for path in ["a/../../evil", "/tmp/evil", "a/mm/../../evil", "a/.git/config", "\"a/\\145vil\""] {
        let patch = format!("--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n");
        let error = apply(&tree, &[&patch]).await.unwrap_err();
        assert!(error.contains("doesn't lie in the source tree"), "{path}: {error}");
    }
    // Through a link that leads out.
    std::os::unix::fs::symlink("../pristine", tree.join("out")).unwrap();
    let through = "--- a/out/mm/filemap.c\n+++ b/out/mm/filemap.c\n@@ -4,3 +4,3 @@\n line 4\n-line 5\n+line five\n line 6\n";
    let error = apply(&tree, &[through]).await.unwrap_err();
    assert!(error.contains("beyond a symbolic link"), "{error}");
    assert!(fs::read_to_string(folder.path().join("pristine/mm/filemap.c")).unwrap().contains("line 5\n"));
}
