//! What a user gets wrong ends with exit code 2, and a message that names the remedy; never with 4, which is our own trouble.
//!
//! The real program is started; nothing is compiled or booted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn pipe(&self, name: &str) {
        assert!(Command::new("mkfifo").arg(self.path(name)).status().unwrap().success());
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangproof"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("HANGPROOF_DEFINITIONS", env!("CARGO_MANIFEST_DIR")).env("HANGPROOF_CACHE", self.path("cache")).env("NO_COLOR", "1");
        command
    }

    /// What the program said last, and its exit code. It may not wait for anything.
    fn run(&self, words: &[&str]) -> (i32, String) {
        self.ended(self.command(words))
    }

    fn ended(&self, mut command: Command) -> (i32, String) {
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("{command:?} doesn't end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let said = String::from_utf8(stderr).unwrap().replace(&self.folder.path().canonicalize().unwrap().display().to_string(), "LAB");
        // Progress comes before it.
        let from = said.find("error: ").unwrap_or_default();
        (status.code().unwrap(), said[from..].trim_end().to_owned())
    }
}

#[track_caller]
fn refused((code, said): (i32, String), expected: &str) {
    assert_eq!((code, said.as_str()), (2, expected));
}

#[test]
fn a_source_that_is_none_is_the_users() {
    let lab = Lab::new();
    lab.write("damaged.tar.xz", b"\xfd7zXZ\0 and nothing of an archive");
    let (code, said) = lab.run(&["build", "debian-6.1", "--source", "debian-6.1=damaged.tar.xz"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("error: building debian-6.1: LAB/damaged.tar.xz: it is damaged or truncated: "), "{said}");
    assert!(said.ends_with("; fetch it again"), "{said}");

    lab.write("nonsense.deb", "no package");
    refused(
        lab.run(&["build", "debian-6.1-cloud", "--source", "debian-6.1-cloud=nonsense.deb"]),
        "error: building debian-6.1-cloud: LAB/nonsense.deb is neither a Debian nor an rpm package: name that of a kernel, such as \
         linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
    );
}

#[test]
fn a_compiler_that_is_missing_is_the_toolchains() {
    let lab = Lab::new();
    lab.write("tree/Makefile", "");
    refused(
        lab.run(&["build", "debian-6.1", "--source", "debian-6.1=tree", "--toolchain", "debian-6.1=host:gcc-99"]),
        "error: building debian-6.1: the toolchain's compiler gcc-99 is not on this machine: `apt-get install gcc-99`, or choose another one with \
         --toolchain KERNEL=host:COMPILER",
    );
}

#[test]
fn a_failed_build_is_told_once() {
    let lab = Lab::new();
    lab.write("tree/Makefile", "");
    let words = ["build", "debian-6.1", "--source", "debian-6.1=tree", "--toolchain", "debian-6.1=host:gcc-99"];
    let said = String::from_utf8(lab.command(&words).output().unwrap().stderr).unwrap();
    assert_eq!(said.matches("gcc-99 is not on this machine").count(), 1, "{said}");
}

#[test]
fn a_cache_that_can_be_none_is_the_users() {
    let lab = Lab::new();
    lab.write("file", "");
    for (cache, why) in [("/proc/x", "No such file or directory (os error 2)"), ("file", "Not a directory (os error 20)")] {
        let mut command = lab.command(&["build", "debian-6.1"]);
        let root = if cache == "file" { "LAB/file" } else { cache };
        refused(
            lab.ended({
                command.env("HANGPROOF_CACHE", cache);
                command
            }),
            &format!("error: {root} can't be the store: {why}: name another folder with HANGPROOF_CACHE"),
        );
    }
    for (cache, found) in [("a store", ' '), ("a,store", ','), ("a:store", ':'), ("a$store", '$')] {
        let mut command = lab.command(&["image", "ext4-on-md"]);
        command.env("HANGPROOF_CACHE", cache);
        let told = format!(
            "error: \"LAB/{cache}\" can't be the store: {found:?} in a path divides it for make or user-mode Linux: name a folder of letters, digits and \
             `/._-+@~` with HANGPROOF_CACHE"
        );
        refused(lab.ended(command), &told);
        assert!(!lab.path(cache).exists());
    }
}

#[test]
fn a_qemu_that_runs_nothing_and_a_scratch_folder_that_is_none_are_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    lab.write("qemu", "#!/bin/sh\n[ \"$1\" = --version ] && { echo QEMU emulator version 9.9; exit; }\necho out of order >&2\nexit 1\n");
    fs::set_permissions(lab.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
    let with = |words: &[&str], name: &str, value: &str| {
        let mut command = lab.command(words);
        command.env(name, lab.path(value));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(&lab.path("").display().to_string(), "LAB/"))
    };
    let told = "LAB/qemu runs no guest, not even without KVM: QEMU ended with exit status: 1: out of order: set HANGPROOF_QEMU to one that does, or install it again";
    let (code, said) = with(&["run", "ext4-oom", "--out", "out"], "HANGPROOF_QEMU", "qemu");
    assert!(code == 4 && said.contains(told) && !lab.path("out").exists(), "{code} {said}");
    let (code, said) = with(&["doctor"], "HANGPROOF_QEMU", "qemu");
    assert!(code == 4 && said.contains(told), "{code} {said}");
    let (code, said) = with(&["doctor"], "HANGPROOF_SCRATCH", "nowhere");
    assert!(
        code == 4 && said.lines().any(|line| line.contains("✗  scratch") && line.contains("LAB/nowhere: No such file")),
        "{code} {said}"
    );
}

