//! Images are made for real, by user-mode Linux, and looked at with the tools of mdadm and e2fsprogs. Fails loudly where these are missing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use hangproof::event::Events;
use hangproof::image::{self, Disks, ImageError};
use hangproof::spec::{Image, Layout, MemMib, Name};
use hangproof::store::{Kept, Store};

fn definition(layout: Layout) -> Image {
    let features = [
        "has_journal",
        "ext_attr",
        "resize_inode",
        "dir_index",
        "filetype",
        "extent",
        "flex_bg",
        "sparse_super",
        "large_file",
        "huge_file",
    ];
    Image {
        name: Name::new(if layout == Layout::Md { "md" } else { "plain" }).unwrap(),
        description: String::new(),
        defined_in: "images/test.yaml".into(),
        layout,
        size: MemMib(512),
        features: features.into_iter().chain(["dir_nlink", "extra_isize"]).map(str::to_owned).collect(),
        programs: vec!["/usr/bin/setpriv".into()],
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The filesystem on a member, as e2fsprogs names it.
fn filesystem(disks: &Disks, member: usize) -> String {
    format!("{}?offset={}", disks.members[member].display(), disks.description.offset)
}

fn check_filesystem(disks: &Disks, member: usize) {
    let filesystem = filesystem(disks, member);
    let header = said("/usr/sbin/dumpe2fs", &["-h", &filesystem]);
    let line = header.lines().find(|line| line.starts_with("Filesystem features:")).unwrap();
    let mut features: Vec<_> = line.split_whitespace().skip(2).map(str::to_owned).collect();
    features.sort();
    let mut wanted = disks.description.features.clone();
    wanted.sort();
    assert_eq!(features, wanted, "exactly what was asked for, so that a 3.10 kernel mounts it");
    assert!(header.contains("Filesystem state:         clean"), "{header}");
    let passwd = said("/usr/sbin/debugfs", &["-R", "cat /etc/passwd", &filesystem]);
    assert!(passwd.starts_with("root:*:0:0:"), "{passwd}");
    let setpriv = said("/usr/sbin/debugfs", &["-R", "stat /usr/bin/setpriv", &filesystem]);
    assert!(setpriv.contains("Type: regular") && setpriv.contains("Mode:  0755") && setpriv.contains("User:     0"), "{setpriv}");
    said("/usr/sbin/e2fsck", &["-f", "-n", &filesystem]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4_on_an_array_of_two_disks() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_at(folder.path()).unwrap();
    let (wanted, events) = (definition(Layout::Md), Events::ignored());
    // Two at once take turns, and the second finds what the first made.
    let (one, two) = tokio::join!(image::make(&store, &wanted, &events), image::make(&store, &wanted, &events));
    let (disks, other) = (one.unwrap(), two.unwrap());
    assert_eq!(disks.members, other.members);
    assert_eq!(disks.members.len(), 2);
    for member in 0..2 {
        let examined = said("/usr/sbin/mdadm", &["--examine", &disks.members[member].to_string_lossy()]);
        for fact in ["Version : 1.2", "Raid Level : raid1", "Raid Devices : 2", "State : clean", "Array State : AA"] {
            assert!(examined.contains(fact), "{fact} in {examined}");
        }
        check_filesystem(&disks, member);
    }
    assert!(disks.description.files.iter().any(|file| file.path == Path::new("/usr/bin/fio") && file.blake3.len() == 64));
    assert_eq!(std::fs::read_dir(folder.path().join("work")).unwrap().count(), 0, "nothing is left behind");
    let key = disks.description.key.clone();
    assert!(store.find(Kept::Images, &key).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_ext4_on_one_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_at(folder.path()).unwrap();
    let disks = image::make(&store, &definition(Layout::Plain), &Events::ignored()).await.unwrap();
    assert_eq!(disks.members.len(), 1);
    check_filesystem(&disks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_feature_shows_what_mke2fs_says() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_at(folder.path()).unwrap();
    let mut wanted = definition(Layout::Plain);
    wanted.features.push("time_travel".into());
    let error = image::make(&store, &wanted, &Events::ignored()).await.unwrap_err();
    assert!(matches!(error, ImageError::Uml { .. }) && error.to_string().contains("time_travel"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path().join("work")).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_does_not_fit_is_refused_with_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_at(folder.path()).unwrap();
    let wanted = Image { size: MemMib(32), ..definition(Layout::Plain) };
    let error = image::make(&store, &wanted, &Events::ignored()).await.unwrap_err();
    assert!(matches!(error, ImageError::TooSmall { size: 32, .. }), "{error}");
}
