//! The program on the real thing: real kernels, real VMs, real trouble.
//!
//! Every test runs the `hangproof` binary as a user would, with a copy of the shipped definitions and some more. Without QEMU they fail; they never
//! skip. Kernels come from the user's store, so the base is built once. One VM test runs at a time: their limits are times.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::Digest as _;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A copy of the shipped definitions to add to, and a scratch folder of its own by which leftovers are recognised.
struct Lab {
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A reproducer that writes for its time and provokes nothing.
const WRITER: &str = r#"#!/bin/sh
end=$(( $(date +%s) + HANGPROOF_DURATION ))
while [ "$(date +%s)" -lt "$end" ]; do echo x > file; sync; sleep 1; done
"#;

impl Lab {
    fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("lab").tempdir().unwrap();
        for part in ["kernels", "compatibility", "patches", "images", "pipelines"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(part);
            assert!(Command::new("cp").arg("-r").arg(from).arg(folder.path()).status().unwrap().success());
        }
        fs::create_dir(folder.path().join("scratch")).unwrap();
        Self { folder, _turn: turn }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A kernel that extends `debian-6.1` by one patch to `init/main.c`, which puts `code` before the first user-space program.
    fn kernel(&self, name: &str, code: &str) {
        let added: String = code.lines().map(|line| format!("+{line}\n")).collect();
        let count = code.lines().count();
        let patch = format!(
            "SPDX-License-Identifier: GPL-2.0-only\n\n--- a/init/main.c\n+++ b/init/main.c\n@@ -1485,3 +1485,{} @@\n \
             \twait_for_completion(&kthreadd_done);\n \n{added} \tkernel_init_freeable();\n",
            3 + count
        );
        fs::write(self.path("patches").join(format!("{name}.patch")), patch).unwrap();
        let yaml = format!("name: {name}\ndescription: made by a test\nextends: debian-6.1\npatches: [{name}.patch]\n");
        fs::write(self.path("kernels").join(format!("{name}.yaml")), yaml).unwrap();
    }

    /// A pipeline of some seconds with this script as its reproducer.
    fn pipeline(&self, name: &str, kernels: &str, script: &str, seconds: u32) {
        let folder = self.path("pipelines").join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("repro.sh"), script).unwrap();
        fs::set_permissions(folder.join("repro.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        let yaml = format!(
            "name: {name}\ndescription: made by a test\nkernels: {kernels}\nimage: ext4-on-md\nmachine: {{cpus: 2, memory: 512 MiB}}\ncgroup: v2\n\
             reproducer: {{file: repro.sh}}\nlimits: {{duration: {seconds}s, boot: 60s, stall: 4s, silence: 60s}}\n\
             trigger: {{oom-kills: 0, commits: 1}}\nrepeats: 1\n"
        );
        fs::write(folder.join("pipeline.yaml"), yaml).unwrap();
    }

    /// Replaces a part of a pipeline.
    fn edit(&self, pipeline: &str, from: &str, to: &str) {
        let path = self.path("pipelines").join(pipeline).join("pipeline.yaml");
        let yaml = fs::read_to_string(&path).unwrap();
        assert!(yaml.contains(from), "{yaml}");
        fs::write(path, yaml.replace(from, to)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangproof"));
        command.args(arguments).current_dir(self.folder.path()).env("HANGPROOF_SCRATCH", self.path("scratch")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        self.nothing_is_left();
        output
    }

    fn report(&self, out: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(out).join("report.json")).unwrap()).unwrap()
    }

    /// Processes whose command line names our scratch folder.
    fn processes(&self) -> Vec<i32> {
        let needle = self.path("scratch").display().to_string();
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&needle)))
            .collect()
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        wait_for("every VM to end", Duration::from_secs(5), || self.processes().is_empty());
        let left: Vec<_> = fs::read_dir(self.path("scratch")).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[track_caller]
fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}\n{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn exits(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{}", said(output));
}

/// Verdicts of a report as `kernel: verdict`.
fn verdicts(report: &Value) -> Vec<String> {
    let kernels = report["kernels"].as_array().unwrap();
    kernels.iter().map(|kernel| format!("{}: {}", kernel["name"].as_str().unwrap(), kernel["verdict"].as_str().unwrap())).collect()
}

fn result(report: &Value, kernel: usize, trial: usize) -> &Value {
    &report["kernels"][kernel]["results"][trial]["observation"]
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn the_four_kernels_score_as_the_bug_says() {
    let lab = Lab::new();
    let output = lab.run(&["run", "ext4-oom", "--out", "out"]);
    exits(&output, 0);
    let report = lab.report("out");
    let expected =
        ["debian-6.1: pass", "debian-6.1-el7mm: pass", "debian-6.1-el7mm-nofail-lost: hang", "debian-6.1-el7mm-nofail-restored: pass"];
    assert_eq!(verdicts(&report), expected);
    // A trial that was tried again is the first one then.
    let tried = report["kernels"][2]["results"].as_array().unwrap();
    let hang = &tried.iter().find(|result| result["repeated"] == false).unwrap()["observation"];
    let witness = &hang["witness"]["closed-wait"];
    assert_eq!(witness["journal"]["comm"], "jbd2/md127-8", "{hang:#}");
    assert!(hang["at"].as_u64().unwrap() - hang["last-progress"].as_u64().unwrap() < 20_000, "{hang:#}");
    for kernel in [0, 1, 3] {
        assert!(result(&report, kernel, 0)["oom-kills"].as_u64().unwrap() >= 10, "{report:#}");
    }
    assert_eq!(report["complete"], true);
    let events = fs::read_to_string(lab.path("out/trials/debian-6.1.1/events.jsonl")).unwrap();
    assert!(events.contains("\"trial-finished\"") && events.lines().all(|line| line.contains("\"debian-6.1\"")), "{events}");
    assert_eq!(report["kernels"][1]["build"]["patches"].as_array().unwrap().len(), 1);
    assert!(report["command"].as_str().unwrap().starts_with("hangproof run ext4-oom"));

    let again = lab.run(&["rescore", "out"]);
    exits(&again, 0);
    assert!(said(&again).contains("4 trials judged again: every observation as saved"), "{}", said(&again));

    // A folder that holds a report is never written over.
    let twice = lab.run(&["run", "ext4-oom", "--out", "out"]);
    exits(&twice, 2);
    assert_eq!(lab.report("out"), report);

    // Evidence that says otherwise is judged otherwise, for rescore reads nothing else; and one of both was edited.
    let evidence = lab.path("out/trials/debian-6.1.1/evidence.json");
    let text = fs::read_to_string(&evidence).unwrap();
    fs::write(&evidence, text.replace("\"oom-kills\": 10,", "\"oom-kills\": 100000,")).unwrap();
    let changed = lab.run(&["rescore", "out"]);
    exits(&changed, 2);
    assert!(said(&changed).contains("debian-6.1: the verdict was pass, is inconclusive"), "{}", said(&changed));

    // One whose evidence is damaged is named; the others are judged all the same.
    fs::write(&evidence, &text[..text.len() / 2]).unwrap();
    let damaged = lab.run(&["rescore", "out"]);
    exits(&damaged, 2);
    // The table breaks lines where it must.
    let words = said(&damaged).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("1 of 4 trials can't be judged again") && words.contains("debian-6.1.1/evidence.json"), "{words}");
    assert!(words.contains("waits in a commit") && words.contains("inconclusive"), "{words}");
    assert!(!words.contains("the verdict was"), "what is lost contradicts nothing: {words}");
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_twin_of_the_baseline_is_not_fixed() {
    let lab = Lab::new();
    let lost = "debian-6.1-el7mm-nofail-lost";
    let twin = format!("{lost}-twin");
    // Nobody says how long trials last, so the baseline's first ones do.
    lab.edit("ext4-oom", "proof: {duration: 12s}\n", "");
    let output = lab.run(&["prove", "ext4-oom", "--baseline", lost, "--candidate", &twin, "--seed", "1", "--out", "out"]);
    exits(&output, 1);
    let report = lab.report("out");
    let (calibration, duration) = (&report["calibration"], &report["proof"]["setup"]["duration"]);
    assert!(calibration["seen"]["hangs"].as_array().unwrap().len() >= 3, "{calibration:#}");
    // At most the pipeline's.
    let proposed = calibration["proposal"]["duration"].as_f64().unwrap().min(60.0);
    assert_eq!((duration.as_f64(), &report["limits"]["duration"]["secs"]), (Some(proposed), &(proposed as u64).into()));
    let results = report["kernels"][0]["results"].as_array().unwrap();
    let calibrating = results.iter().filter(|result| result["calibrates"] == true).map(|result| &result["trial"]);
    let proving: Vec<&Value> = report["proof"]["trials"].as_array().unwrap().iter().map(|trial| &trial["trial"]).collect();
    assert!(calibrating.clone().count() >= 6 && calibrating.into_iter().all(|trial| !proving.contains(&trial)), "{report:#}");
    let candidate = &report["proof"]["candidates"][0];
    assert_eq!(candidate["summary"]["answer"], "not-fixed", "{candidate:#}");
    let again = lab.run(&["rescore", "out"]);
    exits(&again, 1);
    assert!(said(&again).contains("every observation as saved"), "{}", said(&again));
}

/// With little asked of them, so that two minutes do of the forty that all tests have: how sure an answer is doesn't change what it is.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn what_a_proof_answers() {
    let lab = Lab::new();
    let [healthy, lost, restored] = ["debian-6.1", "debian-6.1-el7mm-nofail-lost", "debian-6.1-el7mm-nofail-restored"];
    let answer = |pipeline: &str, baseline: &str, candidate: &str, exit: i32, answer: Value| {
        let out = format!("{pipeline}-{baseline}");
        let modest = ["--confidence", "0.6", "--residual", "0.15", "--seed", "1", "--jobs", "2", "--out", &out];
        let output = lab.run(&[&["prove", pipeline, "--baseline", baseline, "--candidate", candidate], &modest[..]].concat());
        exits(&output, exit);
        let report = lab.report(&out);
        assert_eq!(report["proof"]["candidates"][0]["summary"]["answer"], answer, "{}", said(&output));
        let again = lab.run(&["rescore", &out]);
        exits(&again, exit);
        assert!(said(&again).contains("every observation as saved"), "{}", said(&again));
    };
    answer("ext4-oom", lost, restored, 0, "fixed".into());
    answer("ext4-oom", healthy, restored, 3, serde_json::json!({"inconclusive": "baseline-didnt-reproduce"}));
    lab.pipeline("writes", "[{kernel: debian-6.1, expect: pass}]", WRITER, 3);
    lab.edit("writes", "oom-kills: 0", "oom-kills: 1");
    answer("writes", lost, restored, 3, serde_json::json!({"inconclusive": "trigger-didnt-fire"}));
}

/// A stack of five patches, the fourth of which brings the bug. The search is killed after some trials and goes on.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_search_finds_the_patch_that_matters_and_survives_being_killed() {
    let lab = Lab::new();
    let harmless = [
        ("one", "wait_for_completion(&kthreadd_done);", "pr_info(\"one\\n\");", ""),
        ("two", "async_synchronize_full();", "/* changes nothing */", ""),
        ("five", "ftrace_free_init_mem();", "pr_info(\"five\\n\");", "\tkgdb_free_init_mem();"),
    ];
    for (name, before, code, after) in harmless {
        let hunk = format!("@@ -1490,2 +1490,3 @@\n \t{before}\n+\t{code}\n {after}\n");
        let patch = format!("Subject: [PATCH] Add {name}\n\n--- a/init/main.c\n+++ b/init/main.c\n{hunk}");
        fs::write(lab.path("patches").join(format!("{name}.patch")), patch).unwrap();
    }
    let stack = "name: stack\ndescription: made by a test\nextends: debian-6.1\n\
                 patches: [el7-memcg-oom.patch, one.patch, two.patch, nofail-lost.patch, five.patch]\n";
    fs::write(lab.path("kernels/stack.yaml"), stack).unwrap();
    let words = ["bisect", "ext4-oom", "--over", "patches", "--kernel", "stack", "--duration", "25s", "--out", "search"];
    let mut searching = lab.command(&words).spawn().unwrap();
    let recorded = || fs::read_to_string(lab.path("search/report.json")).is_ok_and(|text| text.matches("\"outcome\"").count() >= 3);
    wait_for("three trials", Duration::from_secs(900), recorded);
    searching.kill().unwrap();
    searching.wait().unwrap();
    let before = lab.report("search")["search"]["trials"].as_array().unwrap().clone();
    let early =
        lab.run(&["bisect", "ext4-oom", "--over", "patches", "--kernel", "stack", "--duration", "20s", "--out", "search", "--resume"]);
    exits(&early, 2);
    assert!(said(&early).contains("the trials' duration is another one in this search"), "{}", said(&early));
    lab.edit("ext4-oom", "cgroup: v2", "cgroup: v1");
    let other = lab.run(&[&words[..], &["--resume"]].concat());
    exits(&other, 2);
    assert!(
        said(&other).contains("how its kernels are defined, or the pipeline's cgroup, boot-arguments or hang, is another one"),
        "{}",
        said(&other)
    );
    lab.edit("ext4-oom", "cgroup: v1", "cgroup: v2");
    let output = lab.run(&[&words[..], &["--resume"]].concat());
    exits(&output, 0);
    assert!(said(&output).contains("the first bad patch: patches/nofail-lost.patch"), "{}", said(&output));
    let report = lab.report("search");
    let search = &report["search"];
    assert_eq!(search["trials"].as_array().unwrap()[..before.len()], before);
    let culprits = search["answer"]["culprits"].as_array().unwrap();
    assert!(culprits.len() == 1 && search["answer"]["probability"].as_f64().unwrap() > 0.95, "{search:#}");
    let page = fs::read_to_string(lab.path("search/report.html")).unwrap();
    assert!(page.contains("the first bad patch: patches/nofail-lost.patch"));
    let again = lab.run(&["rescore", "search"]);
    exits(&again, 0);
    assert!(said(&again).contains("every observation as saved"), "{}", said(&again));
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn long_standstills_are_told_from_the_hang() {
    let lab = Lab::new();
    // Standing still, a healthy kernel kills few: the trigger of the shipped pipeline is for 4 x 2.
    lab.edit("ext4-oom", "oom-kills: 10", "oom-kills: 2");
    let kernels = ["--kernel", "debian-6.1-el7mm", "--kernel", "debian-6.1-el7mm-nofail-lost"];
    let output = lab.run(&[&["run", "ext4-oom", "--out", "out", "--set", "processes=8"][..], &kernels].concat());
    let report = lab.report("out");
    assert_eq!(report["kernels"][1]["verdict"], "hang", "{}", said(&output));
    // Its holder sleeps as the healthy kernel's does; the flags of its charge tell them apart: within 12 to 14 s, while the long limit is 120 s under TCG.
    let hang = result(&report, 1, 0);
    assert!(hang["witness"]["closed-wait"].is_object(), "{hang:#}");
    assert!(hang["at"].as_u64().unwrap() - hang["last-progress"].as_u64().unwrap() < 20_000, "{hang:#}");
    // How hard the host is pressed decides whether the healthy kernel does enough to count as a pass; a hang it must never be.
    let healthy = result(&report, 0, 0);
    let passed = healthy["observation"] == "pass";
    assert!(passed || healthy["fault"] == "trigger", "{healthy:#}");
    let events = fs::read_to_string(lab.path("out/trials/debian-6.1-el7mm.1/events.jsonl")).unwrap();
    let silent = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["silent"].as_f64()).fold(0.0, f64::max);
    assert!(silent >= 5.0, "nothing stood still for long ({silent} s), so nothing was tested");
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn the_bug_shows_in_cgroup_version_1_too() {
    let lab = Lab::new();
    lab.edit("ext4-oom", "cgroup: v2", "cgroup: v1");
    // Twice: on a loaded host it may need more than a trial's time, and one hang of two is a hang.
    let output = lab.run(&["run", "ext4-oom", "--out", "out", "--repeats", "2", "--kernel", "debian-6.1-el7mm-nofail-lost"]);
    exits(&output, 0);
    assert_eq!(verdicts(&lab.report("out")), ["debian-6.1-el7mm-nofail-lost: hang"], "{}", said(&output));
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn kernels_that_do_not_boot_are_results() {
    let lab = Lab::new();
    lab.kernel("panics", "\tpanic(\"a test's panic\");");
    lab.kernel("triple-faults", "\t{ struct desc_ptr none = { 0, 0 }; asm volatile(\"lidt %0; int3\" : : \"m\" (none)); }");
    lab.kernel("reboots", "\temergency_restart();");
    lab.kernel("does-not-compile", "\tthis is no C;");
    let expect = |name: &str, verdict: &str| format!("{{kernel: {name}, expect: {verdict}}}");
    let kernels = ["panics", "triple-faults", "reboots"].map(|name| expect(name, "boot-failure")).join(", ");
    lab.pipeline("boots", &format!("[{kernels}]"), WRITER, 5);
    let output = lab.run(&["run", "boots", "--out", "out"]);
    exits(&output, 0);
    let report = lab.report("out");
    assert_eq!(verdicts(&report), ["panics: boot-failure", "triple-faults: boot-failure", "reboots: boot-failure"], "{}", said(&output));
    assert!(result(&report, 0, 0)["reason"].as_str().unwrap().contains("a test's panic"), "{report:#}");
    assert!(result(&report, 1, 0)["reason"].as_str().unwrap().contains("guest-reset"), "{report:#}");

    // A kernel that isn't built is inconclusive, names the error, and stops no other.
    // Nor is it tried again for the kernels that extend it.
    let above = "name: above\ndescription: made by a test\nextends: does-not-compile\npatches: [panics.patch]\n";
    fs::write(lab.path("kernels/above.yaml"), above).unwrap();
    let kernels = [expect("does-not-compile", "pass"), expect("above", "pass"), expect("debian-6.1", "pass")].join(", ");
    lab.pipeline("builds", &format!("[{kernels}]"), WRITER, 5);
    let output = lab.run(&["run", "builds", "--out", "out2"]);
    exits(&output, 3);
    let report = lab.report("out2");
    assert_eq!(verdicts(&report), ["does-not-compile: inconclusive", "above: inconclusive", "debian-6.1: pass"]);
    let [error, above] = [0, 1].map(|kernel| report["kernels"][kernel]["build-error"].as_str().unwrap());
    assert!(error.contains("init/main.c:1487") && error.contains("does-not-compile.patch"), "{error}");
    assert_eq!(above, format!("does-not-compile, which it extends: {error}"));
    assert_eq!(said(&output).matches("does-not-compile: building\n").count(), 1, "{}", said(&output));
}

/// Whether they hang a kernel with the bug takes hours to say; that a healthy one gets through their OOM kills is the least.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn the_other_reproducers_run_and_reach_their_trigger() {
    let lab = Lab::new();
    for (pipeline, duration, parameters) in [
        ("ext4-oom-mixed", "duration: 120s", &["--set", "rate=12M"][..]),
        ("ext4-oom-writers", "duration: 90s", &[]),
        ("ext4-oom-loop", "duration: 60s", &[]),
    ] {
        lab.edit(pipeline, &format!("\n  {duration}"), "\n  duration: 20s");
        let output = lab.run(&[&["run", pipeline, "--kernel", "debian-6.1", "--out", pipeline], parameters].concat());
        exits(&output, 0);
        let report = lab.report(pipeline);
        assert_eq!(verdicts(&report), ["debian-6.1: pass"], "{}", said(&output));
        assert!(result(&report, 0, 0)["operations"].as_u64() > Some(100), "{report:#}");
    }
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn reproducers_that_prove_nothing_are_invalid() {
    let lab = Lab::new();
    lab.pipeline("nothing", "[{kernel: debian-6.1, expect: pass}]", "#!/bin/sh\nexit 0\n", 5);
    lab.pipeline("missing", "[{kernel: debian-6.1, expect: pass}]", "#!/no/such/interpreter\n", 5);
    lab.pipeline("fails", "[{kernel: debian-6.1, expect: pass}]", "#!/bin/sh\necho something is wrong\nexit 7\n", 5);
    let reason = |name: &str| {
        let output = lab.run(&["run", name, "--out", name]);
        exits(&output, 3);
        let report = lab.report(name);
        assert_eq!(report["kernels"][0]["results"].as_array().unwrap().len(), 1, "not ours, so not repeated");
        result(&report, 0, 0)["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("nothing").contains("of 5 s"));
    assert!(reason("missing").contains("can't be executed in the guest"));
    let fails = reason("fails");
    assert!(fails.contains("status 7") && fails.contains("something is wrong"), "{fails}");
    // No trigger, no pass: the whole time without an OOM kill.
    lab.pipeline("writes", "[{kernel: debian-6.1, expect: pass}]", WRITER, 5);
    lab.edit("writes", "oom-kills: 0", "oom-kills: 1");
    assert!(reason("writes").contains("0 memory-cgroup OOM kills, 1 are needed"));
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_mitigation_is_a_dimension_of_its_own() {
    let lab = Lab::new();
    // Not installed: Debian's package starts it as a service, and it would kill what this machine runs.
    let unpack = "apt-get download -qq earlyoom && dpkg-deb -x earlyoom_*.deb earlyoom";
    assert!(Command::new("sh").args(["-c", unpack]).current_dir(lab.folder.path()).status().unwrap().success());
    let earlyoom = lab.path("earlyoom/usr/bin/earlyoom");
    lab.pipeline("mitigated", "[{kernel: debian-6.1, expect: {none: pass, earlyoom: pass}}]", WRITER, 5);
    let list = format!(
        "mitigations: [none, {{name: earlyoom, program: {}, arguments: [-r, \"1\"]}}, {{name: fails, program: /bin/false}}]",
        earlyoom.display()
    );
    lab.edit("mitigated", "image: ext4-on-md", &format!("{list}\nimage: ext4-on-md"));
    let unknown = lab.run(&["run", "mitigated", "--out", "no", "--mitigation", "oomd"]);
    exits(&unknown, 2);
    assert!(
        said(&unknown).contains("pipeline mitigated has no mitigation oomd: there are `earlyoom`, `fails` and `none`"),
        "{}",
        said(&unknown)
    );

    let output = lab.run(&["run", "mitigated", "--out", "out", "--mitigation", "none", "--mitigation", "earlyoom"]);
    exits(&output, 0);
    let report = lab.report("out");
    assert_eq!(verdicts(&report), ["debian-6.1: pass", "debian-6.1: pass"], "{}", said(&output));
    assert_eq!([&report["kernels"][0]["mitigation"], &report["kernels"][1]["mitigation"]], ["none", "earlyoom"]);
    assert!(said(&output).contains("MITIGATION"), "{}", said(&output));
    let sha256: String = sha2::Sha256::digest(fs::read(&earlyoom).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(report["mitigation-programs"]["earlyoom"]["sha256"], sha256, "{report:#}");
    // It ran, in the guest, from before the reproducer's start to the end.
    let evidence = |trial: &str| -> Value {
        serde_json::from_slice(&fs::read(lab.path("out/trials").join(trial).join("evidence.json")).unwrap()).unwrap()
    };
    let mitigated = evidence("debian-6.1+earlyoom.1");
    let beside = &mitigated["mitigation"];
    assert!(beside["output"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().starts_with("mem avail:")), "{beside:#}");
    assert!(beside["started"].as_u64() <= mitigated["boot"]["started"].as_u64() && beside["end"].is_null(), "{beside:#}");
    assert!(evidence("debian-6.1+none.1").get("mitigation").is_none());
    exits(&lab.run(&["rescore", "out"]), 0);

    // One that ends has mitigated nothing, and its trial shows nothing.
    let output = lab.run(&["run", "mitigated", "--out", "dead", "--mitigation", "fails"]);
    exits(&output, 3);
    let observation = &result(&lab.report("dead"), 0, 0).clone();
    assert_eq!(observation["fault"], "mitigation", "{observation:#}");
    assert!(observation["reason"].as_str().unwrap().contains("with status 1"), "{observation:#}");
}

/// Starts a run and waits until its reproducer runs.
fn start(lab: &Lab, pipeline: &str, out: &str) -> Child {
    let child = lab.command(&["run", pipeline, "--out", out]).spawn().unwrap();
    let log = lab.path(out).join("events.jsonl");
    let running = || fs::read_to_string(&log).is_ok_and(|text| text.contains("\"phase\":\"running\""));
    wait_for("the reproducer to run", Duration::from_secs(900), running);
    child
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_vm_that_is_killed_is_invalid_and_tried_once_more() {
    let lab = Lab::new();
    lab.pipeline("killed", "[{kernel: debian-6.1, expect: pass}]", WRITER, 12);
    let child = start(&lab, "killed", "out");
    lab.processes().into_iter().for_each(|pid| kill(pid, rustix::process::Signal::KILL));
    let output = child.wait_with_output().unwrap();
    exits(&output, 0);
    let report = lab.report("out");
    assert_eq!(verdicts(&report), ["debian-6.1: pass"]);
    assert!(result(&report, 0, 0)["reason"].as_str().unwrap().contains("signal 9"), "{report:#}");
    assert_eq!(report["kernels"][0]["results"][0]["repeated"], true);
    assert_eq!(result(&report, 0, 1)["observation"], "pass");
    lab.nothing_is_left();
}

/// A program that is killed with its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stopped for longer than the agent may be silent, then starved by four busy programs while the reproducer pauses: each of it stops the progress clock, or
/// the guest, and nothing hangs.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_stopped_vm_a_busy_host_and_a_pause_are_no_hangs() {
    let lab = Lab::new();
    let pausing = WRITER
        .replacen("while ", "pause=$(( end - 20 ))\nwhile ", 1)
        .replace("sleep 1; done", "sleep 1\n[ \"$(date +%s)\" -lt \"$pause\" ] || { sleep 15; pause=$(( end + 1 )); }; done");
    lab.pipeline("disturbed", "[{kernel: debian-6.1, expect: pass}]", &pausing, 48);
    // 16 s under TCG: silence alone would be a hang in each of the three.
    lab.edit("disturbed", "silence: 60s", "silence: 8s");
    let child = start(&lab, "disturbed", "out");
    std::thread::sleep(Duration::from_secs(2));
    lab.processes().into_iter().for_each(|pid| kill(pid, rustix::process::Signal::STOP));
    std::thread::sleep(Duration::from_secs(20));
    lab.processes().into_iter().for_each(|pid| kill(pid, rustix::process::Signal::CONT));
    let busy = || Killed(Command::new("yes").stdout(Stdio::null()).spawn().unwrap());
    let busy: Vec<Killed> = (0..4).map(|_| busy()).collect();
    let output = child.wait_with_output().unwrap();
    drop(busy);
    exits(&output, 0);
    let report = lab.report("out");
    assert_eq!(report["kernels"][0]["results"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(result(&report, 0, 0)["standstill"]["secs"].as_u64().unwrap() >= 19, "{report:#}");
    lab.nothing_is_left();
}

/// Tasks that never let go of the CPUs: the agent is silent too, and only QEMU and the host's scheduler tell it from a VM that doesn't run.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_guest_that_is_silent_as_a_whole_is_a_hang() {
    let lab = Lab::new();
    let mute = "#!/bin/sh\necho -1 > /proc/sys/kernel/sched_rt_runtime_us\nfor i in 1 2 3 4; do chrt -f 99 sh -c 'while :; do :; done' & done\nsleep 60\n";
    lab.pipeline("mute", "[{kernel: debian-6.1, expect: hang}]", mute, 20);
    lab.edit("mute", "{file: repro.sh}", "{file: repro.sh, adds: [/usr/bin/chrt]}");
    lab.edit("mute", "silence: 60s", "silence: 8s");
    let output = lab.run(&["run", "mute", "--out", "out", "--dump", "never"]);
    exits(&output, 0);
    let hang = result(&lab.report("out"), 0, 0).clone();
    assert!(hang["witness"]["guest"].is_object(), "{hang:#}");
    let evidence: Value = serde_json::from_slice(&fs::read(lab.path("out/trials/debian-6.1.1/evidence.json")).unwrap()).unwrap();
    let times = evidence["qmp"].as_array().unwrap().iter().filter(|fact| fact[1]["cpus"]["cpus"] == 2).count();
    assert!(times >= 2, "{:#}", evidence["qmp"]);
    exits(&lab.run(&["rescore", "out"]), 0);
    lab.nothing_is_left();
}

/// What is collected after a hang is whole, and changes nothing that was judged.
#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_hang_leaves_its_memory_and_a_panic() {
    let lab = Lab::new();
    let kernels = ["--kernel", "debian-6.1-el7mm-nofail-lost", "--dump", "first", "--repeats", "2", "--jobs", "1"];
    let output = lab.run(&[&["run", "ext4-oom", "--out", "out"][..], &kernels].concat());
    exits(&output, 0);
    let folder = lab.path("out/trials/debian-6.1-el7mm-nofail-lost.1");
    let aftermath: Value = serde_json::from_slice(&fs::read(folder.join("aftermath.json")).unwrap()).unwrap();
    let steps: Vec<&str> = aftermath["steps"].as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap()).collect();
    assert_eq!(steps, ["sysrq w", "sysrq m", "sysrq t", "kernel log", "stop", "memory dump", "continue", "interrupt", "panic"]);
    assert!(aftermath["steps"].as_array().unwrap().iter().all(|step| step["error"].is_null()), "{aftermath:#}");
    // An ELF core of all the memory.
    let mut head = [0; 4];
    let mut core = zstd::Decoder::new(fs::File::open(folder.join("vmcore.zst")).unwrap()).unwrap();
    std::io::Read::read_exact(&mut core, &mut head).unwrap();
    assert_eq!(&head, b"\x7fELF");
    assert!(aftermath["dump"]["bytes"].as_u64().unwrap() >= 2 << 30 && !folder.join("vmcore-incomplete").exists(), "{aftermath:#}");
    assert!(fs::read_to_string(folder.join("vmcore-dmesg.txt")).unwrap().contains("Linux version 6.1"));
    let after = fs::read_to_string(folder.join("aftermath.log")).unwrap();
    assert!(after.contains("Show Blocked State"), "{after}");
    assert!(after.contains("Kernel panic - not syncing: NMI: Not continuing") && after.contains("</NMI>"), "{after}");
    assert!(!fs::read_to_string(folder.join("console.log")).unwrap().contains("Kernel panic"));
    assert!(!lab.path("out/trials/debian-6.1-el7mm-nofail-lost.2/aftermath.json").exists(), "only the first is collected from");
    let again = lab.run(&["rescore", "out"]);
    exits(&again, 0);
    assert!(said(&again).contains("every observation as saved"), "{}", said(&again));
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn an_interrupt_saves_what_there_is() {
    let lab = Lab::new();
    lab.pipeline("long", "[{kernel: debian-6.1, expect: pass}]", WRITER, 600);
    let child = start(&lab, "long", "out");
    let asked = Instant::now();
    kill(child.id().try_into().unwrap(), rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    exits(&output, 130);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let report = lab.report("out");
    assert_eq!(report["complete"], false);
    assert_eq!(result(&report, 0, 0)["fault"], "user", "{report:#}");
    assert!(fs::metadata(lab.path("out/trials/debian-6.1.1/console.log")).unwrap().size() > 1000);
    lab.nothing_is_left();
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn nothing_outlives_a_program_that_is_killed() {
    let lab = Lab::new();
    lab.pipeline("long", "[{kernel: debian-6.1, expect: pass}]", WRITER, 600);
    let mut child = start(&lab, "long", "out");
    assert!(!lab.processes().is_empty());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    wait_for("QEMU to die with its parent", Duration::from_secs(5), || lab.processes().is_empty());
    // The folder is still there; the next start removes it and says so.
    assert_eq!(fs::read_dir(lab.path("scratch")).unwrap().count(), 1);
    let output = lab.run(&["build", "debian-6.1"]);
    exits(&output, 0);
    assert!(said(&output).contains("left by a hangproof that was cut short"), "{}", said(&output));
    lab.nothing_is_left();
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn two_runs_at_once_do_not_meet() {
    let lab = Lab::new();
    lab.pipeline("short", "[{kernel: debian-6.1, expect: pass}]", WRITER, 8);
    let children: Vec<Child> = ["a", "b"].map(|out| lab.command(&["run", "short", "--out", out]).spawn().unwrap()).into();
    for child in children {
        exits(&child.wait_with_output().unwrap(), 0);
    }
    lab.nothing_is_left();
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_flooded_console_is_bounded_and_hurts_nobody() {
    let lab = Lab::new();
    let flood = WRITER.replacen('\n', "\nyes 'a line that says nothing, again and again' > /dev/ttyS0 &\n", 1) + "kill $!\n";
    lab.pipeline("flood", "[{kernel: debian-6.1, expect: pass}]", &flood, 8);
    let output = lab.run(&["run", "flood", "--out", "out"]);
    exits(&output, 0);
    let console = fs::metadata(lab.path("out/trials/debian-6.1.1/console.log")).unwrap().size();
    assert!((20_000..32 << 20).contains(&console), "{console}");
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_full_disk_of_the_host_is_told_from_a_hang() {
    let lab = Lab::new();
    let fill = "#!/bin/sh\ndd if=/dev/urandom of=big bs=1M count=300\nsync\nsleep 1000\n";
    lab.pipeline("fill", "[{kernel: debian-6.1, expect: pass}]", fill, 60);
    // A small filesystem for the overlays, in a mount namespace of the test's own: no root needed, nothing to unmount.
    let script = "mount -t tmpfs -o size=64m none \"$HANGPROOF_SCRATCH\" && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_hangproof")])
        .args(["run", "fill", "--out", "out"])
        .current_dir(lab.folder.path())
        .env("HANGPROOF_SCRATCH", lab.path("scratch"))
        .output()
        .unwrap();
    exits(&output, 4);
    let report = lab.report("out");
    assert_eq!(result(&report, 0, 0)["fault"], "host", "{report:#}");
    assert!(result(&report, 0, 0)["reason"].as_str().unwrap().contains("No space left"), "{report:#}");
    lab.nothing_is_left();
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_shell_runs_a_command_and_a_taken_port_is_named() {
    let lab = Lab::new();
    let output = lab.run(&["shell", "debian-6.1", "--", "sh", "-c", "uname -r; grep -w / /proc/mounts"]);
    exits(&output, 0);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("6.1.") && text.contains("/dev/md127 / ext4"), "{text}");
    let plain = lab.run(&["shell", "debian-6.1", "--image", "ext4-plain", "--", "grep", "-w", "/", "/proc/mounts"]);
    exits(&plain, 0);
    assert!(said(&plain).contains("/dev/vda / ext4"), "{}", said(&plain));
    exits(&lab.run(&["shell", "debian-6.1", "--", "false"]), 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = lab.run(&["shell", "debian-6.1", "--ssh-port", &port, "--", "true"]);
    exits(&output, 4);
    assert!(said(&output).contains(&port), "{}", said(&output));
}

#[test]
#[ignore = "boots VMs; scripts/test runs it"]
fn a_distributions_own_kernel_boots_with_its_own_modules() {
    let lab = Lab::new();
    lab.pipeline("stock", "[{kernel: debian-6.1-cloud, expect: pass}]", WRITER, 5);
    let output = lab.run(&["run", "stock", "--out", "out"]);
    exits(&output, 0);
    let report = lab.report("out");
    assert_eq!(verdicts(&report), ["debian-6.1-cloud: pass"], "{}", said(&output));
    let build = &report["kernels"][0]["build"];
    assert_eq!((&build["toolchain"], &build["source"]["kind"]), (&Value::Null, &Value::from("prebuilt")), "{build:#}");
    assert!(build["modules"].as_array().unwrap().contains(&Value::from("raid1")), "{build:#}");
    let evidence: Value = serde_json::from_slice(&fs::read(lab.path("out/trials/debian-6.1-cloud.1/evidence.json")).unwrap()).unwrap();
    assert!(evidence["boot"]["kernel"].as_str().unwrap().contains("-cloud-amd64"), "{:#}", evidence["boot"]);
    assert!(evidence["boot"]["root"].as_str().unwrap().contains("ext4 on /dev/md127"), "{:#}", evidence["boot"]);

    // The same package with a module of another kernel: this one refuses it, and the agent says which.
    let package = build["source"]["package"].as_str().unwrap();
    let run = |command: &mut Command| assert!(command.current_dir(lab.folder.path()).stdout(Stdio::null()).status().unwrap().success());
    let version = build["source"]["version"].as_str().unwrap();
    run(Command::new("apt-get").args(["download", "--quiet", "--quiet", &format!("{package}={version}")]));
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let deb = fs::read_dir(lab.folder.path()).unwrap().flatten().map(name).find(|name| name.ends_with(".deb")).unwrap();
    run(Command::new("dpkg-deb").args(["--raw-extract", &deb, "broken"]));
    let release = package.strip_prefix("linux-image-").unwrap();
    let module = lab.path("broken").join("lib/modules").join(release).join("kernel/drivers/md/raid1.ko");
    let mut content = fs::read(&module).unwrap();
    let magic = content.windows(10).position(|bytes| bytes == b"vermagic=6").unwrap();
    content[magic + 9] = b'9';
    fs::write(&module, content).unwrap();
    run(Command::new("dpkg-deb").args(["-Znone", "--build", "broken", "broken.deb"]));
    let output = lab.run(&["run", "stock", "--out", "out2", "--source", "debian-6.1-cloud=broken.deb"]);
    exits(&output, 1);
    let report = lab.report("out2");
    assert_eq!(verdicts(&report), ["debian-6.1-cloud: boot-failure"], "{}", said(&output));
    let expected = "the agent's step Modules failed: load module /hangproof/modules/raid1.ko: Key was rejected by service (os error 129)";
    assert_eq!(result(&report, 0, 0)["reason"], expected);
}

#[test]
fn trouble_before_the_first_boot_says_what_to_do() {
    let lab = Lab::new();
    let missing = lab.command(&["run", "ext4-oom", "--out", "out"]).env("HANGPROOF_QEMU", "/no/qemu").output().unwrap();
    exits(&missing, 4);
    assert!(said(&missing).contains("HANGPROOF_QEMU names /no/qemu"), "{}", said(&missing));
    let tools = lab.path("tools");
    fs::create_dir(&tools).unwrap();
    let missing = lab.command(&["run", "ext4-oom", "--out", "out2"]).env("PATH", &tools).output().unwrap();
    exits(&missing, 4);
    assert!(said(&missing).contains("apt-get install qemu-system-x86"), "{}", said(&missing));
    for (arguments, part) in [
        (&["run", "ext4-omo"][..], "pipeline ext4-omo is not defined: did you mean `ext4-oom`?"),
        (&["build", "debian-6.2"], "kernel debian-6.2 is not defined: did you mean `debian-6.1`?"),
        (&["run", "ext4-oom", "--set", "colour=red"], "colour"),
        (&["run", "ext4-oom", "--source", "debian-6.1=/no/such/tree"], "/no/such/tree"),
        (&["run", "ext4-oom", "--repeats", "0"], "0"),
        (&["rescore", "nowhere"], "nowhere/report.json"),
    ] {
        let output = lab.run(arguments);
        assert_ne!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains(part), "{}", said(&output));
    }
    let pipeline = lab.path("pipelines/ext4-oom/pipeline.yaml");
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(&pipeline, text.replace("  c: ext4-oom.c\n", "  c: ext4-oom.c\n  adds: [/no/such/tool]\n")).unwrap();
    let output = lab.run(&["run", "ext4-oom", "--out", "out3"]);
    exits(&output, 2);
    assert!(
        said(&output).contains("pipelines/ext4-oom/pipeline.yaml:13:10: `/no/such/tool` is not on this machine; "),
        "{}",
        said(&output)
    );
    assert!(!lab.path("out3").exists());
    fs::write(&pipeline, text).unwrap();
    let bad = lab.path("kernels/bad.yaml");
    fs::write(&bad, "name: bad\ndescription: x\nextends: debian-6.1\npatches: [none.patch]\ncolour: red\n").unwrap();
    let output = lab.run(&["list"]);
    exits(&output, 2);
    assert!(said(&output).contains("kernels/bad.yaml:4:") && said(&output).contains("kernels/bad.yaml:5:"), "{}", said(&output));
}
