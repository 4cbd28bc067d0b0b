//! Builds: the flow with a tiny tree that has a kernel's make targets, and a real kernel (ignored unless asked for: it takes minutes).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/bench.rs"]
mod bench;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::Bench;
use hangproof::build::{self, BuildError, Built};
use hangproof::event::{Event, Events};
use hangproof::source::{self, tree};
use hangproof::spec::{
    Change, Compatibility, Condition, Configuration, ConfigurationBase, Definitions, Kernel, Modules, Name, Requirement, Source, Toolchain,
    Version, Versioned,
};
use hangproof::store::{Kept, Store};

fn kernel(name: &str, source: &Source, fragments: &[PathBuf]) -> Kernel {
    Kernel {
        name: Name::new(name).unwrap(),
        description: String::new(),
        defined_in: PathBuf::from("kernels/test.yaml"),
        base: None,
        source: source.clone(),
        toolchain: Toolchain::Host { compiler: "gcc".into() },
        configuration: Configuration { base: ConfigurationBase::Allnoconfig, modules: Modules::Keep, fragments: fragments.to_vec() },
        compatibility: Vec::new(),
        patches: Vec::new(),
        inherited_patches: 0,
        boot_arguments: Vec::new(),
    }
}

fn variant(name: &str, base: &Kernel, patches: &[PathBuf]) -> Kernel {
    Kernel {
        name: Name::new(name).unwrap(),
        base: Some(base.name.clone()),
        patches: base.patches.iter().chain(patches).cloned().collect(),
        inherited_patches: base.patches.len(),
        ..base.clone()
    }
}

fn definitions(kernels: &[Kernel]) -> Definitions {
    let kernels = kernels.iter().map(|kernel| (kernel.name.clone(), kernel.clone())).collect();
    Definitions { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), kernels, ..Definitions::default() }
}

fn drain(reader: &mut tokio::sync::mpsc::UnboundedReceiver<Event>) -> Vec<Event> {
    std::iter::from_fn(|| reader.try_recv().ok()).collect()
}

