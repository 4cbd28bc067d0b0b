//! Source packages: real ones made by rpmbuild, hostile ones made of them, and the vault that they come from.
//!
//! Needs Debian's `rpm`, `rpm2cpio`, `cpio`, `gnupg`, `gnupg1` and `curl`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "srpm/bench.rs"]
mod bench;
#[path = "common/course.rs"]
mod course;
#[path = "srpm/prep.rs"]
mod prep;
#[path = "srpm/search.rs"]
mod search;
#[path = "srpm/vault.rs"]
mod vault;
#[path = "common/web.rs"]
mod web;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bench::{Bench, CONFIG, DEBRAND, FILE, RELEASE, SPEC, TARBALL, cpio_entry, digests, program, repacked, tarball};
use hangproof::event::{Event, Events};
use hangproof::source::srpm::{LIMITS, Package, PatchRecord};
use hangproof::source::stop::Stop;
use hangproof::source::{Limits, Provenance, SourceError};
use hangproof::spec::{Definitions, Location, PublishedDigest, Source, Srpm, SrpmTarball};

#[tokio::test]
async fn a_package_becomes_a_tree_as_its_spec_file_says() {
    let bench = Bench::new();
    let package = bench.package();
    let fetched = bench.fetch(&bench.srpm()).await.unwrap();
    let read = |name: &str| fs::read_to_string(fetched.tree.join(name)).unwrap();
    assert_eq!(read("Makefile"), "VERSION = 3\nEXTRAVERSION = -1160.el7.x86_64\nall:\n");
    assert!(read("mm/filemap.c").contains("line five\n"), "applied with a fuzz of 1");
    assert!(!fetched.tree.join("mm/filemap.c.orig").exists());
    assert_eq!(read("kernel-3.10.0-x86_64.config"), CONFIG);
    let (sha256, sha1) = digests(&tarball());
    let record = |name: &str, text: &str, applied| PatchRecord { name: name.into(), sha256: digests(text.as_bytes()).0, applied };
    let expected = Provenance::Srpm {
        location: package.display().to_string(),
        sha256: Some(digests(&fs::read(&package).unwrap()).0),
        signed_by: None,
        tarball: TARBALL.into(),
        tarball_sha256: sha256,
        tarball_sha1: sha1,
        // Listed first but with the larger number: the hooks' order counts.
        patches: vec![record("linux-kernel-test.patch", "", false), record("debrand.patch", DEBRAND, true)],
        unrepeated: vec![],
        extraversion: Some("-1160.el7.x86_64".into()),
        configurations: vec!["kernel-3.10.0-x86_64.config".into()],
    };
    assert_eq!(fetched.provenance, expected);
    // A network that is gone does no harm, and a changed package is another tree. Whose copy it is stays true, and is told where no digest says that any will do.
    let elsewhere = Srpm { vault: Location::Url("http://127.0.0.1:1".into()), ..bench.srpm() };
    let (again, warnings) = bench.fetch_warned(&elsewhere).await;
    let again = again.unwrap();
    assert_eq!((&again.digest, &again.provenance), (&fetched.digest, &expected));
    let warned = format!(
        "{FILE} was not looked for in http://127.0.0.1:1: it was brought from {} before, and is taken as it was; `sha256:` in the definition says \
         which one it has to be",
        package.display()
    );
    assert_eq!(warnings, [warned]);
    let pinned = Srpm { sha256: Some(digests(&fs::read(&package).unwrap()).0), ..bench.srpm() };
    bench.fetch(&pinned).await.unwrap();
    let (again, warnings) = bench.fetch_warned(&Srpm { vault: elsewhere.vault, ..pinned }).await;
    assert_eq!((again.unwrap().digest, warnings), (fetched.digest.clone(), vec![]));
    bench.build(&SPEC.replace("ApplyOptionalPatch debrand.patch\n", ""), &bench.files());
    assert_ne!(bench.fetch(&bench.srpm()).await.unwrap().digest, fetched.digest);
}