/// It is there, and a machine's policy keeps it from its work.
#[test]
fn a_bubblewrap_that_may_do_nothing_is_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    lab.write("bin/bwrap", "#!/bin/sh\necho no permissions >&2\nexit 1\n");
    fs::set_permissions(lab.path("bin/bwrap"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", lab.path("bin").display(), std::env::var("PATH").unwrap());
    let said = String::from_utf8(lab.command(&["doctor"]).env("PATH", path).output().unwrap().stdout).unwrap();
    let line = said.lines().find(|line| line.contains("bwrap")).unwrap();
    assert!(line.starts_with(" -  bwrap") && line.contains("(no permissions): allow user namespaces"), "{said}");
}

#[test]
fn a_damaged_report_is_named_with_the_place_of_the_damage() {
    let lab = Lab::new();
    let remedy = "bring it back as the run wrote it, or name another run's folder";
    for (text, what) in [
        ("", "line 1, column 0: EOF while parsing a value"),
        ("{\n  \"schema\": 2,\n  \"hangproof\": 7\n}", "line 3, column 16 (hangproof): invalid type: integer `7`, expected a string"),
        ("{\n  \"schema\": 2,\n  \"hangp", "line 3, column 8: EOF while parsing a string"),
    ] {
        lab.write("run/report.json", text);
        let expected = format!("error: run/report.json is damaged, {what}: {remedy}");
        refused(lab.run(&["rescore", "run"]), &expected);
        refused(lab.run(&["report", "run", "--format", "md"]), &expected);
    }
    // Its report stands for the run.
    let (code, said) = lab.run(&["rescore", "run/report.json"]);
    assert!(code == 2 && said.starts_with("error: run/report.json is damaged, line 3, column 8: "), "{said}");
    lab.write("run/report.json", "{\"schema\": 99, \"hangproof\": \"9.9.9\"}");
    refused(
        lab.run(&["rescore", "run"]),
        "error: run/report.json has schema 99, this hangproof reads 2: use the hangproof 9.9.9 that wrote it",
    );
    refused(
        lab.run(&["rescore", "nowhere"]),
        "error: nowhere/report.json can't be read: No such file or directory (os error 2): name a run's folder, with all that the run wrote",
    );
}

#[test]
fn a_report_takes_no_file_of_the_run_and_names_a_place_that_cant_be() {
    let lab = Lab::new();
    let saved = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap();
    lab.write("run/report.json", &saved);
    let own = "error: LAB/run/report.json is a file of the run itself: choose another file";
    refused(lab.run(&["report", "run", "--format", "md", "--out", "run/report.json"]), own);
    refused(lab.run(&["report", "run", "--bundle", "run/report.json"]), own);
    assert_eq!(fs::read(lab.path("run/report.json")).unwrap(), saved);
    let (code, said) = lab.run(&["report", "run", "--format", "md", "--out", "nowhere/x"]);
    let why = "No such file or directory (os error 2): make its folder, or choose another file";
    assert_eq!((code, said), (2, format!("error: nowhere/x can't be written: {why}")));
    assert_eq!(lab.run(&["report", "run", "--format", "html", "--out", "run/report.html"]).0, 0);
    let page = fs::read(lab.path("run/report.html")).unwrap();
    refused(
        lab.run(&["report", "run", "--format", "md", "--out", "run/report.html"]),
        "error: LAB/run/report.html is the run's page: choose another file, or --format html",
    );
    assert_eq!(fs::read(lab.path("run/report.html")).unwrap(), page);

    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = lab.command(&["report", "run", "--format", "md"]);
    command.stdout(full);
    let (code, said) = lab.ended(command);
    assert_eq!((code, said.as_str()), (4, "error: writing to standard output: No space left on device (os error 28)"));
}

#[test]
fn a_report_is_written_into_regular_files_only() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let lab = Lab::new();
    lab.write("run/report.json", fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap());
    lab.pipe("pipe.tar.zst");
    symlink("/dev/null", lab.path("null.tar.zst")).unwrap();
    symlink("/proc/self/fd/1", lab.path("open.tar.zst")).unwrap();
    fs::create_dir(lab.path("folder.tar.zst")).unwrap();
    for name in ["pipe.tar.zst", "null.tar.zst", "open.tar.zst", "folder.tar.zst"] {
        let odd = format!("error: {name} is no regular file: name one");
        refused(lab.run(&["report", "run", "--bundle", name]), &odd);
        let odd = format!("{odd}, or leave out --out for standard output");
        refused(lab.run(&["report", "run", "--format", "md", "--out", name]), &odd);
    }
    assert!(fs::symlink_metadata(lab.path("pipe.tar.zst")).unwrap().file_type().is_fifo());
    for link in ["null.tar.zst", "open.tar.zst"] {
        assert!(lab.path(link).is_symlink(), "{link}");
    }
    symlink("gone", lab.path("dangling")).unwrap();
    refused(
        lab.run(&["report", "run", "--format", "md", "--out", "dangling"]),
        "error: dangling can't be written: No such file or directory (os error 2): choose another file",
    );

    lab.write("elsewhere/mine.md", "mine");
    symlink("elsewhere/mine.md", lab.path("link.md")).unwrap();
    assert_eq!(lab.run(&["report", "run", "--format", "md", "--out", "link.md"]).0, 0);
    assert!(lab.path("link.md").is_symlink());
    assert!(fs::read_to_string(lab.path("elsewhere/mine.md")).unwrap().starts_with("# "));
}

