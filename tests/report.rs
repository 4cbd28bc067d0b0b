//! Reports of real evidence: the folder of a run made of `tests/evidence`, and every form of report of it.
//!
//! `tests/report/run.json` is the report of a real run of these kernels without its trials, which come from the evidence.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hangproof::evidence::{At, Evidence};
use hangproof::exit::Exit;
use hangproof::oracle::{Fault, Observation, Witness, observe};
use hangproof::plan::{Cell, TrialId};
use hangproof::report::{
    Case, KernelReport, NotBuilt, Private, ProofArm, ProofSummary, Redactor, Report, TrialReport, bugzilla, bundle, html, json, junit,
    load_trial, markdown, save_inputs, save_pipeline, save_trial, scoreboard, trial_folder,
};
use hangproof::reporting::{Format, Saved};
use hangproof::rescore::{RULES, rescore};
use hangproof::stats::anytime::sequence;
use hangproof::stats::interval;
use sha2::{Digest as _, Sha256};

const CONFIG: &str = "CONFIG_EXT4_FS=y\n";

const LOST: &str = "debian-6.1-el7mm-nofail-lost";

/// The trials: evidence, kernel, repeat.
const TRIALS: [(&str, &str, u32); 4] =
    [("pass-4x2", "debian-6.1", 1), ("recovers-4x8", "debian-6.1-el7mm", 1), ("hang-4x2", LOST, 1), ("hang-4x8", LOST, 2)];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A run's folder as `run` leaves it. `change` may spoil the evidence of each trial first.
fn run_folder(change: impl Fn(&mut Evidence)) -> tempfile::TempDir {
    let run = tempfile::tempdir().unwrap();
    let mut report: Report = serde_json::from_slice(&fs::read(repository().join("tests/report/run.json")).unwrap()).unwrap();
    let mut results: BTreeMap<&str, Vec<TrialReport>> = BTreeMap::new();
    for (name, kernel, repeat) in TRIALS {
        let evidence = evidence(run.path(), name, kernel, repeat, &change);
        let trial = evidence.trial.clone();
        let seconds = evidence.end.as_ref().unwrap().0.0 as f64 / 1000.0;
        let evidence = TrialReport {
            observation: observe(&evidence),
            evidence: trial_folder(&trial).join("evidence.json"),
            trial,
            seconds,
            repeated: false,
            calibrates: false,
        };
        results.entry(kernel).or_default().push(evidence);
    }
    for kernel in &mut report.kernels {
        let results = results.remove(kernel.name.as_str()).unwrap();
        let mut manifest = kernel.build.clone().unwrap();
        manifest.configuration.config_blake3 = blake3::hash(CONFIG.as_bytes()).to_hex().to_string();
        *kernel = KernelReport::new(kernel.cell(), results, Ok(manifest));
        let build = kernel.build.as_ref().unwrap();
        let folder = run.path().join("kernels").join(kernel.name.as_str());
        fs::create_dir_all(folder.join("patches")).unwrap();
        fs::write(folder.join("config"), CONFIG).unwrap();
        fs::write(folder.join("SHA256SUMS"), format!("{:064x}  bzImage\n{:x}  config\n", 0xb2, Sha256::digest(CONFIG))).unwrap();
        for (index, patch) in build.patches.iter().enumerate() {
            let name = patch.path.file_name().unwrap().to_str().unwrap();
            let content = fs::read(repository().join(&patch.path)).unwrap();
            fs::write(folder.join("patches").join(format!("{:02}-{name}", index + 1)), content).unwrap();
        }
    }
    (report.complete, report.rules) = (true, RULES);
    let source = repository().join("pipelines/ext4-oom/ext4-oom.c");
    let kept = save_pipeline(run.path(), &repository().join("pipelines/ext4-oom/pipeline.yaml"), &source).unwrap();
    (report.reproducer_source, report.reproducer_sha256) = (kept, format!("{:x}", Sha256::digest(fs::read(source).unwrap())));
    // As the evidence was judged.
    (report.limits.duration, report.trigger.oom_kills) = (Duration::from_secs(40), 2);
    report.save(run.path()).unwrap();
    run
}