#[tokio::test]
async fn a_short_optional_patch_is_left_out_and_a_plain_one_is_not() {
    let bench = Bench::new();
    let short = "--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -1,2 +1,2 @@\n-line 1\n+line one\n line 2\n";
    let files = bench.with("linux-kernel-test.patch", short.as_bytes());
    bench.build(SPEC, &files);
    let tree = bench.fetch(&bench.srpm()).await.unwrap().tree;
    assert!(fs::read_to_string(tree.join("mm/filemap.c")).unwrap().starts_with("line 1\n"));
    bench.build(&SPEC.replace("ApplyOptionalPatch linux", "ApplyPatch linux"), &files);
    let tree = bench.fetch(&bench.srpm()).await.unwrap().tree;
    assert!(fs::read_to_string(tree.join("mm/filemap.c")).unwrap().starts_with("line one\n"));
}

#[tokio::test]
async fn a_patch_that_does_not_apply_is_named_with_its_hunk() {
    let bench = Bench::new();
    bench.build(SPEC, &bench.with("debrand.patch", DEBRAND.replace(" line 4\n", " line four\n").as_bytes()));
    assert_eq!(
        bench.error(&bench.srpm()).await,
        "kernel-3.10.0-1160.el7.src.rpm: its patch debrand.patch doesn't apply: hunk 1 of mm/filemap.c (line 2 there) finds other text; \
         the package is damaged, or its spec file isn't understood: bring a patched tree with --source KERNEL=FOLDER"
    );
}

#[tokio::test]
async fn a_hostile_patch_runs_nothing_and_stays_in_the_tree() {
    let bench = Bench::new();
    let padding = "x\n".repeat(10);
    let cases = [
        (
            "ed script",
            format!("{padding}--- a/mm/filemap.c\n+++ b/mm/filemap.c\n1!touch /tmp/hangproof-evil\n.\n"),
            "finds other text|Only garbage",
        ),
        ("path", format!("{padding}--- a/../../evil\n+++ b/../../evil\n@@ -0,0 +1 @@\n+x\n"), "doesn't lie in the source tree"),
        (
            "link",
            format!(
                "{padding}diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n"
            ),
            "it makes something else than a plain file (new file mode 120000)",
        ),
        (
            "link after a tab",
            format!(
                "{padding}diff --git a/l b/l\nnew file mode \t120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n"
            ),
            "it makes something else than a plain file (new file mode \\t120000)",
        ),
    ];
    for (case, patch, why) in cases {
        bench.build(SPEC, &bench.with("debrand.patch", patch.as_bytes()));
        let error = bench.error(&bench.srpm()).await;
        assert!(
            error.contains("its patch debrand.patch doesn't apply: ") && why.split('|').any(|why| error.contains(why)),
            "{case}: {error}"
        );
    }
    assert!(!Path::new("/tmp/hangproof-evil").exists());
}

/// What is said of a spec file that differs from the good one by one edit.
async fn spec_error(find: &str, replacement: &str) -> String {
    let bench = Bench::new();
    assert!(SPEC.contains(find), "{find}");
    // rpmbuild would refuse some of these itself, or run them; so the good package's payload is replaced.
    let spec = SPEC.replacen(find, replacement, 1);
    let package = bench.package();
    let mut files = bench.files();
    files.push(("kernel.spec", spec.into_bytes()));
    bench.replace_payload(&package, &files);
    bench.error(&bench.srpm()).await
}