#[test]
fn a_bundle_is_told_from_a_report() {
    let lab = Lab::new();
    lab.write("run/report.json", fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap());
    for name in ["-", "x.zip"] {
        refused(
            lab.run(&["report", "run", "--bundle", name]),
            &format!("error: {name} is no name for a bundle, a tar archive compressed by zstd: name a file that ends in .tar.zst"),
        );
    }
    fs::create_dir(lab.path("folder")).unwrap();
    std::os::unix::fs::symlink("folder", lab.path("link")).unwrap();
    for other in ["x.tar.zst", "./folder/../x.tar.zst", "link/../x.tar.zst"] {
        refused(
            lab.run(&["report", "run", "--format", "md", "--out", "x.tar.zst", "--bundle", other]),
            "error: --out and --bundle are one file, LAB/x.tar.zst: name two",
        );
    }
    assert!(!lab.path("x.tar.zst").exists());
}

#[test]
fn a_damaged_event_log_is_named_with_its_line() {
    let lab = Lab::new();
    let mut saved: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap()).unwrap();
    saved["kernels"][0]["results"] = serde_json::json!([{
        "trial": {"kernel": "debian-6.1", "repeat": 1, "attempt": 1},
        "observation": {"observation": "invalid", "fault": "host", "reason": "disk full"},
        "seconds": 1.0, "evidence": "trials/debian-6.1.1/evidence.json", "repeated": false,
    }]);
    lab.write("run/report.json", saved.to_string());
    for second in ["{\"event\":", "7"] {
        lab.write("run/trials/debian-6.1.1/events.jsonl", format!("{{\"event\":\"x\"}}\n{second}"));
        let (code, said) = lab.run(&["report", "run", "--bundle", "x.tar.zst"]);
        let left_out = "warning: left out: debian-6.1.1: run/trials/debian-6.1.1/events.jsonl is damaged, line 2, column ";
        assert!(code == 0 && said.contains(left_out), "{code} {said}");
        assert!(lab.path("x.tar.zst").exists());
    }
    lab.write("run/trials/debian-6.1.1/events.jsonl", "{\"event\":\"x\"}\n");
    let output = lab.command(&["report", "run", "--bundle", "x.tar.zst"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lacks = |what: &str| format!("warning: left out: debian-6.1{what}: No such file or directory (os error 2)\n");
    assert!(said.contains(&lacks(".1: run/trials/debian-6.1.1/evidence.json")), "{said}");
    assert!(said.contains(&lacks(": run/kernels/debian-6.1/config")), "{said}");
}

#[test]
fn a_run_that_was_cut_short_or_has_no_trials_is_not_as_expected() {
    let lab = Lab::new();
    let mut saved: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap()).unwrap();
    saved["kernels"] = serde_json::json!([]);
    for (complete, told) in [(true, false), (false, true)] {
        saved["complete"] = complete.into();
        lab.write("run/report.json", saved.to_string());
        let output = lab.command(&["rescore", "run"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), said.contains("the run was cut short")), (Some(3), told), "{said}");
    }
}

