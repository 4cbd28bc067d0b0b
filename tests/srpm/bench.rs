//! A store, a small kernel's source package in a folder, and the means to spoil it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hangproof::event::{Event, Events};
use hangproof::source::{self, Fetched, SourceError};
use hangproof::spec::{Location, Source, Srpm};
use hangproof::store::Store;
use sha2::Digest as _;
use std::io::Write as _;

/// The package's file name.
pub const FILE: &str = "kernel-3.10.0-1160.el7.src.rpm";
/// Its release.
pub const RELEASE: &str = "1160.el7";
/// The tarball in it.
pub const TARBALL: &str = "linux-3.10.0-1160.el7.tar.xz";
/// The configuration in it.
pub const CONFIG: &str = "# x86_64\nCONFIG_64BIT=y\n";

/// A patch that fits with a fuzz of 1: its first line is another one in the file.
pub const DEBRAND: &str = "From: a\nSubject: b\n\n--- a/mm/filemap.c\n+++ b/mm/filemap.c\n@@ -2,7 +2,7 @@\n line TWO\n line 3\n line 4\n\
    -line 5\n+line five\n line 6\n line 7\n line 8\n";

/// A spec file with what a kernel's has.
pub const SPEC: &str = r#"# % define buildid .local
%global released_kernel 1
%define rpmversion 3.10.0
%define pkgrelease 1160.el7
%define pkg_release %{pkgrelease}%{?buildid}
%define with_debug %{?_without_debug: 0} %{?!_without_debug: 1}
%define KVRA %{version}-%{release}.%{_target_cpu}
%define several lines \
Patch77: never.patch\
%{nil}
%ifarch i686
%define pkgrelease wrong
%endif
Name: kernel%{?variant}
Version: %{rpmversion}
Release: %{pkg_release}
Summary: A kernel
License: GPLv2
Source0: linux-%{rpmversion}-%{pkgrelease}.tar.xz
%if %{?released_kernel}
Source50: kernel-%{version}-x86_64.config
%else
Source50: kernel-%{version}-%{unset}.config
%endif
Patch999999: linux-kernel-test.patch
Patch1000: debrand.patch
%description
Patch1: is no tag here.

%prep
if [ "%{with_debug}" = 2 ] ; then
  for patch in a b ; do
    echo $patch
  done
fi 2>/dev/null
patch_command='patch -p1 -F1 -s'
ApplyPatch()
{
  $patch_command < "$RPM_SOURCE_DIR/$1"
}
ApplyOptionalPatch()
{
  local C=$(wc -l $RPM_SOURCE_DIR/$1 | awk '{print $1}')
  if [ "$C" -gt 9 ]; then
    ApplyPatch $1
  fi
}
%setup -q -n kernel-%{rpmversion} -c
# ApplyPatch comment.patch
ApplyOptionalPatch linux-kernel-test.patch
ApplyOptionalPatch debrand.patch

%build
perl -p -i -e "s/^EXTRAVERSION.*/EXTRAVERSION = -%{release}.%{_target_cpu}${Flavour:+.${Flavour}}/" Makefile

%changelog
* Mon Nov 02 2020 A B <a@example.org>
- Patch5: nothing
"#;

/// Runs a program in a folder and wants it to succeed.
pub fn program(name: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(name).args(arguments).current_dir(folder).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// SHA-256 and SHA-1.
pub fn digests(bytes: &[u8]) -> (String, String) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (hex(&sha2::Sha256::digest(bytes)), hex(&sha1::Sha1::digest(bytes)))
}

/// The tarball.
pub fn tarball() -> Vec<u8> {
    let lines: String = (1..=20).map(|n| format!("line {n}\n")).collect();
    packed(&[("Makefile", "VERSION = 3\nEXTRAVERSION =\nall:\n"), ("mm/filemap.c", &lines)])
}