#[tokio::test]
async fn what_is_not_understood_in_a_spec_file_is_refused_with_its_line() {
    let line = |text: &str| SPEC.lines().position(|line| line == text).unwrap() + 1;
    let hook = line("ApplyOptionalPatch debrand.patch");
    let tree = "bring a patched tree with --source KERNEL=FOLDER";
    let at = |line: usize, why: &str, remedy: &str| format!("{FILE}, kernel.spec line {line}: {why}; {remedy}");
    let cases = [
        (
            "Patch1000: debrand.patch",
            "Patch1000: debrand-%{brand}.patch",
            at(
                line("Patch1000: debrand.patch"),
                "the macro %{brand} isn't set in the spec file",
                &format!("this package wants it on rpmbuild's command line: {tree}"),
            ),
        ),
        (
            "ApplyOptionalPatch debrand.patch",
            "ApplyPatch %(touch /tmp/hangproof-evil;echo debrand.patch)",
            at(hook, "ApplyPatch has other arguments than one patch", tree),
        ),
        (
            "Patch1000: debrand.patch",
            "Patch1000: %(id).patch",
            at(line("Patch1000: debrand.patch"), "`%(id).patch` would run a program", tree),
        ),
        ("Patch1000: debrand.patch", "Patch1000: %{lua:x}", at(line("Patch1000: debrand.patch"), "%{lua:...} would run a program", tree)),
        (
            "ApplyOptionalPatch debrand.patch",
            "%patch1000 -p1",
            at(hook, "`%patch1000` changes the tree, and only ApplyPatch and ApplyOptionalPatch are understood", tree),
        ),
        (
            "ApplyOptionalPatch debrand.patch",
            "ApplyPatch other.patch",
            at(hook, "other.patch is applied, but no Patch line lists it", "the package is damaged: fetch it again"),
        ),
        (
            "ApplyOptionalPatch debrand.patch",
            "if [ -f x ]; then\nApplyPatch debrand.patch\nfi",
            at(hook + 1, "ApplyPatch depends on a condition of the shell", tree),
        ),
        (
            "patch -p1 -F1 -s",
            "git apply",
            at(line("patch_command='patch -p1 -F1 -s'"), "`git apply` applies patches by another program than patch", tree),
        ),
        (
            "ApplyOptionalPatch debrand.patch",
            "%if %{something} > 3\nApplyPatch debrand.patch\n%endif",
            at(
                hook + 1,
                &format!("it depends on the condition in line {hook}, which can't be decided without running the spec file"),
                tree,
            ),
        ),
        ("ApplyOptionalPatch debrand.patch", "%if 1", at(hook, "this condition has no %endif", tree)),
        (
            "ApplyOptionalPatch debrand.patch",
            "ApplyAll()\n{\n  for patch in *.patch; do git apply $patch; done\n}",
            at(hook + 2, "the function ApplyAll applies a patch, and only ApplyPatch and ApplyOptionalPatch are understood", tree),
        ),
    ];
    for (find, replacement, expected) in cases {
        assert_eq!(spec_error(find, replacement).await, expected, "{replacement}");
    }
    for command in [
        "patch -p1 -i debrand.patch",
        "xzcat %{PATCH1000} | %{__patch} -p1",
        "[ -f x ] && LC_ALL=C /usr/bin/patch -p1 <x",
        "if [ -f x ]; then ApplyPatch debrand.patch; fi",
        "*.patch) ApplyPatch $p ;;",
        "%{!?nopatches:ApplyPatch debrand.patch}",
        "time ApplyPatch debrand.patch",
        "bash -c \"ApplyPatch debrand.patch\"",
        "ls *.patch | xargs git apply",
    ] {
        let error = spec_error("ApplyOptionalPatch debrand.patch", command).await;
        assert_eq!(error, at(hook, "it applies a patch within another command", tree), "{command}");
    }
    assert!(!Path::new("/tmp/hangproof-evil").exists());
}

#[tokio::test]
async fn a_patch_that_no_line_applies_is_in_the_record() {
    let bench = Bench::new();
    bench.build(&SPEC.replace("ApplyOptionalPatch debrand.patch\n", ""), &bench.files());
    let Provenance::Srpm { patches, .. } = bench.fetch(&bench.srpm()).await.unwrap().provenance else { panic!() };
    let patches: Vec<_> = patches.iter().map(|patch| (patch.name.as_str(), patch.applied)).collect();
    assert_eq!(patches, [("linux-kernel-test.patch", false), ("debrand.patch", false)]);
    // One whose line a condition leaves out isn't forgotten, whatever its name is made of.
    let left_out = "%if 0\nApplyOptionalPatch %{which}.patch\n%endif";
    bench.build(&format!("%global which debrand\n{}", SPEC.replace("ApplyOptionalPatch debrand.patch", left_out)), &bench.files());
    let Provenance::Srpm { patches, .. } = bench.fetch(&bench.srpm()).await.unwrap().provenance else { panic!() };
    let patches: Vec<_> = patches.iter().map(|patch| patch.name.as_str()).collect();
    assert_eq!(patches, ["linux-kernel-test.patch"]);
}