/// Unpacks a saved trial into the run's folder as another repeat.
fn evidence(run: &Path, name: &str, kernel: &str, repeat: u32, change: &impl Fn(&mut Evidence)) -> Evidence {
    let trial = TrialId { kernel: kernel.parse().unwrap(), mitigation: None, repeat, attempt: 1 };
    let folder = run.join(trial_folder(&trial));
    fs::create_dir_all(&folder).unwrap();
    for file in ["evidence.json", "console.log"] {
        let packed = fs::read(repository().join("tests/evidence").join(name).join(format!("{file}.zst"))).unwrap();
        fs::write(folder.join(file), zstd::decode_all(&*packed).unwrap()).unwrap();
    }
    let path = folder.join("evidence.json");
    let mut saved: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    saved["trial"] = serde_json::to_value(&trial).unwrap();
    fs::write(&path, serde_json::to_vec(&saved).unwrap()).unwrap();
    let mut evidence = load_trial(run, &trial).unwrap();
    change(&mut evidence);
    save_trial(run, &evidence).unwrap();
    fs::write(folder.join("events.jsonl"), "{\"event\":\"trial-started\"}\n").unwrap();
    evidence
}

fn case() -> (tempfile::TempDir, Case) {
    let run = run_folder(|_| ());
    let case = Case::load(run.path()).unwrap();
    assert_eq!(case.damaged, []);
    (run, case)
}

fn proof() -> ProofSummary {
    let arm = |name: &str, role: &str, hits, trials, bound, test| {
        let (name, role) = (name.to_owned(), role.to_owned());
        let (rate, anytime) = (interval(hits, trials, 0.95), sequence(hits, trials, 0.95));
        ProofArm { name, role, rate, anytime, bound, test }
    };
    ProofSummary {
        answer: "fixed".to_owned(),
        reason: "59 passes in a row, the baseline hung in 4 of 5 trials".to_owned(),
        method: "Wald's sequential test".to_owned(),
        confidence: 0.95,
        arms: vec![
            arm("baseline-k", "baseline", 4, 5, None, Some((31.25, 20.0))),
            arm("candidate-k", "candidate", 0, 59, Some(0.0495), Some((20.6, 20.0))),
        ],
    }
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("report");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_tracker_gets_wrapped_text_with_the_kernels_first() {
    let text = bugzilla(&case().1);
    assert!(text.starts_with("Source: linux-source-6.1 6.1.192-2\n"), "{text}");
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 76).collect();
    assert!(long.is_empty(), "{long:#?}");
    snapshot("bugzilla", &text);
}

#[test]
fn the_scoreboard_is_read_on_a_narrow_terminal_too() {
    let (_run, case) = case();
    for width in [80, 120] {
        let text = scoreboard(&case.report, Some(width), false);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
        snapshot(&format!("scoreboard-{width}"), &text);
    }
}

#[test]
fn what_was_seen_is_the_trial_that_the_verdict_rests_on() {
    let (_run, case) = case();
    let kernel = &case.report.kernels[0];
    let pass = kernel.results[0].observation.clone();
    let crash = |title: &str| Observation::Crash { title: title.to_owned(), at: At(9000) };
    let boot = || Observation::BootFailure { reason: "no root".to_owned(), at: At(9000) };
    let invalid = |reason: &str| Observation::Invalid { fault: Fault::Host, reason: reason.to_owned() };
    let seen = |observations: Vec<Observation>| {
        let results = observations.into_iter().zip(1..).map(|(observation, repeat)| TrialReport {
            observation,
            trial: TrialId { repeat, ..kernel.results[0].trial.clone() },
            ..kernel.results[0].clone()
        });
        let judged = KernelReport::new(kernel.cell(), results.collect(), Ok(kernel.build.clone().unwrap()));
        let board = scoreboard(&Report { kernels: vec![judged], ..case.report.clone() }, Some(400), false);
        board.lines().nth(3).unwrap().rsplit("   ").next().unwrap().trim().to_owned()
    };
    // The later ones don't change the verdict any more.
    assert_eq!(seen(vec![pass.clone(), crash("first"), pass.clone(), crash("second")]), "trial 2: first (at 9.000 s)");
    assert_eq!(seen(vec![crash("first"), crash("second")]), "first (at 9.000 s)");
    assert_eq!(seen(vec![pass.clone(), pass.clone()]), pass.detail());
    // One boot of two is no verdict, and not for want of trials.
    assert_eq!(seen(vec![pass.clone(), boot()]), "boot-failure in 1 of 2 trials: no root");
    assert_eq!(seen(vec![invalid("disk full"), pass.clone(), invalid("later")]), "host: disk full");
}

