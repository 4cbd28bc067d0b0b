//! Kernels out of packages: small Debian and rpm packages made on the fly, good and bad, and one whose modules depmod has to look at.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/bench.rs"]
mod bench;
#[path = "prebuilt/rpm.rs"]
mod rpm;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bench::Bench;
use hangproof::build::{self, BuildError, Built};
use hangproof::event::{Event, Events};
use hangproof::source::Provenance;
use hangproof::spec::{
    Configuration, ConfigurationBase, Definitions, Kernel, Location, Modules, Name, PackageFile, Prebuilt, Source, Toolchain,
};
use sha2::Digest as _;
use tar::EntryType;

/// What a package holds: path and content.
type Files<'a> = Vec<(&'a str, Vec<u8>)>;

const MODULES: &str = "./lib/modules/6.1.0-1-test/";

/// As much of a bzImage as is looked at.
fn image(text: &str) -> Vec<u8> {
    let mut image = vec![0; 0x202];
    image.extend(b"HdrS");
    image.extend(text.as_bytes());
    image
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(content).unwrap();
    xz.finish().unwrap()
}

/// A kernel whose virtio drivers but one are built in, and whose raid1 is a module that needs another one, each compressed in another way.
fn files() -> Files<'static> {
    let built_in = ["virtio_pci", "virtio_console", "virtio_net", "ext4"].map(|name| format!("kernel/x/{name}.ko\n")).concat();
    let tables = "kernel/md/raid1.ko.xz: kernel/md/md-mod.ko.zst\nkernel/md/md-mod.ko.zst:\nkernel/x/virtio_blk.ko:\nkernel/x/e1000.ko:\n";
    vec![
        ("./boot/vmlinuz-6.1.0-1-test", image("kernel")),
        ("./boot/config-6.1.0-1-test", b"CONFIG_EXT4_FS=y\nCONFIG_BLK_DEV_MD=m\n".to_vec()),
        ("./boot/System.map-6.1.0-1-test", b"ffffffffffffffff B see the debug package\n".to_vec()),
        ("./lib/modules/6.1.0-1-test/modules.builtin", built_in.into_bytes()),
        ("./lib/modules/6.1.0-1-test/modules.dep", tables.into()),
        ("./lib/modules/6.1.0-1-test/kernel/md/raid1.ko.xz", xz(b"raid1")),
        ("./lib/modules/6.1.0-1-test/kernel/md/md-mod.ko.zst", zstd::encode_all(&b"md-mod"[..], 1).unwrap()),
        ("./lib/modules/6.1.0-1-test/kernel/x/virtio_blk.ko", b"virtio_blk".to_vec()),
        ("./lib/modules/6.1.0-1-test/kernel/x/e1000.ko", b"e1000".to_vec()),
        ("./usr/share/doc/linux/copyright", b"text".to_vec()),
    ]
}

fn without(unwanted: &str) -> Files<'static> {
    files().into_iter().filter(|(path, _)| !path.contains(unwanted)).collect()
}