#[tokio::test]
async fn another_vault_is_told_once_and_an_older_note_is_read() {
    let bench = Bench::new();
    bench.package();
    bench.fetch(&bench.srpm()).await.unwrap();
    let elsewhere = Srpm { vault: Location::Url("http://127.0.0.1:1".into()), ..bench.srpm() };
    let (events, mut reader) = Events::channel();
    for _ in 0..2 {
        hangproof::source::fetch(&bench.store, &Source::Srpm(elsewhere.clone()), &events).await.unwrap();
    }
    let warnings = std::iter::from_fn(|| reader.try_recv().ok()).filter(|event| matches!(event, Event::Warning { .. }));
    assert_eq!(warnings.count(), 1);
    // The whole note was the digest once.
    let sha256 = digests(&fs::read(bench.packages().join(FILE)).unwrap()).0;
    let notes = fs::read_dir(bench.store.root().join("notes")).unwrap().map(|note| note.unwrap().path());
    for note in notes.filter(|note| note.file_name().unwrap().to_string_lossy().starts_with("srpm-of-")) {
        fs::write(note, format!("{sha256:?}")).unwrap();
    }
    let (fetched, warnings) = bench.fetch_warned(&elsewhere).await;
    fetched.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("it was brought from an unknown place before"), "{warnings:?}");
}

/// What the distribution's own build sets counts, and what nobody can tell from the package is refused where it matters.
#[tokio::test]
async fn conditions_on_the_distribution_are_decided_by_the_package() {
    let with = |condition: &str| {
        let branches =
            format!("%if {condition}\nApplyOptionalPatch debrand.patch\n%else\nApplyOptionalPatch linux-kernel-test.patch\n%endif");
        SPEC.replace("ApplyOptionalPatch linux-kernel-test.patch\n", "").replace("ApplyOptionalPatch debrand.patch", &branches)
    };
    let applied = async |condition: &str, macros: &[&str]| {
        let bench = Bench::new();
        bench.build_with(&with(condition), &bench.files(), macros);
        let fetched = bench.fetch(&bench.srpm()).await.map_err(|error| error.to_string())?;
        let Provenance::Srpm { patches, .. } = fetched.provenance else { panic!("it is a source package") };
        Ok::<_, String>(patches.iter().any(|patch| patch.name == "debrand.patch"))
    };
    let centos = ["vendor CentOS"];
    for (condition, expected) in [
        ("0%{?rhel} == 7 && 0%{?el7} && !0%{?fedora}", true),
        ("0%{?rhel} == 8 || 0%{?el8}", false),
        ("0%{?centos} == 7", true),
        ("\"%{?dist}\" == \".el7\"", true),
        ("0%{?fedora}", false),
    ] {
        assert_eq!(applied(condition, &centos).await, Ok(expected), "{condition}");
    }
    let line = SPEC.lines().position(|line| line == "ApplyOptionalPatch debrand.patch").unwrap();
    assert_eq!(
        applied("0%{?centos}", &[]).await.unwrap_err(),
        format!(
            "{FILE}, kernel.spec line {}: it depends on the condition in line {line}, which can't be decided without running the spec file; \
             bring a patched tree with --source KERNEL=FOLDER",
            line + 1
        )
    );
}