#[test]
fn markdown_and_junit() {
    let (_run, case) = case();
    snapshot("markdown", &markdown(&case));
    snapshot("junit", &junit(&case).unwrap());
}

#[test]
fn a_contrary_verdict_is_a_failure_and_our_trouble_an_error() {
    let (_run, mut case) = case();
    let lost = case.report.kernels.iter_mut().find(|kernel| kernel.name.as_str() == LOST).unwrap();
    lost.expected = Some(hangproof::spec::Expected::Pass);
    let trial = TrialId { kernel: lost.name.clone(), mitigation: None, repeat: 3, attempt: 1 };
    let ours = |trial: TrialId, repeated| TrialReport {
        observation: Observation::Invalid { fault: hangproof::oracle::Fault::Qemu, reason: "QEMU was killed by signal 9".to_owned() },
        seconds: 1.0,
        evidence: trial_folder(&trial).join("evidence.json"),
        trial,
        repeated,
        calibrates: false,
    };
    lost.results.extend([ours(trial.clone(), true), ours(trial.retried(), false)]);
    let text = junit(&case).unwrap();
    // The verdict and both trials that hung; the trial that is ours, which was tried twice.
    assert_eq!(
        (text.matches("<failure").count(), text.matches("<error").count(), text.matches("<rerunError").count()),
        (3, 1, 1),
        "{text}"
    );
}

#[test]
fn a_proof_is_shown_in_every_report() {
    let (_run, mut case) = case();
    case.proof = Some(proof());
    for text in [bugzilla(&case), markdown(&case), html(&case).unwrap()] {
        assert!(text.contains("candidate-k") && text.contains("59 passes in a row"), "{text}");
        assert!(text.contains("Wald's") || text.contains("Wald&#39;s"), "{text}");
        assert!(text.contains("0.050"), "{text}");
    }
}

/// Names and lines of a guest that mean something in HTML.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

#[test]
fn a_guests_words_are_text_in_the_page() {
    let run = run_folder(|evidence| {
        evidence.boot.kernel = Some(format!("Linux version {HOSTILE}"));
        evidence.boot.root = Some(HOSTILE.to_owned());
        for group in &mut evidence.counters {
            group.path = HOSTILE.to_owned();
        }
        for (_, look) in &mut evidence.looks {
            look.log = look.log.replace("task:ext4-oom ", &format!("task:{HOSTILE} "));
            look.running.iter_mut().for_each(|task| task.comm = HOSTILE.to_owned());
            look.dying.iter_mut().for_each(|task| task.comm = HOSTILE.to_owned());
        }
    });
    let mut case = Case::load(run.path()).unwrap();
    // What the report itself holds of a guest: a crash's title.
    case.report.kernels[0].results[0].observation = Observation::Crash { title: HOSTILE.to_owned(), at: hangproof::evidence::At(9000) };
    let page = html(&case).unwrap();
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"), "it is shown");
    assert!(page.matches("alert(1)").count() > 10, "{}", page.matches("alert(1)").count());
    for tag in ["<script", "<img", "onerror=alert(2)>\"", "\"'>"] {
        assert!(!page.contains(tag), "{tag}");
    }
}

#[test]
fn the_page_needs_nothing_else_and_shows_the_hang() {
    let (run, case) = case();
    let page = html(&case).unwrap();
    for word in ["http://", "https://", "@import", "url(", "<script", "src="] {
        assert!(!page.contains(word), "{word}");
    }
    let Observation::Hang(hang) = &case.report.kernels[2].results[0].observation else { panic!() };
    assert!(matches!(hang.witness, Witness::ClosedWait(_)));
    assert!(page.contains("last progress at") && page.contains("jbd2_journal_commit_transaction") && page.contains("84 OOM kills"));
    assert_eq!(page.matches("<polyline class=\"ops\"").count(), 4);
    // As many squares beside each other as a kernel has trials.
    assert_eq!([1, 2].map(|trials| page.matches(&format!("style=\"--dots: {trials}\"")).count()), [2, 1]);
    for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).filter(|link| !link.starts_with('#')) {
        assert!(run.path().join(link).is_file(), "{link}");
    }
}

/// The files of a bundle, by their path below its folder.
fn unpacked(bundle: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(bundle).unwrap()).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().split_once('/').unwrap().1.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    files
}