#[test]
fn a_folder_of_somebody_else_is_no_store() {
    let lab = Lab::new();
    lab.write("pictures/images/holiday.jpg", "a beach");
    let mut command = lab.command(&["gc", "--keep-days", "0"]);
    command.env("HANGPROOF_CACHE", lab.path("pictures"));
    let told = "error: LAB/pictures can't be the store: it holds files that aren't hangproof's: name another folder with HANGPROOF_CACHE";
    refused(lab.ended(command), told);
    assert!(lab.path("pictures/images/holiday.jpg").exists());
    assert_eq!(lab.run(&["gc", "--keep-days", "0"]).0, 0);
    assert!(lab.path("cache/CACHEDIR.TAG").exists());
}

#[test]
fn an_archives_words_dont_reach_the_terminal_as_they_are() {
    let lab = Lab::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("linux/Makefile").unwrap();
    header.as_old_mut().cksum = *b"\x1b[31mXY\0";
    lab.write("esc.tar", [&header.as_bytes()[..], &[0; 1024]].concat());
    let (code, said) = lab.run(&["build", "debian-6.1", "--source", "debian-6.1=esc.tar"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("[31mXY") && !said.contains('\x1b'), "{said:?}");
}

#[test]
fn a_run_that_came_to_nothing_leaves_its_folder_free() {
    let lab = Lab::new();
    for _ in 0..2 {
        let mut command = lab.command(&["run", "ext4-oom", "--out", "out"]);
        command.env("HANGPROOF_QEMU", "/no/qemu");
        let (code, said) = lab.ended(command);
        assert!(code == 4 && said.contains("HANGPROOF_QEMU names /no/qemu"), "{code} {said}");
        assert!(!lab.path("out").exists());
    }
}

#[test]
fn a_pipe_is_not_waited_for_and_a_device_not_read() {
    let lab = Lab::new();
    for name in ["pipe", "zero"] {
        fs::create_dir(lab.path(name)).unwrap();
        let place = format!("{name}/report.json");
        if name == "pipe" {
            lab.pipe(&place)
        } else {
            std::os::unix::fs::symlink("/dev/zero", lab.path(&place)).unwrap()
        }
        let expected = format!("error: {place} can't be read: it is no regular file: name a run's folder, with all that the run wrote");
        refused(lab.run(&["rescore", name]), &expected);
        refused(lab.run(&["report", name, "--format", "md"]), &expected);
    }
    lab.pipe("source.tar.xz");
    refused(
        lab.run(&["build", "debian-6.1", "--source", "debian-6.1=source.tar.xz"]),
        "error: source.tar.xz is no source: neither a folder nor a file that ends in .tar, .tar.gz, .tgz, .tar.xz, .txz, .tar.zst, .tzst, \
         .src.rpm, .deb or .rpm; name a source tree, a tar archive, a source package or a kernel package",
    );
    lab.pipe("kernel.config");
    refused(
        lab.run(&["build", "debian-6.1", "--configuration", "debian-6.1=kernel.config"]),
        "error: kernel.config is no configuration: not a file; name a file such as a kernel's `.config`",
    );
}

#[test]
fn a_misspelled_name_is_answered_with_the_right_one() {
    let lab = Lab::new();
    for (words, expected) in [
        (&["build", "debian-6.2"][..], "kernel debian-6.2 is not defined: did you mean `debian-6.1`?"),
        (&["image", "ext4-on-dm"], "image ext4-on-dm is not defined: did you mean `ext4-on-md`?"),
        (&["run", "ext4-omo"], "pipeline ext4-omo is not defined: did you mean `ext4-oom`?"),
        (&["run", "ext4-oom", "--kernel", "debian-6.1-el7m"], "kernel debian-6.1-el7m is not defined: did you mean `debian-6.1-el7mm`?"),
        (&["shell", "debian-61"], "kernel debian-61 is not defined: did you mean `debian-6.1`?"),
        (
            &["bisect", "ext4-oom", "--over", "patches", "--kernel", "debian-6.1-el7mm-nofail-los"],
            "kernel debian-6.1-el7mm-nofail-los is not defined: did you mean `debian-6.1-el7mm-nofail-lost`?",
        ),
        (
            &["prove", "ext4-oom", "--baseline", "debian-6.1", "--candidate", "debian-6.1-el7m"],
            "kernel debian-6.1-el7m is not defined: did you mean `debian-6.1-el7mm`?",
        ),
    ] {
        refused(lab.run(words), &format!("error: {expected}"));
    }
}

#[test]
fn a_source_package_that_is_not_there_is_told_before_a_search_over_its_patches_begins() {
    let lab = Lab::new();
    fs::create_dir(lab.path("empty")).unwrap();
    let words = ["bisect", "centos7-ext4-oom", "--over", "patches", "--kernel", "centos7-1160", "--out", "search"];
    refused(
        lab.run(&[&words[..], &["--vault", "empty"]].concat()),
        "error: reading the patches of centos7-1160's source package: LAB/empty has neither kernel-3.10.0-1160.el7.src.rpm nor \
         linux-3.10.0-1160.el7.tar.xz: put one of them there, or name another folder with --vault",
    );
    // A network that is gone is nobody's mistake.
    let (code, said) = lab.run(&[&words[..], &["--vault", "http://127.0.0.1:1"]].concat());
    assert!(
        code == 4 && said.starts_with("error: reading the patches of centos7-1160's source package: download http://"),
        "{code} {said}"
    );
    assert!(!lab.path("search").exists());
}

/// Copies the definitions that a kernel's build needs.
fn definitions(into: &Path) {
    for folder in ["compatibility", "kernels", "images", "patches", "pipelines/ext4-oom"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::create_dir_all(into.join(folder)).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), into.join(folder).join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_pipeline_that_is_wrong_is_in_the_way_of_those_only_that_use_it() {
    let lab = Lab::new();
    definitions(&lab.path("definitions"));
    lab.write("definitions/pipelines/mine/pipeline.yaml", "name: mine\ncolour: red\n");
    lab.write("tree/Makefile", "");
    // The compiler is looked at when everything of the definitions is fine.
    let words = ["build", "debian-6.1", "--source", "debian-6.1=tree", "--toolchain", "debian-6.1=host:gcc-99"];
    let output = lab.command(&[&["--definitions", "definitions"][..], &words].concat()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: another pipeline is left out: pipelines/mine/pipeline.yaml:2:1: "), "{said}");
    assert!(said.contains("error: building debian-6.1: the toolchain's compiler gcc-99 is not on this machine"), "{said}");
    for words in [&["list"][..], &["run", "mine"]] {
        let (code, said) = lab.run(&[&["--definitions", "definitions"], words].concat());
        assert!(code == 2 && said.starts_with("pipelines/mine/pipeline.yaml:"), "{code} {said}");
    }
    let (code, said) = lab.run(&["--definitions", "definitions", "run", "ext4-omo"]);
    assert_eq!((code, said.as_str()), (2, "error: pipeline ext4-omo is not defined: did you mean `ext4-oom`?"));
}

#[test]
fn patches_and_reproducers_that_are_none_are_told_before_anything_is_built() {
    let lab = Lab::new();
    definitions(&lab.path("definitions"));
    let [lost, oom] = ["nofail-lost", "el7-memcg-oom"].map(|name| format!("definitions/patches/{name}.patch"));
    lab.write(&lost, "");
    fs::remove_file(lab.path(&oom)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", lab.path(&oom)).unwrap();
    let reproducer = "definitions/pipelines/ext4-oom/ext4-oom.c";
    lab.write(reproducer, "\n");
    // The patch, and the kernel that has it first.
    let patch = |name: &str, kernel: &str| {
        format!(
            "patch LAB/{name} touches no file: give a unified diff with `--- a/file` and `+++ b/file` lines\n  a patch of kernel {kernel}, \
             LAB/definitions/kernels/{kernel}.yaml"
        )
    };
    let pipeline = "definitions/pipelines/ext4-oom/pipeline.yaml";
    let of = format!("\n  the reproducer of pipeline ext4-oom, LAB/{pipeline}");
    let empty = format!("reproducer LAB/{reproducer} is empty: write a C program with a `main`{of}");
    let [oom, lost] = [(&oom, "debian-6.1-el7mm"), (&lost, "debian-6.1-el7mm-nofail-lost")].map(|(file, kernel)| patch(file, kernel));
    let list = ["--definitions", "definitions", "list"];
    refused(lab.run(&list), &format!("error: {oom}\n{lost}\n{empty}"));
    let run = ["--definitions", "definitions", "run", "ext4-oom", "--kernel", "debian-6.1", "--out", "out"];
    refused(lab.run(&run), &format!("error: {empty}"));
    assert!(!lab.path("out").exists());
    refused(lab.run(&["--definitions", "definitions", "build", "debian-6.1-el7mm"]), &format!("error: {oom}"));
    let written = fs::read_to_string(lab.path(pipeline)).unwrap();
    lab.write(pipeline, written.replace("c: ext4-oom.c", "file: ext4-oom.c"));
    let unfit = "is neither a script nor an ELF program: let it begin with `#!/bin/sh`, or write `c:` for a C source";
    refused(lab.run(&run), &format!("error: reproducer LAB/{reproducer} {unfit}{of}"));
}

#[test]
fn a_run_inside_another_ones_folder_is_refused() {
    let lab = Lab::new();
    lab.write("first/report.json", "{}");
    let run = ["run", "ext4-oom", "--out", "first/trials/second"];
    // Somebody else's file of that name says nothing.
    let mut command = lab.command(&run);
    command.env("HANGPROOF_QEMU", "/no/qemu");
    assert_eq!(lab.ended(command).0, 4);
    lab.write("first/events.jsonl", "");
    refused(lab.run(&run), "error: first/trials/second lies in another run's folder, LAB/first: choose another one with --out");
    assert!(!lab.path("first/trials/second").exists());
    std::os::unix::fs::symlink("first", lab.path("link")).unwrap();
    let linked = ["run", "ext4-oom", "--out", "link/second"];
    refused(lab.run(&linked), "error: link/second lies in another run's folder, LAB/first: choose another one with --out");
    // From inside it, beside it.
    let mut command = lab.command(&["run", "ext4-oom", "--out", "../second"]);
    command.current_dir(lab.path("first")).env("HANGPROOF_QEMU", "/no/qemu");
    assert_eq!(lab.ended(command).0, 4);
}

#[test]
fn a_file_that_may_not_be_written_is_no_end() {
    let lab = Lab::new();
    lab.write("run/report.json", fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json")).unwrap());
    let shell = |line: &str| {
        let command = lab.command(&[]);
        let program = command.get_program().to_owned();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .arg(program)
            .current_dir(lab.path(""))
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        lab.ended(shell)
    };
    let (code, said) = shell("ulimit -f 1; exec \"$0\" report run --format html --out page.html");
    assert!(code == 4 && said.to_lowercase().contains("writing lab/page.html: file too large"), "{code} {said}");
    let left: Vec<_> = fs::read_dir(lab.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "run" && name != "cache")
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    assert_eq!(shell("exec \"$0\" rescore nowhere 2>/dev/full").0, 2);
}

#[test]
fn options_that_every_command_has_stand_apart() {
    let lab = Lab::new();
    for command in ["build", "run", "bisect", "gc"] {
        let help = String::from_utf8(lab.command(&[command, "--help"]).output().unwrap().stdout).unwrap();
        let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
        for option in ["--definitions", "--source", "--vault", "--toolchain", "--configuration", "--quiet"] {
            let line = |text: &str| text.lines().any(|line| line.contains(&format!("{option} ")) || line.ends_with(option));
            assert!(line(global) && !line(own), "{command}: {option}:\n{help}");
        }
        assert!(own.contains("\nOptions:\n") && !global.contains("--jobs"), "{help}");
    }
}

#[test]
fn an_old_cargo_is_refused_before_it_compiles() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let needs = |version: &str| {
        lab.write("bin/cargo", format!("#!/bin/sh\necho 'cargo {version} (0123456789 2026-01-01)'\n"));
        fs::set_permissions(lab.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", ". scripts/needs.sh; need_cargo"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        // Without a cargo in somebody's home.
        shell.env("HOME", lab.folder.path()).env("SUDO_USER", "nobody").env("PATH", format!("{}:/usr/bin:/bin", lab.path("bin").display()));
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        lab.ended(shell)
    };
    refused(needs("1.63.0"), "LAB/bin/cargo is 1.63.0, too old: install Rust 1.89 or later with rustup (https://rustup.rs)");
    for fine in ["1.89.0", "1.100.1", "2.0.0-nightly"] {
        assert_eq!(needs(fine), (0, String::new()));
    }
}