/// A tarball of a tree with these files.
pub fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, format!("linux-3.10.0-1160.el7/{path}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Where a package's payload begins.
pub fn payload_start(package: &[u8]) -> usize {
    let number = |place: usize| u32::from_be_bytes(package[place..place + 4].try_into().unwrap()) as usize;
    let end = |start: usize| start + 16 + number(start + 8) * 16 + number(start + 12);
    end(end(96).next_multiple_of(8))
}

/// The package with another payload, compressed.
pub fn repacked(package: &[u8], entries: &[u8]) -> Vec<u8> {
    let mut payload = flate2::write::GzEncoder::new(package[..payload_start(package)].to_vec(), flate2::Compression::fast());
    payload.write_all(entries).unwrap();
    payload.write_all(&cpio_entry("TRAILER!!!", 0, b"")).unwrap();
    payload.finish().unwrap()
}

/// An entry of a cpio archive, written raw, because no decent cpio writes most of those that are wanted.
pub fn cpio_entry(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let fields = [1, mode, 0, 0, 1, 0, u32::try_from(content.len()).unwrap(), 0, 0, 0, 0, u32::try_from(name.len()).unwrap() + 1, 0];
    let mut entry = b"070701".to_vec();
    entry.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    entry.extend_from_slice(name.as_bytes());
    entry.push(0);
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry
}

/// A store and a folder of packages.
pub struct Bench {
    folder: tempfile::TempDir,
    /// The store.
    pub store: Store,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_at(&folder.path().join("store")).unwrap();
        Self { folder, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        self.path(name)
    }

    /// The good package's files but for the spec file.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            (TARBALL, tarball()),
            ("kernel-3.10.0-x86_64.config", CONFIG.into()),
            ("linux-kernel-test.patch", Vec::new()),
            ("debrand.patch", DEBRAND.into()),
        ]
    }

    /// The good package's files with another content for one.
    pub fn with(&self, name: &str, content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = self.files();
        files.iter_mut().find(|(file, _)| *file == name).unwrap().1 = content.to_vec();
        files
    }

    /// Builds the good package.
    pub fn package(&self) -> PathBuf {
        self.build(SPEC, &self.files())
    }

    pub fn build(&self, spec: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
        self.build_with(spec, files, &[])
    }

    pub fn build_with(&self, spec: &str, files: &[(&str, Vec<u8>)], macros: &[&str]) -> PathBuf {
        let top = self.path("rpmbuild");
        let sources = top.join("SOURCES");
        fs::create_dir_all(&sources).unwrap();
        for (name, content) in files {
            fs::write(sources.join(name), content).unwrap();
        }
        fs::write(top.join("kernel.spec"), spec).unwrap();
        let top = format!("_topdir {}", top.display());
        let mut arguments = vec!["-bs", "--quiet", "--target", "x86_64", "--define", &top];
        macros.iter().for_each(|one| arguments.extend(["--define", one]));
        arguments.push("kernel.spec");
        program("rpmbuild", &arguments, &self.path("rpmbuild"));
        self.packages().join(FILE)
    }

    /// Where the packages are.
    pub fn packages(&self) -> PathBuf {
        self.path("rpmbuild/SRPMS")
    }

    /// Gives a package other files, without a word of them in its header.
    pub fn replace_payload(&self, package: &Path, files: &[(&str, Vec<u8>)]) {
        let entries: Vec<u8> = files.iter().flat_map(|(name, content)| cpio_entry(name, 0o100_644, content)).collect();
        let mut bytes = fs::read(package).unwrap();
        forget_digests(&mut bytes);
        fs::write(package, repacked(&bytes, &entries)).unwrap();
    }

    /// A definition without digests, as `--source` makes one.
    pub fn srpm(&self) -> Srpm {
        Srpm { file: FILE.into(), path: PathBuf::new(), vault: Location::Path(self.packages()), sha256: None, tarball: None, key: None }
    }

    pub async fn fetch(&self, srpm: &Srpm) -> Result<Fetched, SourceError> {
        let fetched = source::fetch(&self.store, &Source::Srpm(srpm.clone()), &Events::ignored()).await;
        assert_eq!(fs::read_dir(self.store.root().join("work")).unwrap().count(), 0, "no scratch folder is left");
        fetched
    }

    /// As [`Self::fetch`], with the warnings.
    pub async fn fetch_warned(&self, srpm: &Srpm) -> (Result<Fetched, SourceError>, Vec<String>) {
        let (events, mut reader) = Events::channel();
        let fetched = source::fetch(&self.store, &Source::Srpm(srpm.clone()), &events).await;
        let said = std::iter::from_fn(|| reader.try_recv().ok());
        let warnings = said.filter_map(|event| if let Event::Warning { message } = event { Some(message) } else { None });
        (fetched, warnings.collect())
    }

    pub async fn error(&self, srpm: &Srpm) -> String {
        self.fetch(srpm).await.unwrap_err().to_string()
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        let home = self.path("gnupg");
        let mut all = vec!["--homedir", home.to_str().unwrap(), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""];
        all.extend(arguments);
        program("gpg", &all, &self.path(""))
    }

    /// Makes a key; returns the file of its public part.
    pub fn key(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::DirBuilderExt as _;
        let _ = fs::DirBuilder::new().mode(0o700).create(self.path("gnupg"));
        self.gpg(&["--quick-gen-key", &format!("{name} <{name}@example.org>"), "rsa2048", "sign", "never"]);
        let file = self.path(&format!("{name}.asc"));
        fs::write(&file, self.gpg(&["--armor", "--export", name])).unwrap();
        file
    }

    /// Revokes a key, by what GnuPG keeps for that day; its file says so too.
    pub fn revoke(&self, name: &str) {
        let kept = self.path("gnupg/openpgp-revocs.d").join(format!("{}.rev", self.fingerprint(name).to_ascii_uppercase()));
        let revocation = self.path("revocation");
        // A colon keeps it from being used by accident.
        fs::write(&revocation, fs::read_to_string(kept).unwrap().replace(":-----BEGIN", "-----BEGIN")).unwrap();
        self.gpg(&["--import", revocation.to_str().unwrap()]);
        fs::write(self.path(&format!("{name}.asc")), self.gpg(&["--armor", "--export", name])).unwrap();
    }

    pub fn fingerprint(&self, name: &str) -> String {
        let listed = self.gpg(&["--with-colons", "--list-keys", name]);
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_ascii_lowercase()
    }

    pub fn sign(&self, package: &Path, name: &str) {
        // Debian's rpm looks for gpg2.
        self.sign_by("gnupg", package, name, &["__gpg /usr/bin/gpg"]);
    }

    /// Signs as distributions did for long, by a signature of version 3, which newer versions of GnuPG don't make.
    pub fn sign_v3(&self, package: &Path, name: &str) {
        let (home, key) = (self.path("gnupg1"), self.path("secret.key"));
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        self.gpg(&["--output", key.to_str().unwrap(), "--export-secret-keys", name]);
        program("gpg1", &["--homedir", home.to_str().unwrap(), "--batch", "--quiet", "--import", key.to_str().unwrap()], &self.path(""));
        self.sign_by("gnupg1", package, name, &["__gpg /usr/bin/gpg1", "_gpg_sign_cmd_extra_args --force-v3-sigs"]);
    }

    fn sign_by(&self, home: &str, package: &Path, name: &str, macros: &[&str]) {
        let home = format!("_gpg_path {}", self.path(home).display());
        let who = format!("_gpg_name {name}@example.org");
        let mut arguments = vec!["--addsign", "--define", &home, "--define", &who];
        macros.iter().for_each(|one| arguments.extend(["--define", one]));
        arguments.push(package.to_str().unwrap());
        program("rpmsign", &arguments, &self.path(""));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.path("gnupg").exists() {
            let _ = Command::new("gpgconf").arg("--homedir").arg(self.path("gnupg")).args(["--kill", "all"]).status();
        }
    }
}

/// Makes the header say that its file digests are MD5, as old packages have them: nothing can be told of the files then.
fn forget_digests(package: &mut [u8]) {
    let number = |bytes: &[u8], place: usize| u32::from_be_bytes(bytes[place..place + 4].try_into().unwrap()) as usize;
    let signature = 96 + 16 + number(package, 96 + 8) * 16 + number(package, 96 + 12);
    let header = signature.next_multiple_of(8);
    let entries = number(package, header + 8);
    for place in (0..entries).map(|entry| header + 16 + entry * 16) {
        // RPMTAG_FILEDIGESTALGO
        if number(package, place) == 5011 {
            let data = header + 16 + entries * 16 + number(package, place + 8);
            package[data..data + 4].copy_from_slice(&1_u32.to_be_bytes());
        }
    }
}