#[test]
fn a_bundle_holds_everything_and_nothing_private() {
    let private = Private {
        host: "forge7.acme.example".to_owned(),
        user: "alice".to_owned(),
        folders: [("/home/alice", "~"), ("/home/alice/.cache/hangproof", "cache"), ("/srv/acme/hangproof", "definitions")]
            .map(|(path, word)| (path.to_owned(), word.to_owned()))
            .to_vec(),
    };
    let said = "cc1: /home/alice/.cache/hangproof/work/x: on forge7 by alice\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----";
    let run = run_folder(|evidence| {
        evidence.output.push(said.to_owned());
        evidence.console[3].text = "forge7 login: alice".to_owned();
        evidence.looks.iter_mut().for_each(|(_, look)| look.log.push_str("\nalice at forge7.acme.example"));
    });
    let event = serde_json::json!({"event": "build-failed", "error": said}).to_string();
    fs::write(run.path().join("trials/debian-6.1.1/events.jsonl"), event + "\n").unwrap();
    fs::write(run.path().join("id_ed25519"), said).unwrap();
    let log = run.path().join("trials/debian-6.1-el7mm.1/events.jsonl");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", log).unwrap();
    let case = Case::load(run.path()).unwrap();
    let place = run.path().join("out.tar.zst");
    bundle(run.path(), &case, &Redactor::new(&private), &place).unwrap();
    let files = unpacked(&place);
    for (name, text) in &files {
        for word in ["forge7", "alice", "/home/", "PRIVATE KEY", ".cache/hangproof", "/srv/acme", "root:x:0"] {
            assert!(!text.contains(word) && !name.contains(word), "{name}: {word}");
        }
    }
    let has = |name: &str| files.contains_key(name);
    for name in ["README", "report.html", "report.json", "report.txt", "report.md", "report.xml", "SHA256SUMS"] {
        assert!(has(name), "{name}");
    }
    let kernel = format!("kernels/{LOST}");
    for name in ["config", "patches/01-el7-memcg-oom.patch", "patches/02-nofail-lost.patch", "SHA256SUMS", "provenance.json"] {
        assert!(has(&format!("{kernel}/{name}")), "{name}: {:?}", files.keys());
    }
    for name in ["console.log", "evidence.json", "stacks.txt"] {
        assert!(has(&format!("trials/{LOST}.1/{name}")), "{name}");
    }
    assert!(!has("id_ed25519") && !has("trials/debian-6.1-el7mm.1/events.jsonl"));
    for line in files["SHA256SUMS"].lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        assert_eq!(digest, format!("{:x}", Sha256::digest(&files[name])), "{name}");
    }
    assert_eq!(files["SHA256SUMS"].lines().count(), files.len() - 1);
    snapshot("provenance", &files[&format!("{kernel}/provenance.json")]);

    // The unpacked bundle is a run's folder: the same observations come out of it.
    let again = tempfile::tempdir().unwrap();
    for (name, text) in &files {
        let path = again.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let report = Report::load(again.path()).unwrap();
    let rescored = rescore(again.path(), &report);
    assert_eq!((rescored.trials, rescored.changes, rescored.damaged), (4, Vec::new(), Vec::new()));

    let second = run.path().join("second.tar.zst");
    bundle(run.path(), &case, &Redactor::new(&private), &second).unwrap();
    assert!(fs::read(&place).unwrap() == fs::read(&second).unwrap(), "the same run gives the same bytes");
}

#[test]
fn this_machines_own_words_are_not_in_a_bundle() {
    let home = std::env::var("HOME").unwrap_or_default();
    let private = Private::here(&[(Path::new(&home).join(".cache/hangproof").as_path(), "cache")]);
    let host = private.host.clone();
    let run = run_folder(|evidence| {
        evidence.output.push(format!("{home}/.cache/hangproof/builds on {host} for {}", private.user));
    });
    let place = run.path().join("out.tar.zst");
    let case = Case::load(run.path()).unwrap();
    bundle(run.path(), &case, &Redactor::new(&private), &place).unwrap();
    let word_in = |text: &str, word: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word);
    for (name, text) in unpacked(&place) {
        assert!(home.len() < 2 || !text.contains(&format!("{home}/")), "{name}: {home}");
        assert!(!text.contains(".cache/hangproof") && !text.contains("PRIVATE KEY"), "{name}");
        for word in [&private.user, &private.host].into_iter().filter(|word| hangproof::report::tells(word)) {
            assert!(!word_in(&text, word), "{name}: {word}");
        }
    }
}

