//! Definitions good and bad: what loads, and what is said about what doesn't.
//!
//! A bad definition is the good one of `definitions/good` with one edit. What is said about each is in the snapshots, which are the list of all
//! messages: read them as a user would. No kernel is built and no VM is started here.
//!
//! Read [`check`] first.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "definitions/cases.rs"]
mod cases;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cases::{BASE, Case, DISK, IMAGES, KERNELS, PIPELINES, SYNTAX, VARIANT, WRITERS};
use hangproof::report::list;
use hangproof::spec::{ConfigurationBase, Definitions, Location, Name, PackageFile, Prebuilt, Problems, Source, Toolchain, load};
use miette::GraphicalTheme;
use proptest::prelude::{Strategy, any, prop, prop_assert, proptest};
use tempfile::TempDir;

/// What the crate ships.
const SHIPPED: &str = env!("CARGO_MANIFEST_DIR");

/// A small set of definitions without an error.
const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definitions/good");

/// A copy of a folder of definitions.
fn copy(from: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for below in ["kernels", "compatibility", "patches", "images", "pipelines"] {
        let from = Path::new(from).join(below);
        if from.is_dir() {
            copy_folder(&from, &folder.path().join(below));
        }
    }
    folder
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn edit(root: &Path, file: &str, find: &str, replacement: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(find), "{file} holds no {find:?}");
    let edited = if find.is_empty() { replacement.to_owned() } else { text.replacen(find, replacement, 1) };
    fs::write(path, edited).unwrap();
}

