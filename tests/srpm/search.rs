//! A search over the patches that a spec file applies: its line, and its kernels, which are those of the same package with fewer patches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hangproof::bisect::{Axis, over_patches};
use hangproof::build::Built;
use hangproof::event::Events;
use hangproof::report::{SearchAnswer, SearchSetup};
use hangproof::source::stop::Stop;
use hangproof::source::tree::{self, Share};
use hangproof::source::{self, patch};
use hangproof::spec::{
    Configuration, ConfigurationBase, Definitions, Kernel, Location, Modules, Name, PublishedDigest, Source, Srpm, SrpmTarball, Toolchain,
};

use super::bench::{Bench, CONFIG, FILE, SPEC, TARBALL, digests, packed};
use super::course::{frame, searched};

/// Fits with a fuzz of 1, as its first line is another one in the file.
const FUZZY: &str = "From: a\nSubject: [PATCH] Count by tens\n\n--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -3,7 +3,7 @@\n int fileMAP(int page)\n \
    {\n \tif (page < 0)\n-\t\treturn -1;\n+\t\treturn -10;\n \treturn page + 1;\n }\n \n";

/// Touches what stands beside the version, and makes a file.
const QUOTA: &str = "--- linux.orig/Makefile\n+++ linux/Makefile\n@@ -1,6 +1,6 @@\n VERSION = 3\n EXTRAVERSION =\n-objects := init/main.o mm/filemap.o \
    fs/ext4.o\n+objects := init/main.o mm/filemap.o fs/ext4.o fs/quota.o\n CC ?= gcc\n \n .DELETE_ON_ERROR:\n--- /dev/null\n+++ linux/fs/quota.c\n\
    @@ -0,0 +1,4 @@\n+int quota(void)\n+{\n+\treturn 7;\n+}\n";

/// What the second patch changed is changed again, without a newline at the end; and a file goes.
const EXT4: &str = "Subject: Use more inodes\n\n--- a/fs/ext4.c\n+++ b/fs/ext4.c\n@@ -8,3 +8,3 @@ int ext4(int inode)\n #else\n-\treturn inode * 2;\n\
    +\treturn inode * 4;\n #endif\n--- a/fs/quota.c\n+++ b/fs/quota.c\n@@ -1,4 +1,4 @@\n int quota(void)\n {\n-\treturn 7;\n-}\n+\treturn 8;\n+}\n\
    \\ No newline at end of file\n--- a/docs/readme\n+++ /dev/null\n@@ -1 +0,0 @@\n-A tree for tests.\n";

/// A patch of the definition.
const MAIN: &str = "Subject: Begin with two\n\n--- a/init/main.c\n+++ b/init/main.c\n@@ -3,5 +3,5 @@\n void start(void)\n {\n-\tfilemap(ext4(1));\n\
    +\tfilemap(ext4(2));\n \tfor (;;)\n \t\t;\n";

/// What the spec file applies, in its order; the numbers of its list have another one.
const HOOKS: [&str; 4] =
    ["ApplyPatch fuzzy.patch", "ApplyOptionalPatch linux-kernel-test.patch", "ApplyPatch quota.patch", "ApplyPatch ext4.patch"];

/// A spec file with these hooks.
fn spec(hooks: &[&str]) -> String {
    let listed = "Patch30: fuzzy.patch\nPatch20: quota.patch\nPatch10: ext4.patch";
    let all = "ApplyOptionalPatch linux-kernel-test.patch\nApplyOptionalPatch debrand.patch";
    SPEC.replace("Patch1000: debrand.patch", listed).replace(all, &hooks.join("\n"))
}