#[test]
fn evidence_that_cant_be_read_is_named_and_left_out() {
    let run = run_folder(|_| ());
    fs::write(run.path().join(format!("trials/{LOST}.1/evidence.json")), "{").unwrap();
    let case = Case::load(run.path()).unwrap();
    assert_eq!(case.damaged.len(), 1);
    for text in [bugzilla(&case), markdown(&case), html(&case).unwrap(), junit(&case).unwrap(), json(&case).unwrap()] {
        // Markdown quotes the name's punctuation.
        assert!(text.contains("evidence.json: EOF"), "{text}");
    }
    let page = html(&case).unwrap();
    let trial = page.split(&format!("id=\"{LOST}.1\"")).nth(1).unwrap().split("</section>").next().unwrap();
    assert!(trial.contains("missing or damaged: "), "{trial}");
    let data: serde_json::Value = serde_json::from_str(&json(&case).unwrap()).unwrap();
    let [whole, damaged] = ["/kernels/2/results/1/damaged", "/kernels/2/results/0/damaged/0"].map(|at| data.pointer(at));
    assert!(whole.is_none() && damaged.unwrap().as_str().unwrap().contains("evidence.json: EOF"), "{data:#}");
    assert!(junit(&case).unwrap().contains("missing or damaged: "));
    assert_eq!(html(&case).unwrap().matches("<polyline class=\"ops\"").count(), 3);
    // That of another trial says nothing of this one.
    fs::copy(run.path().join("trials/debian-6.1.1/evidence.json"), run.path().join(format!("trials/{LOST}.1/evidence.json"))).unwrap();
    let case = Case::load(run.path()).unwrap();
    assert!(
        case.damaged.len() == 1 && case.damaged[0].what.ends_with("it is the evidence of debian-6.1.1, another trial"),
        "{:?}",
        case.damaged
    );
}

#[test]
fn what_a_bundle_lacks_is_named() {
    let run = run_folder(|_| ());
    let kernels = run.path().join("kernels");
    let at = |name: &str| kernels.join(LOST).join(name);
    fs::write(at("config"), "").unwrap();
    fs::remove_file(at("patches/01-el7-memcg-oom.patch")).unwrap();
    let elsewhere = run.path().join("elsewhere.patch");
    fs::rename(at("patches/02-nofail-lost.patch"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, at("patches/02-nofail-lost.patch")).unwrap();
    fs::write(at("SHA256SUMS"), "").unwrap();
    fs::write(kernels.join("debian-6.1/SHA256SUMS"), format!("{:064x}  config\nnonsense\n", 0xb2)).unwrap();
    fs::remove_file(run.path().join(format!("trials/{LOST}.1/events.jsonl"))).unwrap();
    fs::write(run.path().join(format!("trials/{LOST}.2/events.jsonl")), "").unwrap();
    let case = Case::load(run.path()).unwrap();
    let place = run.path().join("out.tar.zst");
    let redactor = Redactor::new(&Private { folders: vec![(run.path().display().to_string(), "run".to_owned())], ..Private::default() });
    let left_out = bundle(run.path(), &case, &redactor, &place).unwrap();
    let told: Vec<String> = case.damaged.iter().chain(&left_out).map(|damage| redactor.text(&damage.to_string())).collect();
    snapshot("left-out", &told.join("\n"));
    let files = unpacked(&place);
    for damage in told.iter().map(|damage| damage.split_once(": ").unwrap().1) {
        assert!(files["report.json"].contains(damage), "{damage}");
    }
    assert_eq!(files["report.txt"].matches("MISSING OR DAMAGED").count(), 1);
    let kept: Vec<&str> = files.keys().filter(|name| name.starts_with("kernels/")).map(String::as_str).collect();
    snapshot("kept", &kept.join("\n"));
}

#[test]
fn bytes_that_are_no_text_stay_in_a_bundle() {
    let run = run_folder(|_| ());
    let config = run.path().join("kernels/debian-6.1/config");
    let packed = |content: &[u8]| {
        fs::write(&config, content).unwrap();
        fs::write(config.with_file_name("SHA256SUMS"), format!("{:x}  config\n", Sha256::digest(content))).unwrap();
        let mut report = Report::load(run.path()).unwrap();
        report.kernels[0].build.as_mut().unwrap().configuration.config_blake3 = blake3::hash(content).to_hex().to_string();
        report.save(run.path()).unwrap();
        let redactor = Redactor::new(&Private { user: "alice".to_owned(), ..Private::default() });
        let place = run.path().join("out.tar.zst");
        let left_out = bundle(run.path(), &Case::load(run.path()).unwrap(), &redactor, &place).unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(place).unwrap()).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries.find(|entry| entry.path().unwrap().ends_with("kernels/debian-6.1/config")).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (bytes, left_out.iter().map(ToString::to_string).collect::<String>())
    };
    assert_eq!(packed(b"# J\xfcrgen\n"), (b"# J\xfcrgen\n".to_vec(), String::new()));
    let (bytes, told) = packed(b"# J\xfcrgen and alice\n");
    assert_eq!(String::from_utf8(bytes).unwrap(), "# J\u{fffd}rgen and user\n");
    assert!(told.ends_with("config: its bytes that aren't UTF-8, for it has private words, too"), "{told}");
}