fn with(path: &'static str, content: &[u8]) -> Files<'static> {
    files().into_iter().filter(|(other, _)| *other != path).chain([(path, content.to_vec())]).collect()
}

/// A tar archive, written raw: no decent tar writes some of these paths.
fn archive(files: &Files<'_>, special: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let plain = files.iter().map(|(path, content)| (*path, EntryType::Regular, "", content.as_slice()));
    for (path, kind, link, content) in special.iter().map(|(path, kind, link)| (*path, *kind, *link, &b""[..])).chain(plain) {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_gnu_mut().unwrap();
        raw.name[..path.len()].copy_from_slice(path.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn deb(data: &[u8]) -> Vec<u8> {
    let mut package = ar::Builder::new(Vec::new());
    for (name, content) in [("debian-binary", b"2.0\n".to_vec()), ("control.tar.xz", xz(b"")), ("data.tar.xz", xz(data))] {
        package.append(&ar::Header::new(name.into(), content.len() as u64), content.as_slice()).unwrap();
    }
    package.into_inner().unwrap()
}

fn files_of(paths: &[PathBuf]) -> Prebuilt {
    Prebuilt::Files(paths.iter().map(|path| PackageFile { location: Location::Path(path.clone()), sha256: None }).collect())
}

impl Bench {
    fn package(&self, content: &[u8]) -> PathBuf {
        let path = self.path("linux.deb");
        fs::write(&path, content).unwrap();
        path
    }

    async fn build(&self, name: &str, package: Prebuilt) -> (Result<Built, BuildError>, Vec<Event>) {
        let kernel = Kernel {
            name: Name::new(name).unwrap(),
            description: String::new(),
            defined_in: PathBuf::from("kernels/test.yaml"),
            base: None,
            source: Source::Prebuilt(package),
            toolchain: Toolchain::None,
            configuration: Configuration { base: ConfigurationBase::Package, modules: Modules::Keep, fragments: Vec::new() },
            compatibility: Vec::new(),
            patches: Vec::new(),
            inherited_patches: 0,
            boot_arguments: Vec::new(),
        };
        let (events, mut reader) = Events::channel();
        let built = build::build(&self.store, &Definitions::default(), &kernel, &events, 1).await;
        assert_eq!(self.scratch_folders(), 0, "no scratch folder is left");
        (built, std::iter::from_fn(|| reader.try_recv().ok()).collect())
    }

    async fn build_file(&self, content: &[u8]) -> (Result<Built, BuildError>, Vec<Event>) {
        self.build("stock", files_of(&[self.package(content)])).await
    }

    /// What is said about a package that is no good, and that it is the definition's fault.
    async fn refusal(&self, content: &[u8]) -> String {
        let error = self.build_file(content).await.0.unwrap_err();
        error.to_string().replace(self.folder.path().to_str().unwrap(), "DIR")
    }
}

/// Files of a cpio archive.
fn unpacked(archive: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(archive).unwrap();
    assert_eq!(bytes.len() % 4, 0, "another archive follows it");
    let mut rest = bytes.as_slice();
    let mut files = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return files;
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        if reader.entry().mode() & 0o170_000 == 0o100_000 {
            files.push((reader.entry().name().to_owned(), text));
        }
        rest = reader.finish().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_becomes_a_kernel_with_the_modules_that_a_guest_needs() {
    let bench = Bench::new();
    let package = deb(&archive(&files(), &[]));
    let (built, events) = bench.build_file(&package).await;
    let built = built.unwrap();
    assert!(matches!(events.last(), Some(Event::BuildFinished { cached: false, .. })), "{events:?}");
    assert_eq!(fs::read(&built.image).unwrap(), image("kernel"));
    assert_eq!(fs::read_to_string(&built.config).unwrap(), "CONFIG_EXT4_FS=y\nCONFIG_BLK_DEV_MD=m\n");
    assert_eq!((&built.vmlinux, &built.system_map), (&None, &None), "a package has no vmlinux, and this System.map is a note");
    let modules = built.modules.as_ref().unwrap();
    let guest = |name: &str| format!("/hangproof/modules/{name}.ko");
    assert_eq!(modules.order, ["virtio_blk", "md_mod", "raid1"].map(guest));
    let file = |name: &str, text: &str| (guest(name)[1..].to_owned(), text.to_owned());
    assert_eq!(unpacked(&modules.archive), [file("md_mod", "md-mod"), file("raid1", "raid1"), file("virtio_blk", "virtio_blk")]);
    let manifest = &built.manifest;
    assert_eq!((&manifest.toolchain, &manifest.elf_signature, manifest.modules.len()), (&None, &None, 3));
    assert_eq!((manifest.configuration.base.as_str(), manifest.configuration.options_on), ("boot/config-6.1.0-1-test", 1));
    let digest: String = sha2::Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(matches!(&manifest.source, Provenance::Prebuilt { version: None, sha256, .. } if *sha256 == digest), "{manifest:?}");

    let (again, events) = bench.build_file(&package).await;
    assert_eq!(again.unwrap().key, built.key);
    assert!(matches!(events.as_slice(), [Event::BuildFinished { cached: true, .. }]), "{events:?}");
    let other = deb(&archive(&with("./boot/vmlinuz-6.1.0-1-test", &image("other")), &[]));
    assert_ne!(bench.build_file(&other).await.0.unwrap().key, built.key);
}

/// Debian's packages have no modules.dep. These are real modules, of user-mode Linux.
#[tokio::test(flavor = "multi_thread")]
async fn depmod_finds_out_what_a_package_does_not_say() {
    let releases = fs::read_dir("/usr/lib/uml/modules").unwrap().flatten();
    let md = releases.map(|release| release.path().join("kernel/drivers/md")).find(|folder| folder.is_dir()).unwrap();
    let mut package = without("modules.dep").into_iter().filter(|(path, _)| !path.contains(".ko")).collect::<Files<'_>>();
    let built_in =
        ["virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "ext4"].map(|name| format!("kernel/x/{name}.ko\n")).concat();
    package.retain(|(path, _)| !path.ends_with("modules.builtin"));
    package.push(("./lib/modules/6.1.0-1-test/modules.builtin", built_in.into_bytes()));
    package.push(("./lib/modules/6.1.0-1-test/kernel/md/raid1.ko", fs::read(md.join("raid1.ko")).unwrap()));
    package.push(("./lib/modules/6.1.0-1-test/kernel/md/md-mod.ko.xz", xz(&fs::read(md.join("md-mod.ko")).unwrap())));
    let bench = Bench::new();
    let built = bench.build_file(&deb(&archive(&package, &[]))).await.0.unwrap();
    assert_eq!(built.manifest.modules, ["md_mod", "raid1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_with_everything_built_in_loads_nothing() {
    let all = ["virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "raid1", "ext4"].map(|name| format!("kernel/{name}.ko\n"));
    let package = deb(&archive(&with("./lib/modules/6.1.0-1-test/modules.builtin", all.concat().as_bytes()), &[]));
    assert_eq!(Bench::new().build_file(&package).await.0.unwrap().modules, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_are_no_good_say_why() {
    let bench = Bench::new();
    let made = |files: Files<'_>| deb(&archive(&files, &[]));
    let whole = made(files());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (made(without("vmlinuz")), "package DIR/linux.deb holds no kernel (boot/vmlinuz-*): name the package with the kernel itself"),
        (
            made(with("./boot/vmlinuz-6.1.0-2-test", &image(""))),
            "package DIR/linux.deb holds several kernels (boot/vmlinuz-6.1.0-1-test, boot/vmlinuz-6.1.0-2-test): name a package with one",
        ),
        (
            made(with("./boot/vmlinuz-6.1.0-1-test", b"MZ")),
            "boot/vmlinuz-6.1.0-1-test of package DIR/linux.deb is no x86 bzImage: name a package for amd64 (x86_64)",
        ),
        (
            made(without("config-")),
            "package DIR/linux.deb holds no boot/config-6.1.0-1-test: name the distribution's own package, which has it",
        ),
        (
            made(with("./lib/modules/6.1.0-1-test/modules.builtin", b"kernel/ext4.ko\nkernel/virtio_pci.ko\n")),
            "the kernel of package DIR/linux.deb lacks virtio_console, virtio_net, neither as modules nor built in, and no guest gets ready without: \
             name a package that brings them",
        ),
        (
            made(without(MODULES)),
            "the kernel of package DIR/linux.deb lacks virtio_pci, virtio_console, virtio_blk, virtio_net, raid1, ext4, neither as modules nor \
             built in, and no guest gets ready without: name a package that brings them",
        ),
        (
            made(with("./lib/modules/6.1.0-1-test/modules.dep", b"../../../../../../etc/raid1.ko:\n")),
            "modules.dep of package DIR/linux.deb is damaged or hostile, at \"../../../../../../etc/raid1.ko:\": fetch the package again, from \
             somebody you trust",
        ),
        (
            made(without("virtio_blk.ko")),
            "module kernel/x/virtio_blk.ko of package DIR/linux.deb: No such file or directory (os error 2); fetch the package again",
        ),
        (
            made(with("./lib/modules/6.1.0-1-test/kernel/md/raid1.ko.xz", &xz(b"raid1")[..20])),
            "module kernel/md/raid1.ko.xz of package DIR/linux.deb: premature eof; fetch the package again",
        ),
        (
            made(with("./boot/../../evil", b"")),
            "package DIR/linux.deb: refused entry \"./boot/../../evil\": its path contains `..`; use an archive of a source tree from somebody you trust",
        ),
        (
            b"no package".to_vec(),
            "DIR/linux.deb is neither a Debian nor an rpm package: name that of a kernel, such as \
             linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
        ),
    ];
    for (package, said) in cases {
        assert_eq!(bench.refusal(&package).await, said);
    }
    // Each is small enough by itself.
    let (one, other) = (xz(&vec![0; 150 << 20]), xz(&vec![0; 110 << 20]));
    let bombs = with("./lib/modules/6.1.0-1-test/kernel/md/raid1.ko.xz", &one).into_iter().map(|(path, content)| {
        let content = if path.ends_with("/virtio_blk.ko") { other.clone() } else { content };
        (path, content)
    });
    let said = bench.refusal(&made(bombs.collect())).await;
    assert!(
        said.starts_with("module kernel/") && said.ends_with(": with it, the modules have more than 256 MiB; fetch the package again"),
        "{said}"
    );
    let cut = bench.refusal(&whole[..whole.len() - 100]).await;
    assert!(cut.starts_with("package DIR/linux.deb: it is damaged or truncated: "), "{cut}");
    assert_eq!(fs::read_dir(bench.store.root().join("builds")).unwrap().count(), 0);
}

/// Wherever they lead: nothing of a kernel is a link or a device.
#[tokio::test(flavor = "multi_thread")]
async fn links_and_devices_of_a_package_are_not_made() {
    let special = [
        ("./lib/modules/6.1.0-1-test/build", EntryType::Symlink, "/usr/src/linux"),
        ("./lib/modules/6.1.0-1-test/kernel/x", EntryType::Symlink, "/tmp"),
        ("./boot/vmlinuz-link", EntryType::Symlink, "/etc/shadow"),
        ("./boot/config-hard", EntryType::Link, "/etc/shadow"),
        ("./boot/System.map-device", EntryType::Char, ""),
    ];
    let bench = Bench::new();
    assert!(bench.build_file(&deb(&archive(&files(), &special))).await.0.is_ok());
    let trees = walkdir::WalkDir::new(bench.store.root().join("sources")).into_iter().flatten();
    let others: Vec<_> = trees.filter(|entry| !entry.file_type().is_dir() && !entry.file_type().is_file()).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_digest_than_expected_is_not_unpacked() {
    let bench = Bench::new();
    let path = bench.package(&deb(&archive(&files(), &[])));
    let package = |sha256: String| Prebuilt::Files(vec![PackageFile { location: Location::Path(path.clone()), sha256: Some(sha256) }]);
    let digest: String = sha2::Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let error = bench.build("stock", package("0".repeat(64))).await.0.unwrap_err();
    assert!(error.to_string().contains(&format!("has SHA-256 {digest}, expected 0000")), "{error}");
    assert_eq!(fs::read_dir(bench.store.root().join("sources")).unwrap().count(), 0);
    assert!(bench.build("stock", package(digest)).await.0.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_apt_does_not_know_has_a_remedy() {
    let package = Prebuilt::Debian { package: "linux-image-no-such-amd64".into(), version: None };
    let error = Bench::new().build("stock", package).await.0.unwrap_err().to_string();
    assert!(error.starts_with("apt has no package linux-image-no-such-amd64: `apt-get update`, and see that"), "{error}");
}