/// The package's tarball: the tiny kernel with a version.
fn tiny() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-kernel");
    let names = ["Kconfig", "Makefile", "docs/readme", "fs/ext4.c", "include/tiny.h", "init/main.c", "mm/filemap.c", "scripts/conf.sh"];
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let makefile = |text: String| {
        let objects = "objects := init/main.o mm/filemap.o fs/ext4.o\n";
        let rest = text.replacen(objects, "", 1);
        format!("VERSION = 3\nEXTRAVERSION =\n{objects}{}", rest.split_once('\n').unwrap().1)
    };
    let texts = names.map(|name| if name == "Makefile" { makefile(read(name)) } else { read(name) });
    packed(&names.into_iter().zip(texts.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Makes the package with these hooks.
fn package(bench: &Bench, hooks: &[&str]) -> PathBuf {
    let files = [
        (TARBALL, tiny()),
        ("kernel-3.10.0-x86_64.config", CONFIG.into()),
        ("linux-kernel-test.patch", Vec::new()),
        ("fuzzy.patch", FUZZY.into()),
        ("quota.patch", QUOTA.into()),
        ("ext4.patch", EXT4.into()),
    ];
    bench.build(&spec(hooks), &files)
}

fn name() -> Name {
    Name::new("el7").unwrap()
}

/// A kernel of this source, and one that extends it.
fn definitions(srpm: Srpm) -> Definitions {
    let kernel = Kernel {
        name: name(),
        description: String::new(),
        defined_in: PathBuf::from("kernels/el7.yaml"),
        base: None,
        source: Source::Srpm(srpm),
        toolchain: Toolchain::Host { compiler: "gcc".into() },
        configuration: Configuration { base: ConfigurationBase::Allnoconfig, modules: Modules::Keep, fragments: Vec::new() },
        compatibility: Vec::new(),
        patches: Vec::new(),
        inherited_patches: 0,
        boot_arguments: Vec::new(),
    };
    let variant = Kernel { name: Name::new("el7-variant").unwrap(), base: Some(name()), ..kernel.clone() };
    let kernels = [kernel, variant].map(|kernel| (kernel.name.clone(), kernel)).into();
    Definitions { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), kernels, ..Definitions::default() }
}

async fn line(bench: &Bench, definitions: &mut Definitions, name: &str, find_fix: bool) -> Result<(SearchSetup, Axis), String> {
    let name = Name::new(name).unwrap();
    let made = over_patches(&bench.store, definitions, &name, frame(find_fix), &Events::ignored()).await;
    made.map_err(|error| format!("{error:#}"))
}

async fn build(bench: &Bench, axis: &Axis, definitions: &Definitions, kernel: &Name) -> Built {
    axis.build(&bench.store, definitions, kernel, &Events::ignored(), 2).await.unwrap()
}

#[tokio::test]
async fn the_line_is_the_spec_files_patches_and_then_the_definitions() {
    let bench = Bench::new();
    package(&bench, &HOOKS);
    let mut definitions = definitions(bench.srpm());
    fs::write(bench.path("main.patch"), MAIN).unwrap();
    definitions.kernels.get_mut(&name()).unwrap().patches = vec![bench.path("main.patch")];
    let stack = bench.path("main.patch").display().to_string();
    let (setup, _) = line(&bench, &mut definitions, "el7", false).await.unwrap();
    let shown = |setup: &SearchSetup| {
        let points = std::iter::once(&setup.good_end).chain(&setup.points);
        points.map(|point| [point.kernel.as_str(), &point.what, &point.title].map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut expected = vec![
        ["el7.patch-0", "no patch", &format!("the tarball of {FILE} without the package's patches")].map(str::to_owned),
        ["el7.patch-1", "fuzzy.patch", "Count by tens"].map(str::to_owned),
        // The optional patch is empty and applies nothing.
        ["el7.patch-2", "quota.patch", ""].map(str::to_owned),
        ["el7.patch-3", "ext4.patch", "Use more inodes"].map(str::to_owned),
        ["el7.patch-4", &stack, "Begin with two"].map(str::to_owned),
    ];
    assert_eq!(shown(&setup), expected);
    let (fix, _) = line(&bench, &mut definitions, "el7", true).await.unwrap();
    expected.reverse();
    assert_eq!(shown(&fix), expected);
    for (setup, first_bad) in [(setup, 1), (fix, 2)] {
        // Going back in time it ends when the one before the first bad one is taken back.
        let report = searched(setup, first_bad, &[]).report();
        let Some(SearchAnswer::Found { culprits, .. }) = &report.answer else { panic!("{:?}", report.answer) };
        assert_eq!(culprits.iter().map(|point| point.what.as_str()).collect::<Vec<_>>(), ["quota.patch"]);
    }
    // A kernel that extends another one has a stack of its own.
    definitions.kernels.get_mut(&Name::new("el7-variant").unwrap()).unwrap().patches = vec![bench.path("main.patch")];
    let (own, _) = line(&bench, &mut definitions, "el7-variant", false).await.unwrap();
    assert_eq!(own.points.iter().map(|point| &point.what).collect::<Vec<_>>(), [&stack]);
}

#[tokio::test]
async fn kernels_are_those_of_the_package_with_fewer_patches() {
    let bench = Bench::new();
    let mut alone = Vec::new();
    for hooks in [0, 1, 3, 4] {
        package(&bench, &HOOKS[..hooks]);
        let definitions = definitions(bench.srpm());
        let built = build(&bench, &Axis::Defined, &definitions, &name()).await;
        alone.push((bench.fetch(&bench.srpm()).await.unwrap(), built));
    }
    let mut definitions = definitions(bench.srpm());
    fs::write(bench.path("main.patch"), MAIN).unwrap();
    definitions.kernels.get_mut(&name()).unwrap().patches = vec![bench.path("main.patch")];
    let (setup, axis) = line(&bench, &mut definitions, "el7", false).await.unwrap();
    let points: Vec<&Name> = std::iter::once(&setup.good_end).chain(&setup.points).map(|point| &point.kernel).collect();
    let whole = &alone[3].0;
    for (number, (pristine, expected)) in alone.iter().enumerate() {
        // Source by source, the version and the configurations included.
        let tree = bench.path(&format!("tree-{number}"));
        tree::clone(&whole.tree, &tree, Share::All, &whole.index, &Stop::default()).unwrap();
        patch::apply(&tree, &definitions.kernels[points[number]].patches).await.unwrap();
        let content = |tree: &Path| tree::content(tree, &Stop::default()).unwrap();
        assert_eq!(content(&tree), content(&pristine.tree), "{number}");
        // And bit by bit.
        let built = build(&bench, &axis, &definitions, points[number]).await;
        assert_eq!(built.manifest.elf_signature, expected.manifest.elf_signature, "{number}");
        let base = (number < 3).then_some("el7.patch-3");
        assert_eq!(built.manifest.base.as_ref().map(Name::as_str), base);
    }
    // The whole package is the kernel that is defined, and was built before; what differs is all that is compiled.
    let built = build(&bench, &axis, &definitions, points[3]).await;
    assert_eq!((&built.key, built.manifest.objects), (&alone[3].1.key, 4));
    let without = build(&bench, &axis, &definitions, points[2]).await;
    assert_eq!((without.manifest.objects, without.manifest.patches[0].path.ends_with("undo/0003-undo-ext4.patch")), (2, true));
    let all = build(&bench, &axis, &definitions, points[4]).await;
    assert_eq!((all.manifest.objects, all.manifest.base.as_ref().map(Name::as_str)), (1, Some("el7.patch-3")));
    let signatures: BTreeSet<_> = alone.iter().map(|(_, built)| built).chain([&all]).map(|built| &built.manifest.elf_signature).collect();
    assert_eq!(signatures.len(), 5);
}

#[tokio::test]
async fn patches_are_kept_with_the_tree_and_made_anew_when_they_are_gone() {
    let bench = Bench::new();
    package(&bench, &HOOKS);
    let tree = bench.fetch(&bench.srpm()).await.unwrap();
    // A network that is gone does no harm.
    let away = Srpm { vault: Location::Url("http://127.0.0.1:1".into()), ..bench.srpm() };
    let names = async |srpm: &Srpm| {
        let own = source::own_patches(&bench.store, srpm, &Events::ignored()).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(own.patches.iter().map(|patch| patch.name.clone()).collect::<Vec<_>>())
    };
    let expected = Ok(["fuzzy.patch", "quota.patch", "ext4.patch"].map(str::to_owned).to_vec());
    assert_eq!(names(&away).await, expected);
    let sources = bench.store.root().join("sources");
    let kept = fs::read_dir(&sources).unwrap().flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("srpm-patches-"));
    fs::remove_dir_all(kept.unwrap().path()).unwrap();
    assert!(names(&away).await.unwrap_err().starts_with("download http://127.0.0.1:1/"));
    assert_eq!(names(&bench.srpm()).await, expected);
    assert_eq!(names(&away).await, expected);
    assert_eq!(bench.fetch(&bench.srpm()).await.unwrap().digest, tree.digest);
}

#[tokio::test]
async fn a_package_without_patches_is_refused_with_a_remedy() {
    let bench = Bench::new();
    let mut told = definitions(bench.srpm());
    let another = "name a kernel with a stack of them by --kernel";
    // An optional one that applies nothing is none.
    for hooks in [&HOOKS[..0], &HOOKS[1..2]] {
        package(&bench, hooks);
        assert_eq!(
            line(&bench, &mut told, "el7", false).await.unwrap_err(),
            format!("el7 has no patches to search: the spec file of {FILE} applies none, and its definition has none; {another}")
        );
    }
    assert_eq!(
        line(&bench, &mut told, "el7-variant", false).await.unwrap_err(),
        format!("el7-variant has no patches to search: {another}, or el7, whose source package may bring some")
    );
    let path = package(&bench, &HOOKS);
    fs::remove_file(&path).unwrap();
    let (_, sha1) = digests(&tiny());
    let folder = path.parent().unwrap();
    fs::write(folder.join(TARBALL), tiny()).unwrap();
    let tarball = Some(SrpmTarball { name: TARBALL.into(), digest: PublishedDigest::Sha1(sha1) });
    let mut bare = definitions(Srpm { tarball, ..bench.srpm() });
    assert_eq!(
        line(&bench, &mut bare, "el7", false).await.unwrap_err(),
        format!("el7 has no patches to search, since they aren't in the bare tarball: put {FILE} beside it, or {another}")
    );
    fs::remove_file(folder.join(TARBALL)).unwrap();
    assert_eq!(
        line(&bench, &mut bare, "el7", false).await.unwrap_err(),
        format!(
            "reading the patches of el7's source package: {} has neither {FILE} nor {TARBALL}: put one of them there, or name another folder \
             with --vault",
            folder.display()
        )
    );
}