impl Bench {
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A patch that replaces one line of a file by another.
    fn patch(&self, name: &str, file: &str, old: &str, new: &str) -> PathBuf {
        let text = fs::read_to_string(tiny().join(file)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let at = lines.iter().position(|line| *line == old).unwrap();
        let (from, to) = (at.saturating_sub(3), lines.len().min(at + 4));
        let context = |lines: &[&str]| lines.iter().map(|line| format!(" {line}\n")).collect::<String>();
        let (before, after) = (context(&lines[from..at]), context(&lines[at + 1..to]));
        let range = format!("{},{}", from + 1, to - from);
        self.file(name, &format!("--- a/{file}\n+++ b/{file}\n@@ -{range} +{range} @@\n{before}-{old}\n+{new}\n{after}"))
    }

    async fn build(&self, definitions: &Definitions, name: &str) -> (Result<Built, BuildError>, Vec<Event>) {
        let (events, mut reader) = Events::channel();
        let kernel = &definitions.kernels[&Name::new(name).unwrap()];
        let built = build::build(&self.store, definitions, kernel, &events, 2).await;
        (built, drain(&mut reader))
    }

    fn shown(&self, error: &BuildError) -> String {
        error.to_string().replace(self.folder.path().to_str().unwrap(), "DIR").replace(tiny().to_str().unwrap(), "TINY")
    }

    /// Nothing half-done is left: no scratch folder, and no process at work in one.
    async fn ends_clean(&self) {
        let is_clean = || self.scratch_folders() == 0 && workers(self.folder.path()) == 0;
        eventually("nothing half-done is left", is_clean).await;
    }
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-kernel")
}

fn tiny_source() -> Source {
    Source::Directory { path: tiny() }
}

/// How many processes work below a folder.
fn workers(folder: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))).count()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_compiles_only_what_its_patch_touches() {
    let bench = Bench::new();
    let fragment = bench.file("fragment.config", "CONFIG_EXT4=y\nCONFIG_NAME=\"tiny\"\n");
    let base = kernel("base", &tiny_source(), &[fragment]);
    let one = bench.patch("one.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let two = bench.patch("two.patch", "mm/filemap.c", "\treturn page + 2;", "\treturn page + 20;");
    let first = variant("first", &base, &[one]);
    let second = variant("second", &first, &[two]);
    let definitions = definitions(&[base, first, second]);

    let (built, events) = bench.build(&definitions, "second").await;
    let second = built.unwrap();
    let started: Vec<_> =
        events.iter().filter_map(|event| if let Event::BuildStarted { kernel } = event { Some(kernel.as_str()) } else { None }).collect();
    assert_eq!(started, ["base", "first", "second"]);
    let base = bench.build(&definitions, "base").await.0.unwrap();
    let first = bench.build(&definitions, "first").await.0.unwrap();
    assert_eq!([&base, &first, &second].map(|built| built.manifest.objects), [3, 1, 1]);
    assert_eq!(second.manifest.base_key.as_ref(), Some(&first.key));
    assert_eq!(second.manifest.patches.len(), 2);
    assert_eq!(fs::read_to_string(&second.config).unwrap(), "CONFIG_EXT4=y\nCONFIG_NAME=\"tiny\"\n# CONFIG_FAST is not set\n");
    let signatures: std::collections::HashSet<_> = [&base, &first, &second].map(|built| built.manifest.elf_signature.clone()).into();
    assert_eq!(signatures.len(), 3);

    // The bases' trees are as they were, although the variants' share the objects that they didn't compile.
    for base in [&base, &first] {
        let folder = bench.store.place(Kept::Trees, &base.key);
        let index: tree::Index = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        assert_eq!(tree::index(&folder.join("tree")).unwrap(), index);
        assert_eq!(fs::metadata(folder.join("tree/mm/filemap.o")).unwrap().nlink(), 1, "each has its own of what was compiled");
        assert!(fs::metadata(folder.join("tree/fs/ext4.o")).unwrap().nlink() >= 2);
    }

    // The shared source is as it was, and the built trees share it.
    let source = source::fetch(&bench.store, &tiny_source(), &Events::ignored()).await.unwrap();
    assert_eq!(tree::index(&source.tree).unwrap(), source.index);
    assert_eq!(fs::read(source.tree.join("mm/filemap.c")).unwrap(), fs::read(tiny().join("mm/filemap.c")).unwrap());
    assert!(fs::metadata(source.tree.join("init/main.c")).unwrap().nlink() >= 3);
    assert_eq!(
        fs::metadata(source.tree.join("init/main.c")).unwrap().mtime_nsec(),
        fs::metadata(tiny().join("init/main.c")).unwrap().mtime_nsec()
    );
    assert!(!tiny().join(".config").exists());

    // A second time nothing is done.
    let (again, events) = bench.build(&definitions, "second").await;
    assert_eq!(again.unwrap().key, second.key);
    assert!(matches!(events.last(), Some(Event::BuildFinished { cached: true, .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::BuildStarted { .. })));
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_with_a_fragment_is_configured_anew() {
    let bench = Bench::new();
    let base = kernel("base", &tiny_source(), &[]);
    let mut ext4 = variant("ext4", &base, &[]);
    ext4.configuration.fragments.push(bench.file("ext4.config", "CONFIG_EXT4=y\n"));
    let definitions = definitions(&[base, ext4]);
    let built = bench.build(&definitions, "ext4").await.0.unwrap();
    assert_eq!(built.manifest.base.unwrap().as_str(), "base");
    assert!(fs::read_to_string(&built.config).unwrap().contains("CONFIG_EXT4=y\n"));
    assert!(!built.manifest.unchanged_from_base);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_changes_nothing_is_told() {
    let bench = Bench::new();
    let base = kernel("base", &tiny_source(), &[]);
    let comment = bench.patch("comment.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + 1; /* the next one */");
    let definitions = definitions(&[base.clone(), variant("comment", &base, &[comment])]);
    let (built, events) = bench.build(&definitions, "comment").await;
    assert!(built.unwrap().manifest.unchanged_from_base);
    let told = |event: &Event| matches!(event, Event::Warning { message } if message.contains("comment: the same vmlinux as"));
    assert!(events.iter().any(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_of_contents_and_not_of_words() {
    let bench = Bench::new();
    let patch = bench.patch("a.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let mut one = kernel("one", &tiny_source(), &[]);
    one.patches = vec![patch.clone()];
    let mut other = Kernel { name: Name::new("other").unwrap(), description: "another word".into(), ..one.clone() };
    other.patches = vec![bench.file("renamed.patch", &fs::read_to_string(&patch).unwrap())];
    let definitions = definitions(&[one, other]);
    let built = bench.build(&definitions, "one").await.0.unwrap();
    let (same, events) = bench.build(&definitions, "other").await;
    let same = same.unwrap();
    assert_eq!((same.key, same.manifest.kernel.as_str()), (built.key.clone(), "other"));
    assert!(matches!(events.last(), Some(Event::BuildFinished { cached: true, .. })));
    fs::write(&patch, fs::read_to_string(&patch).unwrap().replace("page + 10", "page + 11")).unwrap();
    assert_ne!(bench.build(&definitions, "one").await.0.unwrap().key, built.key);
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_that_do_not_stick_are_told_at_once() {
    let bench = Bench::new();
    let fragment = bench.file("fragment.config", "CONFIG_EXT4=y\n# a comment\nCONFIG_FAST=y\nCONFIG_EXT5=y\n");
    let definitions = definitions(&[kernel("base", &tiny_source(), &[fragment])]);
    let (built, events) = bench.build(&definitions, "base").await;
    let expected = "2 requested configuration symbols did not stick:\
        \n  DIR/fragment.config:4: CONFIG_EXT5: wanted y, got n (this source has no such symbol)\
        \n  DIR/fragment.config:3: CONFIG_FAST: wanted y, got n (what it depends on isn't met)\
        \nturn on what they depend on, or remove them";
    assert_eq!(bench.shown(&built.unwrap_err()), expected);
    assert!(matches!(events.last(), Some(Event::BuildFailed { .. })));
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compatibility_change_whose_symbol_does_not_stick_is_told() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[]);
    let change = Change::Configuration([("FAST".to_owned(), "y".to_owned()), ("EXT4".to_owned(), "y".to_owned())].into());
    base.compatibility = vec![Compatibility { change, when: Vec::new(), because: None }];
    let expected = "1 requested configuration symbol did not stick:\
        \n  compatibility change `configuration CONFIG_EXT4=y CONFIG_FAST=y`: CONFIG_FAST: wanted y, got n (what it depends on isn't met)\
        \nturn on what they depend on, or remove them";
    assert_eq!(bench.shown(&bench.build(&definitions(&[base]), "base").await.0.unwrap_err()), expected);
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_error_names_the_patch_and_the_log() {
    let bench = Bench::new();
    let base = kernel("base", &tiny_source(), &[]);
    let broken = bench.patch("broken.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + nonsense;");
    let definitions = definitions(&[base.clone(), variant("broken", &base, &[broken])]);
    let error = bench.build(&definitions, "broken").await.0.unwrap_err();
    let BuildError::Make { log, .. } = &error else { panic!("{error}") };
    assert!(fs::read_to_string(log).unwrap().contains("nonsense"));
    let shown = bench.shown(&error).replace(log.file_name().unwrap().to_str().unwrap(), "LOG");
    let expected = "make bzImage vmlinux failed: mm/filemap.c:7:23: error: 'nonsense' undeclared (first use in this function) \
        (the file is changed by patch DIR/broken.patch: look there first); the whole log is DIR/store/logs/LOG";
    assert_eq!(shown, expected);
    bench.ends_clean().await;
    // The base is fine, and so is the store.
    assert!(bench.build(&definitions, "base").await.0.is_ok());
}

/// A clone shares its origin's files: a makefile that writes to one, and puts its size and time back, has changed what others are built from.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_a_makefile_wrote_to_is_found() {
    let bench = Bench::new();
    let map = "\t@nm -n $@ > System.map";
    let write =
        |file: &str| format!("{map}; touch -r {file} stamp; printf 'X' | dd of={file} conv=notrunc status=none; touch -r stamp {file}");
    let hostile = bench.patch("hostile.patch", "Makefile", map, &write("mm/filemap.c"));
    let base = kernel("base", &tiny_source(), &[]);
    let definitions = definitions(&[base.clone(), Kernel { patches: vec![hostile], ..kernel("hostile", &tiny_source(), &[]) }]);
    // Its own kernel may be finished before it is found.
    let _ = bench.build(&definitions, "hostile").await;
    let source = source::fetch(&bench.store, &tiny_source(), &Events::ignored()).await.unwrap();
    assert!(fs::read_to_string(source.tree.join("mm/filemap.c")).unwrap().starts_with('X'), "so the test can fail");
    assert_eq!(tree::index(&source.tree).unwrap(), source.index, "sizes and times tell nothing");
    let error = bench.build(&definitions, "base").await.0.unwrap_err();
    let folder = source.tree.parent().unwrap();
    assert_eq!(
        error.to_string(),
        format!("{} was changed after it was finished: remove it, and hangproof makes it anew", folder.display())
    );
    fs::remove_dir_all(folder).unwrap();
    bench.build(&definitions, "base").await.0.unwrap();
    bench.ends_clean().await;
}

/// What a build has made is kept, and shown to others: it is to be the build's, not a file that a link leads to.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_result_is_refused() {
    let bench = Bench::new();
    let secret = bench.file("secret", "CONFIG_SECRET=y\n");
    let map = "\t@nm -n $@ > System.map";
    let copy = "\t@cp $< $@";
    for (name, old, new) in [
        ("System.map", map, format!("\t@ln -s {} System.map", secret.display())),
        (".config", map, format!("{map}; ln -sf {} .config", secret.display())),
        ("arch", copy, format!("{copy}; mv arch elsewhere; ln -s elsewhere arch")),
    ] {
        let patch = bench.patch(&format!("{}.patch", name.trim_start_matches('.')), "Makefile", old, &new);
        let kernel = Kernel { patches: vec![patch], ..kernel("hostile", &tiny_source(), &[]) };
        let error = bench.build(&definitions(&[kernel]), "hostile").await.0.unwrap_err().to_string();
        let expected = format!(
            "/tree/{name} is no regular file of the tree, or a link leads to it: no kernel's makefiles make it so; read the patch and the makefiles"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    assert_eq!(fs::read_dir(bench.store.root().join("builds")).unwrap().count(), 0);
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_does_not_apply_names_file_and_hunk() {
    let bench = Bench::new();
    let base = kernel("base", &tiny_source(), &[]);
    let stale = bench.patch("stale.patch", "mm/filemap.c", "\treturn page + 2;", "\treturn 0;");
    fs::write(&stale, fs::read_to_string(&stale).unwrap().replace("-\treturn page + 2", "-\treturn page + 3")).unwrap();
    let definitions = definitions(&[base.clone(), variant("stale", &base, &[stale])]);
    let error = bench.build(&definitions, "stale").await.0.unwrap_err();
    let expected = "patch DIR/stale.patch doesn't apply: hunk 1 of mm/filemap.c (line 9 there, line 3 of the patch) finds other text; \
        rebase it onto this source";
    assert_eq!(bench.shown(&error), expected);
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_fails_is_named() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[]);
    base.patches = vec![bench.patch("broken.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn;;)")];
    let definitions = definitions(&[base.clone(), variant("variant", &base, &[])]);
    let error = bench.build(&definitions, "variant").await.0.unwrap_err();
    assert!(error.to_string().starts_with("base, which it extends: make bzImage vmlinux failed: mm/filemap.c:7:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compatibility_changes_are_made_where_their_conditions_hold() {
    let bench = Bench::new();
    let change = |change: Change, when: &[Condition]| Compatibility { change, when: when.to_vec(), because: Some("it must".to_owned()) };
    let version = |bound: fn(Version) -> Requirement, text: &str| bound(Version::new(text).unwrap());
    let old = Condition::Version(Versioned::Gcc, vec![version(Requirement::Below, "3")]);
    let new = Condition::Version(Versioned::Make, vec![version(Requirement::AtLeast, "3.80")]);
    let clang = Condition::Version(Versioned::Clang, vec![version(Requirement::AtLeast, "1")]);
    let one = bench.patch("one.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let two = bench.patch("two.patch", "mm/filemap.c", "\treturn page + 2;", "\treturn page + 20;");
    let copy = |to: &str| Change::Copy { from: "include/tiny.h".into(), to: to.into() };
    let symbols = |symbol: &str, value: &str| Change::Configuration([(symbol.to_owned(), value.to_owned())].into());
    let mut base = kernel("base", &tiny_source(), &[]);
    base.compatibility = vec![
        change(Change::Patch(one), &[new, Condition::Contains("mm/filemap.c".into(), "page + 1".into())]),
        change(Change::Patch(two), &[old]),
        change(copy("include/copy.h"), &[Condition::Has("include/tiny.h".into()), Condition::Missing("include/copy.h".into())]),
        change(copy("include/other.h"), &[Condition::Lacks("include/tiny.h".into(), "\n".into())]),
        change(Change::Flags(vec!["-DTOLD".into()]), &[clang]),
        change(Change::Flags(vec!["-fno-pie".into()]), &[]),
        change(symbols("EXT4", "y"), &[]),
    ];
    let three = bench.patch("three.patch", "mm/filemap.c", "\treturn page + 2;", "\treturn page + 30;");
    let definitions = definitions(&[base.clone(), variant("variant", &base, &[three])]);
    let (built, events) = bench.build(&definitions, "variant").await;
    let built = built.unwrap();
    let applied: Vec<_> =
        built.manifest.compatibility.iter().map(|applied| applied.change.replace(bench.folder.path().to_str().unwrap(), "DIR")).collect();
    let expected =
        ["patch DIR/one.patch", "copy include/tiny.h to include/copy.h", "compiler flags -fno-pie", "configuration CONFIG_EXT4=y"];
    assert_eq!(applied, expected);
    assert!(built.manifest.compatibility[0].when[0].starts_with("make is "), "{:?}", built.manifest.compatibility[0]);
    assert_eq!(built.manifest.compatibility[0].because.as_deref(), Some("it must"));
    assert!(fs::read_to_string(&built.config).unwrap().contains("CONFIG_EXT4=y\n"));
    // Told once, for the base, and the variant compiles only what its own patch touches.
    let told = |event: &&Event| matches!(event, Event::BuildStep { step, .. } if step.starts_with("for compatibility: "));
    assert_eq!(events.iter().filter(told).count(), expected.len());
    assert_eq!(built.manifest.objects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_vendor_configuration_is_told_with_its_remedy() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[]);
    base.configuration.base = ConfigurationBase::Vendor("configs/x86_64.config".into());
    let error = bench.build(&definitions(&[base.clone(), variant("variant", &base, &[])]), "base").await.0.unwrap_err();
    let expected = "the source has no configuration configs/x86_64.config: it comes with the distribution's source package; bring it with \
        --configuration base=FILE";
    assert_eq!(error.to_string(), expected);
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_off_before_fragments_are_laid_over() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[bench.file("fragment.config", "CONFIG_NAME=\"tiny\"\n")]);
    base.configuration.base = ConfigurationBase::File(bench.file("vendor.config", "CONFIG_EXT4=m\nCONFIG_NAME=\"vendor\"\n"));
    base.configuration.modules = Modules::Off;
    let built = bench.build(&definitions(&[base]), "base").await.0.unwrap();
    let config = fs::read_to_string(&built.config).unwrap();
    assert!(config.contains("# CONFIG_EXT4 is not set\n") && config.contains("CONFIG_NAME=\"tiny\"\n"), "{config}");
}

/// Builds with toolchains that this machine can't have, in a process whose PATH and apt configuration say so.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of another test"]
async fn child_lacks_toolchains() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.join("bare").exists()) else { return };
    let store = Store::open_at(&home.join("store")).unwrap();
    let debian = Toolchain::Debian { suite: "bullseye".into(), compiler: "gcc-9".into(), packages: Vec::new() };
    let container = Toolchain::Container { image: "centos:7".into(), compiler: "gcc".into() };
    let expected = [
        "apt knows no mirror of Debian to make a buildroot from: let /etc/apt/sources.list name one, and run `apt-get update`",
        "neither podman nor docker is installed, and the toolchain is the container image centos:7: `apt-get install podman`, \
         or choose another toolchain with --toolchain",
    ];
    for (toolchain, expected) in [debian, container].into_iter().zip(expected) {
        let mut base = kernel("base", &tiny_source(), &[]);
        base.toolchain = toolchain;
        let definitions = definitions(&[base.clone()]);
        let error = build::build(&store, &definitions, &base, &Events::ignored(), 1).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn toolchains_that_can_not_be_had_are_told_before_anything_is_done() {
    let bench = Bench::new();
    bench.file("bare", "");
    let programs = bench.folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for program in ["git", "setpriv", "bwrap", "tar", "mmdebstrap", "apt-get"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|folder| folder.join(program)).find(|path| path.exists());
        std::os::unix::fs::symlink(found.unwrap_or_else(|| panic!("{program} is missing")), programs.join(program)).unwrap();
    }
    let lists = bench.folder.path().join("lists");
    fs::create_dir(&lists).unwrap();
    let configuration = bench.file("apt.conf", &format!("Dir::State::lists \"{}\";\nDir::Cache \"{0}\";\n", lists.display()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_lacks_toolchains", "--ignored"]).env("HOME", bench.folder.path());
    let output = command.env("PATH", &programs).env("APT_CONFIG", configuration).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// A kernel's worth of tools in another suite, from the machine's mirror. Run it with `--ignored --nocapture` to see what it costs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes a buildroot from Debian's mirror: a minute or two"]
#[expect(clippy::print_stdout, reason = "the measurements are its result")]
async fn a_buildroot_builds() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[]);
    base.toolchain = Toolchain::Debian { suite: "bullseye".into(), compiler: "gcc-9".into(), packages: Vec::new() };
    let patched = variant("patched", &base, &[bench.patch("one.patch", "mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;")]);
    let all = definitions(&[base.clone(), patched]);
    let mut signatures = Vec::new();
    for name in ["base", "patched"] {
        let started = Instant::now();
        let built = bench.build(&all, name).await.0.unwrap();
        println!("{name}: {:.2} s", started.elapsed().as_secs_f64());
        let tools = built.manifest.toolchain.unwrap();
        assert!(tools.compiler.starts_with("gcc-9 (Debian 9."), "{:?}", tools.compiler);
        let Some(build::Inside::Debian { packages, .. }) = &tools.inside else { panic!() };
        assert!(packages["gcc-9"].starts_with("9."), "{packages:?}");
        signatures.push(built.manifest.elf_signature);
    }
    assert_eq!(in_a_container(&bench, base.clone()).await, signatures[0], "the same programs make the same kernel");
    for (suite, compiler, told) in [
        ("nosuite", "gcc-9", "has no suite nosuite: correct the toolchain's suite"),
        ("bullseye", "gcc-3.0", "Debian bullseye hasn't all packages of the toolchain"),
    ] {
        base.toolchain = Toolchain::Debian { suite: suite.into(), compiler: compiler.into(), packages: Vec::new() };
        let error = bench.build(&definitions(&[base.clone()]), "base").await.0.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    bench.ends_clean().await;
}

/// An image of podman's. It is removed with the value.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", "--force", &self.0]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Builds a kernel with the toolchain of a container's image, which is made of the buildroot in the store. Returns the kernel's signature.
async fn in_a_container(bench: &Bench, mut base: Kernel) -> Option<String> {
    let podman = |arguments: &[&str]| Command::new("podman").args(arguments).output().unwrap();
    let root = fs::read_dir(bench.store.root().join("buildroots")).unwrap().next().unwrap().unwrap().path().join("root");
    let archive = bench.folder.path().join("image.tar");
    assert!(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".").status().unwrap().success());
    let image = Image(format!("localhost/hangproof-test-{}:1", std::process::id()));
    let imported = podman(&["import", "--quiet", archive.to_str().unwrap(), &image.0]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    fs::remove_file(archive).unwrap();
    base.toolchain = Toolchain::Container { image: image.0.clone(), compiler: "gcc-9".into() };
    let mut without = base.clone();
    without.toolchain = Toolchain::Container { image: image.0.clone(), compiler: "gcc-4.8".into() };
    let all = definitions(&[base]);
    let containers = || podman(&["ps", "--all", "--quiet", "--filter", &format!("ancestor={}", image.0)]).stdout;
    let there_is_one = async {
        while containers().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Interrupted between its making and its removal, the container is left for the next attempt.
    tokio::select! {
        _ = bench.build(&all, "base") => panic!("it ended before it had a container"),
        () = there_is_one => {}
    }
    let built = bench.build(&all, "base").await.0.unwrap();
    let tools = built.manifest.toolchain.as_ref().unwrap();
    assert!(tools.compiler.starts_with("gcc-9 (Debian 9."), "{:?}", tools.compiler);
    let Some(build::Inside::Container { image: name, digest }) = &tools.inside else { panic!("{:?}", tools.inside) };
    let id = String::from_utf8(podman(&["image", "inspect", "--format", "{{.Id}}", &image.0]).stdout).unwrap();
    assert_eq!((name, digest.as_str()), (&image.0, id.trim()));
    assert!(containers().is_empty(), "no container is left");
    let error = bench.build(&definitions(&[without]), "base").await.0.unwrap_err().to_string();
    let told = format!("gcc-4.8 missing in the container image {}: ", image.0);
    assert!(error.starts_with(&told) && error.len() > told.len(), "{error}");
    // Its files stay, whatever becomes of the image.
    drop(image);
    let (again, events) = bench.build(&all, "base").await;
    assert_eq!(again.unwrap().key, built.key);
    assert!(matches!(events.last(), Some(Event::BuildFinished { cached: true, .. })), "{events:?}");
    built.manifest.elf_signature
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_compiler_is_told_before_anything_is_done() {
    let bench = Bench::new();
    let mut base = kernel("base", &tiny_source(), &[]);
    base.toolchain = Toolchain::Host { compiler: "gcc-4.8".into() };
    let error = bench.build(&definitions(&[base]), "base").await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the toolchain's compiler gcc-4.8 is not on this machine: `apt-get install gcc-4.8`, or choose another one with --toolchain \
         KERNEL=host:COMPILER"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_something_wrote_to_is_not_built_from() {
    let bench = Bench::new();
    let definitions = definitions(&[kernel("base", &tiny_source(), &[])]);
    let source = source::fetch(&bench.store, &tiny_source(), &Events::ignored()).await.unwrap();
    fs::write(source.tree.join("mm/filemap.c"), "int x;\n").unwrap();
    let error = bench.build(&definitions, "base").await.0.unwrap_err();
    assert!(error.to_string().ends_with("was changed after it was finished: remove it, and hangproof makes it anew"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_built_in_is_cleaned_in_the_copy() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("built-in");
    tree::copy(&tiny(), &folder, &source::stop::Stop::default()).unwrap();
    for target in ["allnoconfig", "bzImage"] {
        assert!(Command::new("make").args(["--silent", target]).current_dir(&folder).stdout(Stdio::null()).status().unwrap().success());
    }
    let definitions = definitions(&[kernel("base", &Source::Directory { path: folder.clone() }, &[])]);
    let built = bench.build(&definitions, "base").await.0.unwrap();
    assert_eq!(built.manifest.objects, 3);
    assert!(folder.join("vmlinux").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_at_once_take_turns() {
    let bench = Bench::new();
    let definitions = definitions(&[kernel("base", &tiny_source(), &[])]);
    let ((one, first), (other, second)) = tokio::join!(bench.build(&definitions, "base"), bench.build(&definitions, "base"));
    assert_eq!(one.unwrap().key, other.unwrap().key);
    let compiled = |events: &[Event]| events.iter().any(|event| matches!(event, Event::BuildStarted { .. }));
    assert!(compiled(&first) ^ compiled(&second));
}

/// A home directory in which every compile takes a minute; it goes to the child by its environment.
fn slow_home(bench: &Bench) -> PathBuf {
    bench.file("slow", "");
    bench.folder.path().to_owned()
}

/// Builds for the two tests below, in a process of its own, because they end it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of other tests"]
async fn child_builds() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.join("slow").exists()) else { return };
    let store = Store::open_at(&home.join("store")).unwrap();
    let definitions = definitions(&[kernel("base", &tiny_source(), &[])]);
    let kernel = &definitions.kernels[&Name::new("base").unwrap()];
    let events = Events::ignored();
    let build = build::build(&store, &definitions, kernel, &events, 2);
    let interrupted = async {
        while !home.join("interrupt").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        built = build => { built.unwrap(); }
        () = interrupted => {}
    }
}

fn child(home: &Path) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_builds", "--ignored"]).env("HOME", home).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_build_leaves_nothing() {
    let bench = Bench::new();
    let home = slow_home(&bench);
    let mut child = child(&home);
    eventually("two compilers work", || workers(&home) >= 3).await;
    bench.file("interrupt", "");
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    bench.ends_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_build_leaves_a_usable_store() {
    let bench = Bench::new();
    let home = slow_home(&bench);
    let mut child = child(&home);
    eventually("two compilers work", || workers(&home) >= 3).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // make is dead; a compiler that it had started may end its file.
    let _ = bench.store.sweep();
    eventually("no process is left", || workers(&home) == 0).await;
    bench.ends_clean().await;
    fs::remove_file(home.join("slow")).unwrap();
    let definitions = definitions(&[kernel("base", &tiny_source(), &[])]);
    assert_eq!(bench.build(&definitions, "base").await.0.unwrap().manifest.objects, 3);
}

/// The disks of the test below, from one that can't hold the source to one that can't hold the results, in KiB.
const SMALL: [u32; 6] = [32, 44, 52, 60, 68, 76];

/// Builds on small disks, in a mount namespace of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of another test"]
async fn child_fills_a_disk() {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.join("small").exists()) else { return };
    let definitions = definitions(&[kernel("base", &tiny_source(), &[])]);
    for size in SMALL {
        let root = home.join(size.to_string());
        fs::create_dir(&root).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}k"), "none"]).arg(&root);
        assert!(mount.status().unwrap().success());
        let store = Store::open_at(&root).unwrap();
        let kernel = &definitions.kernels[&Name::new("base").unwrap()];
        let error = build::build(&store, &definitions, kernel, &Events::ignored(), 1).await.unwrap_err();
        let BuildError::DiskFull { filesystem, .. } = &error else { panic!("{size} KiB: {error:?}") };
        assert_eq!(*filesystem, root);
    }
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let bench = Bench::new();
    bench.file("small", "");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child_fills_a_disk", "--ignored"]).env("HOME", bench.folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// Linux 6.1 from Debian, a base on it and two variants, as the quickstart has them, in the user's store. Run it with `--ignored --nocapture` and an empty
/// `HANGPROOF_CACHE` to see what each costs.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "fetches and builds Linux 6.1: minutes"]
#[expect(clippy::print_stdout, reason = "the measurements are its result")]
async fn debian_kernel_and_variants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let store = Store::open().unwrap();
    let patch = |name: &str| vec![root.join("patches").join(name)];
    let source = Source::Debian { package: "linux-source-6.1".into(), version: None };
    let base = kernel("debian-6.1", &source, &[root.join("kernels/debian-6.1.config")]);
    let el7mm = variant("debian-6.1-el7mm", &base, &patch("el7-memcg-oom.patch"));
    let lost = variant("debian-6.1-el7mm-nofail-lost", &el7mm, &patch("nofail-lost.patch"));
    let restored = variant("debian-6.1-el7mm-nofail-restored", &lost, &patch("nofail-restored.patch"));
    let all = [base, el7mm, lost, restored];
    let definitions = definitions(&all);
    for kernel in &all {
        let started = Instant::now();
        let (events, mut reader) = Events::channel();
        let steps = tokio::spawn(async move {
            while let Some(event) = reader.recv().await {
                if !matches!(event, Event::BuildProgress { .. } | Event::Download { .. }) {
                    println!("  {:6.2} s {event:?}", started.elapsed().as_secs_f64());
                }
            }
        });
        let built = build::build(&store, &definitions, kernel, &events, 2).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        drop(events);
        steps.await.unwrap();
        println!(
            "{}: {seconds:.2} s all in, {:.2} s and {} objects when built",
            kernel.name, built.manifest.seconds, built.manifest.objects
        );
        let Built { image, vmlinux, system_map, config, .. } = &built;
        let files = [Some(image), vmlinux.as_ref(), system_map.as_ref(), Some(config)];
        assert!(files.iter().all(|path| fs::metadata(path.unwrap()).unwrap().len() > 0));
        assert!(!built.manifest.unchanged_from_base);
        assert!(kernel.base.is_none() || built.manifest.objects < 20, "a variant compiles only what its patch touches");
        let again = Instant::now();
        let cached = build::build(&store, &definitions, kernel, &Events::ignored(), 2).await.unwrap();
        assert_eq!(cached.key, built.key);
        println!("{}: {:.2} s from the cache", kernel.name, again.elapsed().as_secs_f64());
    }
    let source = source::fetch(&store, &source, &Events::ignored()).await.unwrap();
    assert_eq!(tree::index(&source.tree).unwrap(), source.index, "no build wrote to the shared source");
}