#[tokio::test]
async fn a_package_that_lacks_something_is_told() {
    let missing = spec_error("Patch1000: debrand.patch", "Patch1000: debrand.patch\nPatch1001: gone.patch").await;
    let line = SPEC.lines().position(|line| line == "Patch1000: debrand.patch").unwrap() + 2;
    assert_eq!(
        missing,
        format!(
            "{FILE}, kernel.spec line {line}: the patch gone.patch is listed, but isn't in the package; the package is damaged: fetch it again"
        )
    );
    let bench = Bench::new();
    bench.package();
    let other = SrpmTarball { name: "linux-9.tar.xz".into(), digest: PublishedDigest::Sha1("0".repeat(40)) };
    assert_eq!(
        bench.error(&Srpm { tarball: Some(other), ..bench.srpm() }).await,
        format!(
            "{FILE} holds a spec file whose first source is {TARBALL}, expected linux-9.tar.xz: correct the definition, or name a kernel's source package"
        )
    );
    assert_eq!(
        spec_error("Source0: linux-%{rpmversion}-%{pkgrelease}.tar.xz", "Source0: https://example.org/linux-9.tar.xz").await,
        format!("{FILE} holds no such file, expected linux-9.tar.xz: correct the definition, or name a kernel's source package")
    );
    // A line that is decided to be absent is no matter.
    let bench = Bench::new();
    bench.build(
        &SPEC
            .replace("Patch1000: ", "%if !%{with_debug}\nPatch1001: gone.patch\n%else\nPatch1000: ")
            .replace("%description", "%endif\n%description"),
        &bench.files(),
    );
    bench.fetch(&bench.srpm()).await.unwrap();
}

#[tokio::test]
async fn digests_are_checked_and_both_are_shown() {
    let bench = Bench::new();
    let package = bench.package();
    let found = digests(&fs::read(&package).unwrap()).0;
    let zero = "0".repeat(64);
    let wrong = bench.error(&Srpm { sha256: Some(zero.clone()), ..bench.srpm() }).await;
    let remedy = "fetch it again, or correct the definition if the new content is right";
    assert_eq!(wrong, format!("{} has SHA-256 {found}, expected {zero}: {remedy}", package.display()));
    let (sha256, sha1) = digests(&tarball());
    let with = |digest| Srpm { tarball: Some(SrpmTarball { name: TARBALL.into(), digest }), ..bench.srpm() };
    let zero = "0".repeat(40);
    let expected = format!("{TARBALL} has SHA-1 {sha1}, expected {zero}: {remedy}");
    assert_eq!(bench.error(&with(PublishedDigest::Sha1(zero.clone()))).await, expected);
    bench.fetch(&with(PublishedDigest::Sha1(sha1))).await.unwrap();
    bench.fetch(&with(PublishedDigest::Sha256(sha256))).await.unwrap();
    // That the tree is there already is no reason to believe another definition.
    assert_eq!(bench.error(&with(PublishedDigest::Sha1(zero))).await, expected);
}