#[test]
fn the_reproducer_goes_along_if_it_is_the_runs() {
    let run = run_folder(|_| ());
    let place = run.path().join("bundle.tar.zst");
    let packed = || {
        let mut saved = Saved::open(run.path()).unwrap();
        saved.bundle(&place).unwrap();
        (unpacked(&place), saved.damaged().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let (files, told) = packed();
    assert!(files["pipeline/ext4-oom.c"].contains("int main(") && files["pipeline/pipeline.yaml"].starts_with("name: ext4-oom"), "{told}");
    assert_eq!(told, "");
    let kept = run.path().join("pipeline/ext4-oom.c");
    fs::write(&kept, "int main(void) { return 0; }\n").unwrap();
    let (files, told) = packed();
    assert!(!files.contains_key("pipeline/ext4-oom.c") && told.ends_with("pipeline/ext4-oom.c: it isn't what the run used"), "{told}");
    assert!(
        files["report.txt"].contains("isn't what the run")
            && files["report.xml"].contains("missing or damaged: ")
            && told.starts_with("the reproducer: ")
    );
    let mut report = Report::load(run.path()).unwrap();
    for elsewhere in ["/etc/passwd", "pipeline/../../x", "trials/debian-6.1.1/console.log", "pipeline"] {
        report.reproducer_source = Some(elsewhere.into());
        report.save(run.path()).unwrap();
        let (files, told) = packed();
        assert!(
            told.contains("the run keeps none there") && !files.keys().any(|name| name.starts_with("pipeline/")),
            "{elsewhere}: {told}"
        );
    }
}

#[test]
fn a_report_that_was_edited_is_told_from_its_evidence() {
    let run = run_folder(|_| ());
    let saved = Report::load(run.path()).unwrap();
    let ended = |report: &Report, words: &[&str]| {
        report.save(run.path()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hangproof"));
        let output = command.args(words).arg(run.path()).env("HANGPROOF_CACHE", run.path().join("cache")).output().unwrap();
        let [out, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), out, said.replace(&run.path().display().to_string(), "RUN"))
    };
    assert_eq!(ended(&saved, &["rescore"]).0, saved.exit() as i32);
    assert_eq!(ended(&saved, &["report", "--format", "md"]).2, "");

    let mut edited = saved.clone();
    edited.kernels[2].results[0].observation = saved.kernels[0].results[0].observation.clone();
    edited.kernels[2].verdict = saved.kernels[0].verdict;
    let (code, out, said) = ended(&edited, &["rescore"]);
    assert!(out.contains(&format!("{LOST}.1: was pass")) && out.contains(&format!("{LOST}: the verdict was pass, is hang")), "{out}");
    let told = "error: RUN/report.json says otherwise than the evidence beside it, in 2 places: one of them was edited: \
                bring back the run's folder as it was written\n";
    assert_eq!((code, said.as_str()), (2, told));
    // Every form says it, the bundle's too.
    let (code, _, said) = ended(&edited, &["report", "--format", "md"]);
    assert!(code == 2 && said.starts_with("error: RUN/report.json says otherwise than the evidence beside it"), "{code} {said}");
    let mut open = Saved::open(run.path()).unwrap();
    for (form, mark) in [
        (Format::Md, "## Not what the evidence says"),
        (Format::Bugzilla, "NOT WHAT THE EVIDENCE SAYS"),
        (Format::Html, "<h2>Not what the evidence says</h2>"),
        (Format::Json, "\"contradictions\": ["),
        (Format::Junit, "type=\"not-the-evidence\""),
    ] {
        let text = open.render(form).unwrap();
        assert!(text.contains(mark) && text.contains(&format!("{LOST}: the verdict was pass, is hang")), "{form:?}: {text}");
    }
    let place = run.path().join("bundle.tar.zst");
    open.bundle(&place).unwrap();
    assert!(unpacked(&place)["report.txt"].contains("NOT WHAT THE EVIDENCE SAYS"));

    // Other rules may judge otherwise, and that is no mistake: neither an edit.
    let other = Report { rules: RULES - 1, ..edited.clone() };
    let (code, out, said) = ended(&other, &["rescore"]);
    assert!(out.ends_with(&format!("hangproof 0.1.0 judged by rules {}, this is 0.1.0 with rules {RULES}\n", RULES - 1)), "{out}");
    assert_eq!((code, said.as_str()), (saved.exit() as i32, ""));
    let (_, out, said) = ended(&other, &["report", "--format", "md"]);
    let untold =
        format!("Nobody compared this report with its evidence: it was judged by rules {}, and these are rules {RULES}", RULES - 1);
    assert!(said.contains(&untold) && out.contains(&untold.replace('`', "")) && !out.contains("Not what the evidence says"), "{said}{out}");
    let open = Saved::open(run.path()).unwrap();
    let [page, text, data, xml] = [Format::Html, Format::Bugzilla, Format::Json, Format::Junit].map(|form| open.render(form).unwrap());
    assert!(page.contains(&untold) && text.contains("Nobody compared this report") && data.contains("\"not-compared\": "), "{text}{data}");
    assert!(xml.contains("<skipped message=\"it was judged by rules "), "{xml}");

    // Rules that weren't those of the trials, a trial that the report doesn't have, and rules that are newer than this program's.
    type Edit = fn(&mut Report);
    let edits: [(Edit, &str); 4] = [
        (|report| report.limits.duration = Duration::from_secs(600), "it was judged by a duration that isn't the report's"),
        (|report| report.limits.silence = Duration::from_secs(30), "it was judged by a silence that isn't the report's"),
        (|report| report.trigger.oom_kills = 10_000, "it was judged by a trigger that isn't the report's"),
        (|report| drop(report.kernels.remove(0)), "debian-6.1.1: there is such a trial, and the report doesn't have it"),
    ];
    for (edit, told) in edits {
        let mut edited = saved.clone();
        edit(&mut edited);
        edited.save(run.path()).unwrap();
        let changes = rescore(run.path(), &edited).changes;
        assert!(changes.iter().any(|change| change.contains(told)), "{told}: {changes:?}");
    }
    let (code, _, said) = ended(&Report { rules: RULES + 1, ..saved.clone() }, &["rescore"]);
    assert!(code == 2 && said.contains(&format!("was judged by rules {}, this hangproof knows those up to {RULES}", RULES + 1)), "{said}");

    // What is lost contradicts nothing, and hides nothing of what isn't.
    let lost = run.path().join("trials/debian-6.1.1/evidence.json");
    let kept = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let (_, out, said) = ended(&edited, &["report", "--format", "md"]);
    assert!(out.contains(&format!("{LOST}: the verdict was pass, is hang")) && said.contains("debian-6.1.1/evidence.json"), "{said}{out}");
    let (_, out, said) = ended(&saved, &["report", "--format", "junit"]);
    let untold = "the evidence of 1 of 4 trials is missing or damaged";
    assert!(out.contains(&format!("<skipped message=\"{untold}\"")) && said.contains(untold), "{said}{out}");
    fs::write(&lost, kept).unwrap();

    let mut edited = saved.clone();
    edited.kernels[2].hang_rate = saved.kernels[0].hang_rate;
    let (code, out, _) = ended(&edited, &["rescore"]);
    assert!(code == 2 && out.contains(&format!("{LOST}: its counts weren't those of its trials")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_what_went_into_its_kernels() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let tiny = repository().join("tests/tiny-kernel");
    let source = format!("source:\n  directory: {{path: {}}}\ntoolchain:\n  host: {{compiler: gcc}}", tiny.display());
    write("kernels/tiny.config", "CONFIG_NAME=\"tiny\"\n");
    write(
        "kernels/tiny.yaml",
        &format!("name: tiny\ndescription: d\n{source}\nconfiguration:\n  base: allnoconfig\n  fragments: [tiny.config]\n"),
    );
    write("kernels/tiny-fixed.yaml", "name: tiny-fixed\ndescription: d\nextends: tiny\npatches: [one.patch]\n");
    let patch = "Subject: [PATCH] mm: one\n\ncommit 425be5679fd292a3c36cb1fe423086708a99f11a upstream.\n\n--- a/mm/filemap.c\n+++ b/mm/filemap.c\n\
                 @@ -4,5 +4,5 @@\n {\n \tif (page < 0)\n \t\treturn -1;\n-\treturn page + 1;\n+\treturn page + 10;\n }\n";
    write("patches/one.patch", patch);
    fs::create_dir(root.path().join("pipelines")).unwrap();
    let definitions = hangproof::spec::load(root.path()).unwrap();
    let store = hangproof::store::Store::open_at(&root.path().join("store")).unwrap();
    let kernel = &definitions.kernels[&"tiny-fixed".parse().unwrap()];
    let built = hangproof::build::build(&store, &definitions, kernel, &hangproof::event::Events::ignored(), 1).await.unwrap();

    let (run, mut case) = case();
    assert_eq!(save_inputs(run.path(), root.path(), &built).unwrap(), Vec::<String>::new());
    let tested = KernelReport::new(
        Cell { kernel: built.manifest.kernel.clone(), mitigation: None, expected: None },
        Vec::new(),
        Ok(built.manifest.clone()),
    );
    case.report.kernels.push(tested);
    case.report.save(run.path()).unwrap();
    let kept = Case::load(run.path()).unwrap();
    assert_eq!(kept.damaged, []);
    let inputs = kept.inputs(&built.manifest.kernel);
    assert_eq!(inputs.patches[0].commits, ["425be5679fd292a3c36cb1fe423086708a99f11a"]);
    assert_eq!(fs::read_to_string(run.path().join(inputs.patches[0].file.as_ref().unwrap())).unwrap(), patch);
    assert_eq!(fs::read(run.path().join(inputs.config.unwrap())).unwrap(), fs::read(&built.config).unwrap());
    let image = format!("{:x}", Sha256::digest(fs::read(&built.image).unwrap()));
    assert_eq!(inputs.results[0], ("bzImage".to_owned(), image));
    assert_eq!(inputs.results.iter().map(|(name, _)| name).filter(|name| name.contains('/')).count(), 0);
    let sums = fs::read_to_string(run.path().join("kernels/tiny-fixed/SHA256SUMS")).unwrap();
    assert!(sums.ends_with(&format!("{:x}  patches/01-one.patch\n", Sha256::digest(patch))), "{sums}");

    // A patch that was edited since isn't the one that was built with.
    write("patches/one.patch", "something else");
    let other = tempfile::tempdir().unwrap();
    let missing = save_inputs(other.path(), root.path(), &built).unwrap();
    assert_eq!(missing, ["patches/one.patch of tiny-fixed was changed since, and is not in the run's folder"]);
}

/// A cause of ours ends as trouble, so that a nightly job doesn't take it for a kernel without an answer.
#[test]
fn a_kernel_that_the_machine_could_not_build_is_trouble() {
    let (run, case) = case();
    let mut report = case.report;
    report.proof = None;
    let exit = |report: &mut Report, trouble| {
        let kernel = report.kernels.last_mut().unwrap();
        let why = "no network".to_owned();
        *kernel = KernelReport::new(kernel.cell(), Vec::new(), Err(NotBuilt { why, trouble }));
        report.kernels = vec![kernel.clone()];
        report.exit()
    };
    assert_eq!(exit(&mut report, false), Exit::Inconclusive);
    assert_eq!(exit(&mut report, true), Exit::Trouble);
    // It is kept, and judged again by what was kept.
    report.save(run.path()).unwrap();
    let kept = Report::load(run.path()).unwrap();
    assert_eq!(kept.exit(), Exit::Trouble);
    assert!(kept.kernels[0].built().unwrap_err().trouble);
}
