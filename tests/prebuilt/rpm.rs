//! rpm packages: real ones made by rpmbuild, hostile ones made of them, and a kernel that is divided between two.
//!
//! Needs Debian's `rpm`.

use std::fs;
use std::path::PathBuf;

use hangproof::source::Provenance;
use hangproof::spec::{Location, PackageFile, Prebuilt};

use super::{Bench, Files, files, files_of, image, unpacked, with, without};

#[path = "../srpm/bench.rs"]
#[expect(dead_code, reason = "only the writing of cpio archives is used here")]
mod srpm;

/// Wraps files into packages as rpmbuild makes them: one for each pair of a name and its files.
fn build(bench: &Bench, packages: &[(&str, &Files<'_>)], macros: &[&str]) -> Vec<PathBuf> {
    let top = bench.folder.path().join("rpmbuild");
    let _ = fs::remove_dir_all(&top);
    let mut spec =
        "Name: kernel\nVersion: 6.1.0\nRelease: 1\nSummary: A kernel\nLicense: GPLv2\nAutoReqProv: no\n%description\nText.\n".to_owned();
    let mut install = String::from("%install\nmkdir -p %{buildroot}\n");
    for (name, files) in packages {
        let stage = top.join(name);
        for (path, content) in *files {
            let path = stage.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        install += &format!("cp -r {}/. %{{buildroot}}\n", stage.display());
        let paths: Vec<String> = files.iter().map(|(path, _)| path[1..].to_owned()).collect();
        // As distributions do it: of the boot loader's files only the names, and the tree's folders and links as they are.
        spec += &format!("%package {name}\nSummary: A part\n%description {name}\nText.\n%files {name}\n{}\n", paths.join("\n"));
    }
    install += "mkdir -p %{buildroot}/lib/modules/6.1.0-1-test\nln -s /usr/src/linux %{buildroot}/lib/modules/6.1.0-1-test/build\n";
    spec += "/lib/modules/6.1.0-1-test/build\n";
    fs::write(top.join("kernel.spec"), spec + &install).unwrap();
    let define = format!("_topdir {}", top.display());
    let no_debuginfo = ["debug_package %{nil}", "__os_install_post %{nil}", "_build_id_links none"];
    let mut arguments = vec!["-bb", "--quiet", "--target", "x86_64"];
    [define.as_str()].iter().chain(&no_debuginfo).chain(macros).for_each(|one| arguments.extend(["--define", one]));
    arguments.push("kernel.spec");
    srpm::program("rpmbuild", &arguments, &top);
    packages.iter().map(|(name, _)| top.join(format!("RPMS/x86_64/kernel-{name}-6.1.0-1.x86_64.rpm"))).collect()
}

/// As newer rpm packages have it: the image and the configuration lie with the modules, and `/boot` is filled when they are installed.
fn with_modules() -> Files<'static> {
    let moved = [("./boot/vmlinuz-6.1.0-1-test", "vmlinuz"), ("./boot/config-6.1.0-1-test", "config")];
    let place = |path: &'static str| match moved.iter().find(|(from, _)| *from == path) {
        Some((_, "vmlinuz")) => "./lib/modules/6.1.0-1-test/vmlinuz",
        Some(_) => "./lib/modules/6.1.0-1-test/config",
        None => path,
    };
    files().into_iter().map(|(path, content)| (place(path), content)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpm_becomes_the_kernel_that_a_deb_of_the_same_files_becomes() {
    let bench = Bench::new();
    let reference = bench.build_file(&super::deb(&super::archive(&files(), &[]))).await.0.unwrap();
    let content = |archive| (unpacked(archive), fs::read(&reference.image).unwrap(), fs::read(&reference.config).unwrap());
    let expected = content(&reference.modules.as_ref().unwrap().archive);
    for payload in ["w9.gzdio", "w2.xzdio", "w3.zstdio"] {
        for files in [files(), with_modules()] {
            let package = build(&bench, &[("core", &files)], &[&format!("_binary_payload {payload}")]);
            let built = bench.build("stock", files_of(&package)).await.0.unwrap();
            let modules = built.modules.as_ref().unwrap();
            assert_eq!(modules.order, reference.modules.as_ref().unwrap().order);
            let found = (unpacked(&modules.archive), fs::read(&built.image).unwrap(), fs::read(&built.config).unwrap());
            assert_eq!(found, expected, "{payload}");
            let sha256 = srpm::digests(&fs::read(&package[0]).unwrap()).0;
            let package = package[0].display().to_string();
            assert_eq!(built.manifest.source, Provenance::Prebuilt { package, version: None, sha256, more: Vec::new() });
        }
    }
    let trees = walkdir::WalkDir::new(bench.store.root().join("sources")).into_iter().flatten();
    let others: Vec<_> = trees.filter(|entry| entry.path_is_symlink() || entry.file_name() == "copyright").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_may_be_divided_between_packages() {
    let bench = Bench::new();
    let (drivers, core): (Files<'_>, Files<'_>) = files().into_iter().partition(|(path, _)| path.contains("/kernel/md/"));
    let packages = build(&bench, &[("core", &core), ("modules", &drivers)], &[]);
    let built = bench.build("stock", files_of(&packages)).await.0.unwrap();
    assert_eq!(built.manifest.modules, ["virtio_blk", "md_mod", "raid1"]);
    let digest = |path: &PathBuf| srpm::digests(&fs::read(path).unwrap()).0;
    let Provenance::Prebuilt { sha256, more, .. } = &built.manifest.source else { panic!("{:?}", built.manifest.source) };
    assert_eq!((sha256, more.len(), &more[0].sha256), (&digest(&packages[0]), 1, &digest(&packages[1])));
    assert_eq!(more[0].package, packages[1].display().to_string());

    // Another order is another name for the same; what counts is that each is there, with its digest.
    let error = bench.build("stock", files_of(&packages[..1])).await.0.unwrap_err().to_string();
    assert!(error.contains("module kernel/md/md-mod.ko.zst of package"), "{error}");
    let twice = bench.build("stock", files_of(&[packages[1].clone(), packages[1].clone()])).await.0.unwrap_err().to_string();
    assert!(twice.contains("its place is taken by an earlier entry"), "{twice}");
    let wrong = PackageFile { location: Location::Path(packages[1].clone()), sha256: Some("0".repeat(64)) };
    let right = PackageFile { location: Location::Path(packages[0].clone()), sha256: Some(digest(&packages[0])) };
    let error = bench.build("stock", Prebuilt::Files(vec![right, wrong])).await.0.unwrap_err().to_string();
    assert!(error.contains(&format!("kernel-modules-6.1.0-1.x86_64.rpm has SHA-256 {}, expected 0000", digest(&packages[1]))), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rpms_that_are_no_good_say_why() {
    let bench = Bench::new();
    let shown = |error: String| error.replace(bench.folder.path().to_str().unwrap(), "DIR");
    let refusal = async |package: PathBuf| shown(bench.build("stock", files_of(&[package])).await.0.unwrap_err().to_string());
    let core = "DIR/rpmbuild/RPMS/x86_64/kernel-core-6.1.0-1.x86_64.rpm";
    let built = |files: &Files<'_>| build(&bench, &[("core", files)], &[]).remove(0);
    assert_eq!(
        refusal(built(&without("vmlinuz"))).await,
        format!("package {core} holds no kernel (boot/vmlinuz-*): name the package with the kernel itself")
    );
    let built_in = with("./lib/modules/6.1.0-1-test/modules.builtin", b"kernel/raid1.ko\nkernel/ext4.ko\n");
    let without_virtio: Files<'_> = built_in.into_iter().filter(|(path, _)| !path.contains("modules.dep")).collect();
    let only = without_virtio.into_iter().filter(|(path, _)| !path.contains(".ko")).collect();
    assert_eq!(
        refusal(built(&only)).await,
        format!(
            "the kernel of package {core} lacks virtio_pci, virtio_console, virtio_blk, virtio_net, neither as modules nor built in, and no guest \
             gets ready without: name a package that brings them"
        )
    );
    let whole = fs::read(built(&files())).unwrap();
    let spoiled = |content: &[u8]| {
        let path = bench.folder.path().join("bad.rpm");
        fs::write(&path, content).unwrap();
        path
    };
    let cut = refusal(spoiled(&whole[..whole.len() - 20])).await;
    assert!(cut.starts_with("package DIR/bad.rpm: it is damaged or truncated: "), "{cut}");
    let cut = refusal(spoiled(&whole[..500])).await;
    assert_eq!(cut, "DIR/bad.rpm is no usable rpm package: unexpected end of file; fetch it again");
    let top = bench.folder.path().join("rpmbuild");
    srpm::program("rpmbuild", &["-bs", "--quiet", "--define", &format!("_topdir {}", top.display()), "kernel.spec"], &top);
    assert_eq!(
        refusal(top.join("SRPMS/kernel-6.1.0-1.src.rpm")).await,
        "DIR/rpmbuild/SRPMS/kernel-6.1.0-1.src.rpm is a source package: write `source: {srpm: ...}`, or name the binary package of a kernel"
    );
    assert_eq!(fs::read_dir(bench.store.root().join("builds")).unwrap().count(), 0);
}

/// Whatever isn't a plain file of a kernel stays where it is, and a path that leads out ends it.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_entries_of_an_rpm_are_not_made() {
    let bench = Bench::new();
    let whole = fs::read(build(&bench, &[("core", &files())], &[]).remove(0)).unwrap();
    let entry = srpm::cpio_entry;
    let good: Vec<u8> = files().iter().flat_map(|(path, content)| entry(path, 0o100_644, content)).collect();
    let with = |name: &str, mode: u32| {
        let path = bench.folder.path().join("bad.rpm");
        fs::write(&path, srpm::repacked(&whole, &[entry(name, mode, b"x"), good.clone()].concat())).unwrap();
        bench.build("stock", files_of(&[path]))
    };
    for (name, why) in [
        ("./boot/../../evil", "its path contains `..`"),
        ("../evil", "its path contains `..`"),
        ("/tmp/hangproof-evil", "its path is absolute"),
        ("boot/config-\x1b[2J", "its path is not printable text"),
        ("lib/modules/6.1.0-1-test/kernel/md/raid1.ko.xz/x", "its place is taken by an earlier entry"),
    ] {
        let error = with(name, 0o100_644).await.0.unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    let special = [
        ("./boot/vmlinuz-link", 0o120_777),
        ("./boot/config-device", 0o020_666),
        ("./boot/System.map-disk", 0o060_660),
        ("./boot/vmlinuz-pipe", 0o010_644),
        ("./boot/vmlinuz-socket", 0o140_755),
        ("./lib/modules/6.1.0-1-test/kernel/x", 0o120_777),
        ("./boot/vmlinuz-setuid/", 0o040_755),
    ];
    for (name, mode) in special {
        let built = with(name, mode).await.0;
        assert_eq!(fs::read(built.unwrap().image).unwrap(), image("kernel"), "{name}");
    }
    let trees = walkdir::WalkDir::new(bench.store.root()).into_iter().flatten();
    let others: Vec<_> = trees.filter(|entry| !entry.file_type().is_dir() && !entry.file_type().is_file()).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(!std::path::Path::new("/tmp/hangproof-evil").exists() && !bench.folder.path().join("evil").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_whose_digest_nobody_published_is_not_downloaded() {
    let url = "http://127.0.0.1:1/kernel.rpm".to_owned();
    let package = Prebuilt::Files(vec![PackageFile { location: Location::Url(url), sha256: None }]);
    assert_eq!(
        Bench::new().build("stock", package).await.0.unwrap_err().to_string(),
        "http://127.0.0.1:1/kernel.rpm isn't downloaded, since its definition knows no digest of it: bring the file by other means, and name it \
         with --source KERNEL=FILE (once for each package of the kernel), or its folder with --vault"
    );
}