/// Every case must have problems, each with a place; what they say is the snapshot.
fn check(name: &str, cases: &[Case]) {
    let mut said = String::new();
    for (case, file, find, replacement) in cases {
        let folder = copy(GOOD);
        edit(folder.path(), file, find, replacement);
        let Err(Problems(problems)) = load(folder.path()) else { panic!("{case}: loads") };
        writeln!(said, "## {case}").unwrap();
        for problem in problems {
            assert!(problem.line > 0 && problem.column > 0, "{case}: {problem}");
            assert!(!problem.message.ends_with('.') && !problem.remedy.ends_with('.'), "{case}: {problem}");
            writeln!(said, "{problem}").unwrap();
        }
        said.push('\n');
    }
    snapshot(name, &said);
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("definitions");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// What is said about a folder that `spoil` changed.
fn said(spoil: impl FnOnce(&Path)) -> String {
    let folder = copy(GOOD);
    spoil(folder.path());
    load(folder.path()).unwrap_err().to_string().replace(&folder.path().display().to_string(), "ROOT")
}

fn good() -> Definitions {
    load(Path::new(GOOD)).unwrap()
}

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

#[test]
fn a_program_that_is_not_on_this_machine_is_in_the_way_of_those_only_that_use_it() {
    let folder = copy(GOOD);
    edit(folder.path(), "images/disk.yaml", "[/usr/bin/fio]", "[/usr/bin/env, /no/such/tool]");
    edit(folder.path(), "pipelines/writers/pipeline.yaml", "[/usr/bin/fio]", "[/etc]");
    let definitions = load(folder.path()).unwrap();
    let pipeline = &definitions.pipelines[&Name::new("writers").unwrap()];
    let image = &definitions.images[&Name::new("disk").unwrap()];
    let error = definitions.present([&*pipeline.defined_in, &*image.defined_in]).unwrap_err();
    let remedy = "install the package that brings it, or correct the path";
    let expected = format!(
        "pipelines/writers/pipeline.yaml:15:10: `/etc` is no file; {remedy}\nimages/disk.yaml:6:26: `/no/such/tool` is not on this machine; {remedy}"
    );
    assert_eq!(error.to_string(), expected);
    assert!(definitions.present(definitions.kernels.values().map(|kernel| kernel.defined_in.as_path())).is_ok());
}

#[test]
fn bad_syntax() {
    check("syntax", SYNTAX);
}

#[test]
fn bad_kernels() {
    check("kernels", KERNELS);
}

#[test]
fn bad_images() {
    check("images", IMAGES);
}

#[test]
fn bad_pipelines() {
    check("pipelines", PIPELINES);
}

#[test]
fn bad_files() {
    let write = |path: PathBuf, content: &[u8]| fs::write(path, content).unwrap();
    let cases: Vec<(&str, String)> = vec![
        ("no folders", said(|root| fs::remove_dir_all(root.join("kernels")).unwrap())),
        ("a folder without a pipeline", said(|root| fs::create_dir(root.join("pipelines/empty")).unwrap())),
        ("two spellings of the ending", said(|root| fs::copy(root.join(BASE), root.join("kernels/base.yml")).map(drop).unwrap())),
        (
            "two spellings of a pipeline's",
            said(|root| fs::copy(root.join(WRITERS), root.join("pipelines/writers/pipeline.yml")).map(drop).unwrap()),
        ),
        (
            "a pipeline in another's folder",
            said(|root| fs::rename(root.join("pipelines/writers"), root.join("pipelines/readers")).unwrap()),
        ),
        ("not UTF-8", said(|root| write(root.join(BASE), b"name: \xff"))),
        ("too large", said(|root| write(root.join(DISK), &vec![b'#'; 64 * 1024 + 1]))),
        ("a folder", said(|root| fs::create_dir(root.join("kernels/folder.yaml")).unwrap())),
        ("another spelling of the ending", said(|root| write(root.join("kernels/base.YAML"), b"name: x\n"))),
        (
            "no files where files are named",
            said(|root| {
                fs::create_dir(root.join("patches/folder")).unwrap();
                std::os::unix::fs::symlink("/dev/null", root.join("patches/device")).unwrap();
                edit(root, BASE, "[first.patch]", "[folder, device, first.patch/x]");
            }),
        ),
        ("a dangling link", said(|root| std::os::unix::fs::symlink("nowhere", root.join("kernels/link.yaml")).unwrap())),
        (
            "a circle",
            said(|root| {
                edit(root, VARIANT, "extends: base", "extends: third");
                write(root.join("kernels/third.yaml"), b"name: third\ndescription: c\nextends: variant\n");
                write(root.join("kernels/fourth.yaml"), b"name: fourth\ndescription: d\nextends: third\n");
            }),
        ),
        (
            "several files",
            said(|root| {
                edit(root, WRITERS, "repeats: 3", "repeats: 0");
                edit(root, BASE, "gcc", "gcc -m32");
                edit(root, VARIANT, "[second.patch]", "[third.patch]");
                edit(root, DISK, "md", "dm");
            }),
        ),
        ("a reference to a file that can't be parsed is no second problem", said(|root| edit(root, BASE, "[first.patch]", "[first.patch"))),
    ];
    let text: Vec<String> = cases.into_iter().map(|(case, said)| format!("## {case}\n{said}\n")).collect();
    snapshot("files", &text.join("\n"));
}

#[test]
fn a_file_full_of_errors_is_cut_short() {
    let folder = copy(GOOD);
    let keys: String = (0..2000).map(|number| format!("key-{number}: 1\n")).collect();
    edit(folder.path(), BASE, "source:", &format!("{keys}source:"));
    assert_eq!(load(folder.path()).unwrap_err().0.len(), 100);
}

#[test]
fn a_hostile_file_costs_no_more_than_its_size() {
    let repeated = |piece: &str| piece.repeat(64 * 1024 / piece.len());
    let list_of = |piece: &str| format!("name: base\npatches: [{}]\n", piece.repeat(63 * 1024 / piece.len()));
    let texts = [
        repeated("["),
        repeated("{a: "),
        repeated("- "),
        repeated("? "),
        repeated("a:\n "),
        repeated("\"\\"),
        list_of("&a x,"),
        list_of("a,"),
        list_of("1,"),
    ];
    for text in texts {
        let folder = copy(GOOD);
        fs::write(folder.path().join(BASE), &text).unwrap();
        let begun = std::time::Instant::now();
        let problems = load(folder.path()).unwrap_err().0.len();
        let start: String = text.chars().take(30).collect();
        assert!((1..=100).contains(&problems), "{start}");
        assert!(begun.elapsed().as_secs() < 20, "{start}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_problem_is_underlined() {
    let folder = copy(GOOD);
    edit(folder.path(), BASE, "[first.patch]", "[ first.patch, frist.patch] # where ü is");
    edit(folder.path(), BASE, "[cgroup.memory=nokmem]", "[ä=内核, a b]");
    fs::create_dir(folder.path().join("pipelines/empty")).unwrap();
    let problems = load(folder.path()).unwrap_err();
    snapshot("underlined", &problems.underlined(GraphicalTheme::none()));
}

#[test]
fn shipped_definitions_load() {
    let definitions = load(Path::new(SHIPPED)).unwrap_or_else(|problems| panic!("{problems}"));
    let expected: Vec<String> =
        definitions.pipelines[&name("ext4-oom")].kernels.iter().map(|(kernel, expected)| format!("{kernel} {expected:?}")).collect();
    let base = "debian-6.1";
    let wanted = [
        format!("{base} Some(Pass)"),
        format!("{base}-el7mm Some(Pass)"),
        format!("{base}-el7mm-nofail-lost Some(Hang)"),
        format!("{base}-el7mm-nofail-restored Some(Pass)"),
    ];
    assert_eq!(expected, wanted);
    assert_eq!(definitions.kernels[&name("debian-6.1-el7mm-nofail-restored")].patches.len(), 3);
}

#[test]
fn a_variant_continues_its_base() {
    let definitions = good();
    let variant = &definitions.kernels[&name("variant")];
    let below_root =
        |paths: &[PathBuf]| -> Vec<String> { paths.iter().map(|path| definitions.shown(path).display().to_string()).collect() };
    assert_eq!(below_root(&variant.patches), ["patches/first.patch", "patches/second.patch"]);
    assert_eq!(variant.inherited_patches, 1);
    assert_eq!(below_root(&variant.configuration.fragments), ["kernels/base.config", "kernels/variant.config"]);
    assert_eq!(variant.compatibility, definitions.kernels[&name("base")].compatibility);
    assert_eq!(variant.compatibility.len(), 1);
    assert_eq!(variant.boot_arguments, ["cgroup.memory=nokmem", "quiet"]);
    assert_eq!(variant.source, definitions.kernels[&name("base")].source);
}

#[test]
fn every_kind_of_source_and_configuration_loads() {
    let digest = "0123456789abcdef".repeat(4);
    let sources = [
        "debian: {package: linux-source-6.1, version: 6.1.192-1}".to_owned(),
        format!("tarball: {{url: \"https://example.org/linux.tar.xz\", sha256: {digest}}}"),
        "tarball: {path: /srv/linux.tar.xz}".to_owned(),
        "git: {repository: \"https://example.org/linux.git\", revision: v6.1}".to_owned(),
        "directory: {path: /srv/linux}".to_owned(),
    ];
    let packages = [
        "{debian: linux-image-cloud-amd64, version: 6.1.192-2}".to_owned(),
        "{package: /srv/linux-image.deb}".to_owned(),
        format!("{{url: \"https://example.org/linux-image.deb\", sha256: {digest}}}"),
        "{url: \"https://vault.centos.org/8/kernel.rpm\", sha256: unknown}".to_owned(),
        format!("{{packages: [{{package: /srv/kernel-core.rpm, sha256: {digest}}}, {{url: \"https://a.org/b.rpm\", sha256: unknown}}]}}"),
    ];
    for package in packages {
        let folder = copy(GOOD);
        let text = format!("name: stock\ndescription: x\nsource: {{prebuilt: {package}}}\nboot-arguments: [quiet]\n");
        fs::write(folder.path().join("kernels/stock.yaml"), text).unwrap();
        let definitions = load(folder.path()).unwrap_or_else(|problems| panic!("{package}: {problems}"));
        let stock = &definitions.kernels[&name("stock")];
        assert_eq!((&stock.toolchain, &stock.configuration.base), (&Toolchain::None, &ConfigurationBase::Package));
        assert!(list(&definitions, None).contains("prebuilt "));
    }
    let bases = ["defconfig", "{file: base.config}", "{vendor: configs/x86_64.config}"];
    for (source, base) in sources.iter().zip(bases.iter().cycle()) {
        let folder = copy(GOOD);
        edit(folder.path(), BASE, "debian: {package: linux-source-6.1}", source);
        edit(folder.path(), BASE, "allnoconfig", base);
        load(folder.path()).unwrap_or_else(|problems| panic!("{source}, {base}: {problems}"));
    }
}

#[test]
fn a_pipeline_may_use_the_reproducer_of_another() {
    let folder = copy(GOOD);
    let text = fs::read_to_string(folder.path().join(WRITERS)).unwrap();
    fs::create_dir(folder.path().join("pipelines/others")).unwrap();
    let text = text.replace("name: writers", "name: others").replace("c: writers.c", "c: ../writers/writers.c");
    fs::write(folder.path().join("pipelines/others/pipeline.yaml"), text).unwrap();
    let definitions = load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let source = hangproof::spec::Program::C(definitions.root.join("pipelines/writers/writers.c"));
    assert_eq!(definitions.pipelines[&name("others")].reproducer.program, source);
    assert_eq!(definitions.pipelines[&name("writers")].reproducer.program, source);
}

#[test]
fn expectations_are_given_for_each_mitigation() {
    let folder = copy(GOOD);
    let mitigations = "mitigations: [none, {name: earlyoom, program: /usr/bin/earlyoom, arguments: [-m, \"5\"]}]\nimage: disk";
    edit(folder.path(), WRITERS, "image: disk", mitigations);
    edit(folder.path(), WRITERS, "expect: hang", "expect: {none: hang, earlyoom: pass}");
    let definitions = load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let pipeline = &definitions.pipelines[&name("writers")];
    let cells = hangproof::plan::cells(&pipeline.kernels, &pipeline.mitigations);
    let shown: Vec<String> = cells.iter().map(|cell| format!("{} {:?} {:?}", cell.kernel, cell.mitigation, cell.expected)).collect();
    let wanted = [
        "base Some(Name(\"none\")) Some(Pass)",
        "base Some(Name(\"earlyoom\")) None",
        "variant Some(Name(\"none\")) Some(Hang)",
        "variant Some(Name(\"earlyoom\")) Some(Pass)",
    ];
    assert_eq!(shown, wanted);
    assert_eq!(pipeline.mitigations[1].arguments, ["-m", "5"]);
    assert!(list(&definitions, None).contains("variant + earlyoom: pass"));
}

#[test]
fn an_editor_of_another_system_does_no_harm() {
    let folder = copy(GOOD);
    for file in [BASE, VARIANT, DISK, WRITERS] {
        let text = fs::read_to_string(folder.path().join(file)).unwrap().replace('\n', "\r\n");
        fs::write(folder.path().join(file), format!("\u{feff}{text}")).unwrap();
    }
    load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    edit(folder.path(), VARIANT, "[quiet]", "[a b]");
    assert!(load(folder.path()).unwrap_err().to_string().starts_with("kernels/variant.yaml:7:18: "));
}

#[test]
fn list_shows_everything() {
    snapshot("list", &list(&good(), None));
}

#[test]
fn a_source_is_replaced_in_the_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let source = Source::from_path(&path).unwrap();
    assert_eq!(source, Source::Directory { path: path.clone() });
    let replaced = good().with_source(&name("base"), &source).unwrap();
    assert!(replaced.kernels.values().all(|kernel| kernel.source == source));
    let archive = path.join("linux.tar.xz");
    fs::write(&archive, "").unwrap();
    assert_eq!(Source::from_path(&archive).unwrap(), Source::Tarball { location: Location::Path(archive), sha256: None });
}

/// What the definition knows of a package holds for the same one from elsewhere, and not for another.
#[test]
fn a_source_package_keeps_what_its_definition_knows() {
    let folder = copy(GOOD);
    let defined =
        "name: srpm\ndescription: x\nsource: {srpm: {file: kernel-1-1.src.rpm, path: a/b, sha256: \"".to_owned() + &"0".repeat(64);
    let rest = "\"}}\ntoolchain: {host: {compiler: gcc}}\nconfiguration: {base: allnoconfig}\n";
    fs::write(folder.path().join("kernels/srpm.yaml"), defined + rest).unwrap();
    let definitions = load(folder.path()).unwrap();
    for (file, kept) in [("kernel-1-1.src.rpm", Some("0".repeat(64))), ("kernel-1-2.src.rpm", None)] {
        let package = folder.path().canonicalize().unwrap().join(file);
        fs::write(&package, "").unwrap();
        let replaced = definitions.clone().with_source(&name("srpm"), &Source::from_path(&package).unwrap()).unwrap();
        let Source::Srpm(srpm) = &replaced.kernels[&name("srpm")].source else { panic!("it is a source package") };
        assert_eq!((srpm.file.as_str(), srpm.path.as_path(), &srpm.sha256), (file, Path::new(""), &kept));
    }
}

#[test]
fn a_package_replaces_a_package_only() {
    let folder = copy(GOOD);
    let text = "name: stock\ndescription: x\nsource: {prebuilt: {debian: linux-image-cloud-amd64}}\n";
    fs::write(folder.path().join("kernels/stock.yaml"), text).unwrap();
    let package = folder.path().canonicalize().unwrap().join("linux.deb");
    fs::write(&package, "").unwrap();
    let definitions = load(folder.path()).unwrap();
    let source = Source::from_path(&package).unwrap();
    let files = |paths: &[&PathBuf]| {
        let file = |path: &&PathBuf| PackageFile { location: Location::Path((*path).clone()), sha256: None };
        Source::Prebuilt(Prebuilt::Files(paths.iter().map(file).collect()))
    };
    assert_eq!(source, files(&[&package]));
    assert_eq!(definitions.clone().with_source(&name("stock"), &source).unwrap().kernels[&name("stock")].source, source);
    let said = |kernel: &str, source: &Source| definitions.clone().with_source(&name(kernel), source).unwrap_err().to_string();
    assert_eq!(said("base", &source), "`base` is built from source: name a source tree or a tar archive");
    let tree = Source::Directory { path: PathBuf::from("/") };
    assert_eq!(said("stock", &tree), "`stock` is prebuilt: name a kernel package (.deb or .rpm)");
    let rpm = package.with_extension("rpm");
    fs::write(&rpm, "").unwrap();
    let stock = name("stock");
    assert_eq!(Source::from_paths(&stock, &[&rpm, &package]).unwrap(), files(&[&rpm, &package]));
    assert_eq!(Source::from_paths(&stock, &[&package]).unwrap(), source);
    assert_eq!(
        Source::from_paths(&stock, &[&rpm, folder.path()]).unwrap_err().to_string(),
        "`stock` has several sources: name one, or the packages (.deb or .rpm) of one prebuilt kernel"
    );
    let host = Toolchain::Host { compiler: "gcc".to_owned() };
    let error = definitions.clone().with_toolchain(&name("stock"), &host).unwrap_err();
    assert_eq!(error.to_string(), "`stock` is prebuilt and has no toolchain to replace: leave the option out");
}

#[test]
fn a_vault_may_hold_a_kernels_packages() {
    let folder = copy(GOOD);
    let url = |file: &str| format!("https://vault.centos.org/8/Packages/{file}");
    let packages = ["core", "modules", "extra"].map(|file| format!("{{url: \"{}\", sha256: unknown}}", url(file))).join(", ");
    let other = "{url: \"https://example.org/core\", sha256: unknown}";
    let text = format!("name: stock\ndescription: x\nsource: {{prebuilt: {{packages: [{packages}, {other}]}}}}\n");
    fs::write(folder.path().join("kernels/stock.yaml"), text).unwrap();
    let vault = tempfile::tempdir().unwrap();
    let vault = vault.path().canonicalize().unwrap();
    fs::create_dir_all(vault.join("8/Packages")).unwrap();
    fs::write(vault.join("8/Packages/core"), "").unwrap();
    fs::write(vault.join("modules"), "").unwrap();
    let locations = |vault: &str| {
        let definitions = load(folder.path()).unwrap().with_vault(vault).unwrap();
        let Source::Prebuilt(Prebuilt::Files(files)) = &definitions.kernels[&name("stock")].source else { panic!("it is prebuilt") };
        files.iter().map(|file| file.location.clone()).collect::<Vec<_>>()
    };
    let elsewhere = Location::Url("https://example.org/core".to_owned());
    let of_folder = [Location::Path(vault.join("8/Packages/core")), Location::Path(vault.join("modules")), Location::Url(url("extra"))];
    assert_eq!(locations(vault.to_str().unwrap()), [of_folder.as_slice(), std::slice::from_ref(&elsewhere)].concat());
    let mirror = ["core", "modules", "extra"].map(|file| Location::Url(format!("https://mirror.org/centos/8/Packages/{file}")));
    assert_eq!(locations("https://mirror.org/centos/"), [mirror.as_slice(), &[elsewhere]].concat());
}

#[test]
fn a_toolchain_and_a_configuration_are_replaced_in_the_whole_line() {
    let toolchain = Toolchain::from_word("debian:bullseye:gcc-9").unwrap();
    let replaced = good().with_toolchain(&name("base"), &toolchain).unwrap();
    assert!(replaced.kernels.values().all(|kernel| kernel.toolchain == toolchain));
    let file = Path::new(GOOD).join("kernels/base.config");
    let replaced = good().with_configuration(&name("base"), &file).unwrap();
    assert!(replaced.kernels.values().all(|kernel| kernel.configuration.base == ConfigurationBase::File(file.canonicalize().unwrap())));
}

#[test]
fn a_parameter_is_replaced() {
    let replaced = good().with_parameter(&name("writers"), "limit", "48M").unwrap();
    let parameters = &replaced.pipelines[&name("writers")].reproducer.parameters;
    assert_eq!(parameters, &[("processes".to_owned(), "2".to_owned()), ("limit".to_owned(), "48M".to_owned())]);
}

#[test]
fn bad_overrides() {
    let source = Source::Directory { path: PathBuf::from("/") };
    let file = Path::new(GOOD).join(BASE);
    let host = Toolchain::Host { compiler: "gcc".into() };
    let errors = [
        good().with_source(&name("bas"), &source).unwrap_err(),
        good().with_source(&name("variant"), &source).unwrap_err(),
        good().with_parameter(&name("writer"), "limit", "1").unwrap_err(),
        good().with_parameter(&name("writers"), "limits", "1").unwrap_err(),
        good().with_parameter(&name("writers"), "cgroups", "1").unwrap_err(),
        good().with_parameter(&name("writers"), "limit", "a\nb").unwrap_err(),
        good().with_toolchain(&name("variant"), &host).unwrap_err(),
        good().with_configuration(&name("variant"), &file).unwrap_err(),
        good().with_configuration(&name("base"), Path::new("/nonexistent")).unwrap_err(),
        Toolchain::from_word("debian:bullseye").unwrap_err(),
        Toolchain::from_word("host:gcc -m32").unwrap_err(),
        Source::from_path(Path::new("/nonexistent")).unwrap_err(),
        Source::from_path(&file).unwrap_err(),
    ];
    let errors: Vec<String> = errors.iter().map(|error| error.to_string().replace(GOOD, "ROOT")).collect();
    snapshot("overrides", &errors.join("\n"));
}

/// What a change puts into a file: what YAML gives a meaning to.
const PIECES: &[&str] = &[
    "", ":", "- ", "[", "]", "{", "}", "\"", "'", "\n", "  ", "\t", "#", "&a ", "*a", "!x ", "|", ">-", "? ", "~", "0", "-1", "é",
    "\u{feff}", "---\n",
];

/// A change of a file: at which share of its length, how many characters go, what comes.
fn change() -> impl Strategy<Value = (f64, usize, String)> {
    (0.0..1.0, 0usize..12, prop::sample::select(PIECES).prop_map(str::to_owned))
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(file in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..5)) {
        let folder = copy(SHIPPED);
        let files = ["kernels/debian-6.1.yaml", "kernels/debian-6.1-el7mm.yaml", "images/ext4-on-md.yaml", "pipelines/ext4-oom/pipeline.yaml"];
        let path = folder.path().join(file.get(&files));
        let mut text: Vec<char> = fs::read_to_string(&path).unwrap().chars().collect();
        for (share, goes, comes) in changes {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a small file")]
            let start = (share * text.len() as f64) as usize;
            let end = (start + goes).min(text.len());
            text.splice(start..end, comes.chars());
        }
        fs::write(&path, text.into_iter().collect::<String>()).unwrap();
        if let Err(problems) = load(folder.path()) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(!problems.underlined(GraphicalTheme::unicode()).is_empty());
        }
    }
}