#[test]
fn extraction_is_rpm2cpios_for_every_compression() {
    for (payload, fine) in [("w9.gzdio", true), ("w2.xzdio", true), ("w3.zstdio", true), ("w.ufdio", true), ("w9.bzdio", false)] {
        let bench = Bench::new();
        let package = bench.build_with(SPEC, &bench.files(), &[&format!("_source_payload {payload}")]);
        let (ours, theirs) = (bench.folder("ours"), bench.folder("theirs"));
        let extracted = Package::open(&package).unwrap().extract(&ours, LIMITS, &Stop::default());
        if !fine {
            let error = extracted.unwrap_err().to_string();
            assert_eq!(error, format!("{FILE}: it is compressed with bzip2; use a plain, gz, xz or zstd archive"));
            continue;
        }
        let mut names = extracted.unwrap();
        let mut rpm2cpio = Command::new("rpm2cpio").arg(&package).stdout(Stdio::piped()).spawn().unwrap();
        let mut cpio = Command::new("cpio");
        cpio.args(["--extract", "--quiet"]).current_dir(&theirs).stdin(rpm2cpio.stdout.take().unwrap());
        assert!(cpio.status().unwrap().success() && rpm2cpio.wait().unwrap().success());
        names.sort();
        let mut listed: Vec<_> = fs::read_dir(&theirs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        listed.sort();
        assert_eq!(names, listed, "{payload}");
        for name in names {
            assert_eq!(fs::read(ours.join(&name)).unwrap(), fs::read(theirs.join(&name)).unwrap(), "{payload}: {name}");
        }
    }
}

#[tokio::test]
async fn a_truncated_package_is_told_wherever_it_ends() {
    let bench = Bench::new();
    let package = bench.package();
    let whole = fs::read(&package).unwrap();
    for length in [0, 50, 96, 110, 400, 2000, whole.len() / 2, whole.len() - 100, whole.len() - 1] {
        fs::write(&package, &whole[..length]).unwrap();
        let error = bench.error(&bench.srpm()).await;
        assert!(error.contains("fetch it again"), "{length}: {error}");
    }
}

/// Many entries over the same bytes: what reads them would hold them many times.
#[test]
fn a_header_that_multiplies_is_refused() {
    let bench = Bench::new();
    let package = bench.package();
    let whole = fs::read(&package).unwrap();
    let header = |entries: u32, data: u32| {
        let mut bytes = b"\x8e\xad\xe8\x01\0\0\0\0".to_vec();
        bytes.extend([entries.to_be_bytes(), data.to_be_bytes()].concat());
        for tag in 0..entries {
            // RPM_BIN_TYPE, all of the data.
            bytes.extend([(5000 + tag).to_be_bytes(), 7_u32.to_be_bytes(), 0_u32.to_be_bytes(), data.to_be_bytes()].concat());
        }
        bytes.extend(vec![b'x'; data as usize]);
        bytes
    };
    for (entries, expected) in [(1, "it is a binary package"), (2, "its header's entries hold more than there is")] {
        fs::write(&package, [&whole[..96], &header(0, 0), &header(entries, 1024)].concat()).unwrap();
        let error = Package::open(&package).unwrap_err().to_string();
        assert!(error.contains(expected), "{entries}: {error}");
    }
}

/// Damaged bytes in the headers, all over: an error or a tree, never a panic.
#[test]
fn damaged_headers_are_no_reason_to_panic() {
    let bench = Bench::new();
    let package = bench.package();
    let whole = fs::read(&package).unwrap();
    let headers = bench::payload_start(&whole);
    let damaged = bench.path("damaged.src.rpm");
    let mut refused = 0;
    for (place, value) in (0..headers).step_by(7).flat_map(|place| [(place, 0xff), (place, 0x7f), (place, 0)]) {
        let mut bytes = whole.clone();
        bytes[place] = value;
        fs::write(&damaged, bytes).unwrap();
        let into = bench.folder("into");
        let extracted = Package::open(&damaged).and_then(|package| package.extract(&into, LIMITS, &Stop::default()));
        refused += usize::from(extracted.is_err());
        fs::remove_dir_all(into).unwrap();
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn hostile_entries_are_refused_and_named() {
    let bench = Bench::new();
    let whole = fs::read(bench.package()).unwrap();
    let cases = [
        ("../evil", 0o100_644, "its path contains `..`"),
        ("a/../../evil", 0o100_644, "its path contains `..`"),
        ("/tmp/evil", 0o100_644, "its path is absolute"),
        ("a/b", 0o100_644, "it isn't a plain file beside the others"),
        ("", 0o100_644, "it isn't a plain file beside the others"),
        ("a\x1b[2J", 0o100_644, "its path is not printable text"),
        ("null", 0o020_666, "it is a device"),
        ("sda", 0o060_660, "it is a device"),
        ("pipe", 0o010_644, "it is a fifo"),
        ("link", 0o120_777, "it is a symbolic link"),
        ("folder", 0o040_755, "it is a folder"),
        ("socket", 0o140_755, "it is a special file"),
    ];
    let extract = |payload: &[u8], limits: Limits| {
        let path = bench.path("hostile.src.rpm");
        fs::write(&path, repacked(&whole, payload)).unwrap();
        let into = bench.folder("into");
        let error = Package::open(&path).unwrap().extract(&into, limits, &Stop::default()).unwrap_err();
        fs::remove_dir_all(into).unwrap();
        error.to_string()
    };
    for (name, mode, why) in cases {
        let error = extract(&cpio_entry(name, mode, b"x"), LIMITS);
        assert_eq!(
            error,
            format!("hostile.src.rpm: refused entry {name:?}: {why}; use an archive of a source tree from somebody you trust")
        );
    }
    let spec = cpio_entry("kernel.spec", 0o100_644, SPEC.as_bytes());
    assert!(extract(&[spec.clone(), spec.clone()].concat(), LIMITS).contains("its place is taken by an earlier entry"));
    assert!(extract(&spec, Limits { bytes: 10, ..LIMITS }).contains("more than the 10 bytes that are allowed"));
    assert!(
        extract(&[spec.clone(), cpio_entry("b", 0o100_644, b"")].concat(), Limits { entries: 1, ..LIMITS })
            .contains("it is entry number 2")
    );
    assert!(
        extract(&cpio_entry(&"n".repeat(5000), 0o100_644, b""), LIMITS)
            .contains("an entry's name or attributes are longer than they can be")
    );
    assert_eq!(
        extract(&cpio_entry("kernel.spec", 0o100_644, b"other"), LIMITS),
        "hostile.src.rpm: kernel.spec isn't what the package's header says: fetch it again"
    );
    assert!(!Path::new("/tmp/evil").exists() && !bench.path("evil").exists());
}

#[tokio::test]
async fn a_hostile_package_leaves_nothing() {
    let bench = Bench::new();
    let package = bench.package();
    let whole = fs::read(&package).unwrap();
    fs::write(&package, repacked(&whole, &cpio_entry("../evil", 0o100_644, b"x"))).unwrap();
    bench.error(&bench.srpm()).await;
    assert_eq!(fs::read_dir(bench.store.root().join("sources")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_signature_is_checked_when_a_key_is_given() {
    let bench = Bench::new();
    let package = bench.package();
    let (good, other) = (bench.key("good"), bench.key("other"));
    let with = |key: &Path| Srpm { key: Some(key.to_owned()), ..bench.srpm() };
    let unsigned = bench.error(&with(&good)).await;
    assert_eq!(
        unsigned,
        format!(
            "{FILE} isn't signed by a key of {}: it has no signature of its header; fetch it again, or name the key of who made it",
            good.display()
        )
    );
    bench.sign(&package, "good");
    let fetched = bench.fetch(&with(&good)).await.unwrap();
    let Provenance::Srpm { signed_by: Some(signed_by), .. } = fetched.provenance else { panic!() };
    assert_eq!(signed_by, bench.fingerprint("good"));
    let wrong = bench.error(&with(&other)).await;
    assert!(wrong.starts_with(&format!("{FILE} isn't signed by a key of {}: ", other.display())), "{wrong}");
    // A key may be in binary form.
    let binary = bench.path("good.gpg");
    fs::write(&binary, {
        use base64::Engine as _;
        let text = fs::read_to_string(&good).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with(['-', '='])).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    })
    .unwrap();
    bench.fetch(&with(&binary)).await.unwrap();
    // Words of the armour around what is no key.
    let armoured = bench.path("armoured.asc");
    fs::write(&armoured, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n").unwrap();
    let no_key = bench.error(&with(&armoured)).await;
    assert!(no_key.starts_with(&format!("{FILE} isn't signed by a key of {}: ", armoured.display())), "{no_key}");
    let none = bench.path("none.asc");
    fs::write(&none, "no key").unwrap();
    assert!(bench.error(&with(&none)).await.starts_with(&format!("{} holds no usable key: ", none.display())));
    bench.key("lost");
    let (revoked, package_of_good) = (bench.path("lost.asc"), fs::read(&package).unwrap());
    bench.sign(&package, "lost");
    bench.fetch(&with(&revoked)).await.unwrap();
    bench.revoke("lost");
    let said = bench.error(&with(&revoked)).await;
    assert!(said.contains(&format!("isn't signed by a key of {}: that key is revoked; ", revoked.display())), "{said}");
    fs::write(&package, package_of_good).unwrap();
    // The signature is of the header; another payload behind it isn't signed.
    let whole = fs::read(&package).unwrap();
    fs::write(&package, repacked(&whole, &cpio_entry("kernel.spec", 0o100_644, b"Name: evil\n"))).unwrap();
    assert_eq!(bench.error(&with(&good)).await, format!("{FILE}: kernel.spec isn't what the package's header says: fetch it again"));
}

/// CentOS 7's own are of version 3, which tells the key by its id only: the fingerprint comes from the key.
#[tokio::test]
async fn an_old_signature_is_checked_too() {
    let bench = Bench::new();
    let package = bench.package();
    let (good, other) = (bench.key("good"), bench.key("other"));
    let with = |key: &Path| Srpm { key: Some(key.to_owned()), ..bench.srpm() };
    bench.sign_v3(&package, "good");
    let query = |form: &str| program("rpm", &["-qp", "--nosignature", "--qf", form, package.to_str().unwrap()], &bench.path(""));
    let (packet, shown) = (query("%{RSAHEADER}"), query("%{RSAHEADER:pgpsig}"));
    let id = shown.rsplit(' ').next().unwrap();
    // A packet of type 2, two bytes of its length, and the version (RFC 4880, 5.2).
    assert!(packet.starts_with("89") && packet[6..].starts_with("03"), "{packet}");
    let fetched = bench.fetch(&with(&good)).await.unwrap();
    let Provenance::Srpm { signed_by: Some(signed_by), .. } = fetched.provenance else { panic!() };
    assert!(signed_by == bench.fingerprint("good") && signed_by.ends_with(id), "{signed_by} {shown}");
    let wrong = bench.error(&with(&other)).await;
    assert!(wrong.starts_with(&format!("{FILE} isn't signed by a key of {}: ", other.display())), "{wrong}");
    // One bit of what is signed: the summary in the header.
    let mut bytes = fs::read(&package).unwrap();
    let place = bytes.windows(8).position(|text| text == b"A kernel").unwrap();
    bytes[place] ^= 1;
    fs::write(&package, bytes).unwrap();
    let changed = bench.error(&with(&good)).await;
    assert!(changed.starts_with(&format!("{FILE} isn't signed by a key of {}: ", good.display())), "{changed}");
}

#[tokio::test]
async fn a_folder_may_hold_the_bare_tarball_or_nothing() {
    let bench = Bench::new();
    let folder = bench.folder("vault");
    let (_, sha1) = digests(&tarball());
    let srpm = Srpm {
        vault: Location::Path(folder.clone()),
        path: "7.9.2009/os".into(),
        tarball: Some(SrpmTarball { name: TARBALL.into(), digest: PublishedDigest::Sha1(sha1) }),
        ..bench.srpm()
    };
    assert_eq!(
        bench.error(&srpm).await,
        format!("{} has neither {FILE} nor {TARBALL}: put one of them there, or name another folder with --vault", folder.display())
    );
    fs::write(folder.join(TARBALL), b"other").unwrap();
    assert!(matches!(bench.fetch(&srpm).await, Err(SourceError::Digest { algorithm: "SHA-1", .. })));
    fs::write(folder.join(TARBALL), tarball()).unwrap();
    let bare = bench.fetch(&srpm).await.unwrap();
    assert!(fs::read_to_string(bare.tree.join("Makefile")).unwrap().contains(&format!("EXTRAVERSION = -{RELEASE}.x86_64\n")));
    assert!(fs::read_to_string(bare.tree.join("mm/filemap.c")).unwrap().contains("line 5\n"));
    // The package itself, where the vault has it, is worth more.
    fs::create_dir_all(folder.join("7.9.2009/os")).unwrap();
    fs::copy(bench.package(), folder.join("7.9.2009/os").join(FILE)).unwrap();
    let whole = bench.fetch(&srpm).await.unwrap();
    assert_ne!(whole.digest, bare.digest);
    assert!(fs::read_to_string(whole.tree.join("mm/filemap.c")).unwrap().contains("line five\n"));
}

#[tokio::test]
async fn a_package_of_this_machine_is_a_source() {
    let bench = Bench::new();
    let source = Source::from_path(&bench.package()).unwrap();
    let fetched = hangproof::source::fetch(&bench.store, &source, &hangproof::event::Events::ignored()).await.unwrap();
    assert!(fetched.tree.join("kernel-3.10.0-x86_64.config").exists());
    let bad = Definitions::default().with_vault("no/such/folder").unwrap_err().to_string();
    assert_eq!(bad, "\"no/such/folder\" is no vault: name a URL that begins with https://, or a folder that holds source packages");
}

#[test]
fn rpm_agrees_that_the_test_package_is_a_kernels() {
    let bench = Bench::new();
    let said =
        program("rpm", &["-qp", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}", bench.package().to_str().unwrap()], bench.path("").as_path());
    assert_eq!(said, format!("kernel-3.10.0-{RELEASE}"));
}
