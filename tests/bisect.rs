//! Searches through real git histories: what is refused, how commits are built, and that nothing of the user's is changed.
//!
//! The kernels are tiny and aren't booted; `tests/live.rs` boots real ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/bench.rs"]
mod bench;
#[path = "common/course.rs"]
mod course;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bench::Bench;
use course::{frame, searched};
use hangproof::bisect::{Axis, Commits, Next, Searching, over_commits, over_config, over_kernels, over_patches};
use hangproof::build::{BuildError, Built, Manifest};
use hangproof::event::Events;
use hangproof::evidence::At;
use hangproof::fault::Whose;
use hangproof::oracle::{Fault, Observation};
use hangproof::plan::{Cell, TrialId};
use hangproof::report::{Course, KernelReport, NotBuilt, Point, Report, SearchAnswer, SearchSetup, TrialReport};
use hangproof::source::history::{HistoryError, Repository};
use hangproof::spec::{Configuration, ConfigurationBase, Definitions, Kernel, Modules, Name, Source, Toolchain};

/// A history of the tiny kernel in a repository of its own.
struct History {
    bench: Bench,
    repository: PathBuf,
}

impl History {
    fn new() -> Self {
        let bench = Bench::new();
        let repository = bench.path("linux");
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny-kernel");
        assert!(Command::new("cp").arg("-r").arg(tiny).arg(&repository).status().unwrap().success());
        let history = Self { bench, repository };
        history.git(&["init", "--quiet", "--initial-branch=main"]);
        history.commit("begin");
        history
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.repository).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, title: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", title]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A commit that makes one text of a file another.
    fn change(&self, file: &str, from: &str, to: &str) -> String {
        let path = self.repository.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        self.commit(&format!("{file}: {to}"))
    }

    fn definitions() -> Definitions {
        let name = Name::new("tiny").unwrap();
        let kernel = Kernel {
            name: name.clone(),
            description: String::new(),
            defined_in: PathBuf::from("kernels/tiny.yaml"),
            base: None,
            source: Source::Directory { path: PathBuf::from("/nowhere") },
            toolchain: Toolchain::Host { compiler: "gcc".into() },
            configuration: Configuration { base: ConfigurationBase::Allnoconfig, modules: Modules::Keep, fragments: Vec::new() },
            compatibility: Vec::new(),
            patches: Vec::new(),
            inherited_patches: 0,
            boot_arguments: Vec::new(),
        };
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        Definitions { root, kernels: [(name, kernel)].into(), ..Definitions::default() }
    }

    async fn over(&self, old: &str, new: &str, find_fix: bool) -> (SearchSetup, Axis) {
        let template = Name::new("tiny").unwrap();
        let (setup, commits) = over_commits(&Self::definitions(), &template, &self.repository, [old, new], frame(find_fix)).await.unwrap();
        (setup, Axis::Commits(Box::new(commits)))
    }

    async fn build(&self, axis: &Axis, kernel: &Name) -> Result<Built, BuildError> {
        self.build_with(axis, &Self::definitions(), kernel).await
    }

    async fn build_with(&self, axis: &Axis, definitions: &Definitions, kernel: &Name) -> Result<Built, BuildError> {
        axis.build(&self.bench.store, definitions, kernel, &Events::ignored(), 2).await
    }
}

#[tokio::test]
async fn commits_are_built_in_clones_of_their_neighbours_and_the_repository_stays_as_it_is() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    history.change("mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    // Changes nothing that is compiled.
    history.change("docs/readme", "", "more\n");
    let broken = history.change("fs/ext4.c", "{", "{ this is no C;");
    history.change("fs/ext4.c", "{ this is no C;", "{");
    let last = history.change("init/main.c", "ext4(1)", "ext4(2)");
    let state = || [["for-each-ref"].as_slice(), &["status", "--porcelain"], &["stash", "list"]].map(|words| history.git(words));
    let before = state();
    let (setup, axis) = history.over(&first, &last, false).await;
    assert_eq!((setup.points.len(), setup.good_end.what.clone()), (5, first.clone()));
    let [end, one, two] = [4, 0, 1].map(|position: usize| setup.points[position].kernel.clone());
    let whole = history.build(&axis, &end).await.unwrap();
    assert_eq!((whole.manifest.objects, whole.manifest.base.clone()), (3, None));
    let built = history.build(&axis, &one).await.unwrap();
    // What differs from the last one is one file; the broken line came and went.
    assert_eq!((built.manifest.objects, built.manifest.base.clone()), (1, Some(end)));
    let same = history.build(&axis, &two).await.unwrap();
    assert_eq!((same.manifest.objects, &same.manifest.elf_signature), (0, &built.manifest.elf_signature));
    let error = history.build(&axis, &setup.points[2].kernel).await.unwrap_err();
    assert!(error.fault() == Whose::Source && error.to_string().contains("fs/ext4.c"), "{error}");
    assert_eq!(setup.points[2].what, broken);
    // Another invocation finds all of it again, and builds it on the same commit.
    let (_, again) = history.over(&first, &last, false).await;
    let found = history.build(&again, &one).await.unwrap();
    assert_eq!((found.key, found.manifest.objects), (built.key, 1));
    assert_eq!(state(), before);
    assert_eq!(history.bench.scratch_folders(), 0);
}

#[tokio::test]
async fn a_repository_that_cannot_be_searched_is_refused_with_a_remedy() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    let second = history.change("mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    history.git(&["switch", "--quiet", "--create", "side", &first]);
    history.git(&["rm", "--quiet", "Makefile"]);
    let side = history.commit("no make");
    history.git(&["switch", "--quiet", "main"]);
    let template = Name::new("tiny").unwrap();
    let definitions = History::definitions();
    let mut vendor = definitions.clone();
    vendor.kernels.get_mut(&template).unwrap().configuration.base = ConfigurationBase::Vendor("configs/x86_64.config".into());
    let shallow = history.bench.path("shallow");
    let url = format!("file://{}", history.repository.display());
    assert!(Command::new("git").args(["clone", "--quiet", "--depth=1", &url]).arg(&shallow).status().unwrap().success());
    let mut told = Vec::new();
    let mut tell = async |what: &str, definitions: &Definitions, repository: &Path, ends: [&str; 2], find_fix: bool| {
        let error = over_commits(definitions, &template, repository, ends, frame(find_fix)).await.unwrap_err();
        let text = format!("{error:#}").replace(&history.bench.folder.path().display().to_string(), "DIR");
        told.push(format!("{what}: {text}").replace(&second[..12], "SECOND").replace(&first[..12], "FIRST").replace(&side[..12], "SIDE"));
    };
    let repository = &history.repository;
    tell("swapped", &definitions, repository, [&second, &first], false).await;
    tell("swapped, for a fix", &definitions, repository, [&second, &first], true).await;
    tell("one commit", &definitions, repository, ["main", &second], false).await;
    history.git(&["switch", "--quiet", "--orphan", "orphan"]);
    let orphan = history.commit("from nothing");
    history.git(&["switch", "--quiet", "main"]);
    tell("unrelated", &definitions, repository, ["orphan", "main"], false).await;
    tell("the inside of git", &definitions, &repository.join(".git"), ["main~1", "main"], false).await;
    tell("apart", &definitions, repository, [&second, "side"], false).await;
    tell("unknown", &definitions, repository, ["main~1", "no-such"], false).await;
    tell("an option", &definitions, repository, ["--output=/tmp/x", "main"], false).await;
    tell("a range", &definitions, repository, ["main~1..main", "main"], false).await;
    history.git(&["switch", "--quiet", "--create", "merged", &first]);
    history.commit("beside main");
    history.git(&["merge", "--quiet", "--no-edit", "main"]);
    let merged = history.git(&["rev-parse", "HEAD"]);
    tell("aside", &definitions, repository, [&second, "merged"], false).await;
    history.git(&["switch", "--quiet", "main"]);
    tell("no kernel", &definitions, repository, [&first, "side"], false).await;
    tell("no configuration", &vendor, repository, ["main~1", "main"], false).await;
    tell("shallow", &definitions, &shallow, ["main~1", "main"], false).await;
    tell("no repository", &definitions, history.bench.store.root(), ["a", "b"], false).await;
    tell("nothing", &definitions, Path::new("/no/such"), ["a", "b"], false).await;
    history.git(&["config", "extensions.partialClone", "origin"]);
    tell("partial", &definitions, repository, ["main~1", "main"], false).await;
    history.git(&["config", "--unset", "extensions.partialClone"]);
    fs::write(repository.join("docs/readme"), "changed").unwrap();
    tell("dirty", &definitions, repository, ["main~1", "main"], false).await;
    insta::assert_snapshot!(told.join("\n").replace(&merged[..12], "MERGED").replace(&orphan[..12], "ORPHAN"));
    assert_eq!(fs::read_to_string(repository.join("docs/readme")).unwrap(), "changed");
}

/// What a repository's configuration names is its owner's, who may be anybody.
#[tokio::test]
async fn nothing_that_a_repository_configures_is_run() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    let last = history.change("mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let ran = history.bench.path("ran");
    let script = format!("touch {}; cat", ran.display());
    for what in ["smudge", "clean", "process"] {
        history.git(&["config", &format!("filter.evil.{what}"), &script]);
    }
    history.git(&["config", "filter.evil.required", "true"]);
    history.git(&["config", "core.fsmonitor", &script]);
    fs::create_dir_all(history.repository.join(".git/info")).unwrap();
    fs::write(history.repository.join(".git/info/attributes"), "* filter=evil\n").unwrap();
    // git compares the content of a file that looks touched.
    fs::write(history.repository.join("docs/readme"), fs::read(history.repository.join("docs/readme")).unwrap()).unwrap();
    let (setup, axis) = history.over(&first, &last, false).await;
    let built = history.build(&axis, &setup.points[0].kernel).await.unwrap();
    history.build(&axis, &setup.good_end.kernel).await.unwrap();
    assert_eq!((built.manifest.objects, ran.exists()), (3, false));
}

/// The configuration is a file of the source here, so a commit that changes only it makes another kernel.
#[tokio::test]
async fn a_commit_of_the_configuration_is_configured_anew() {
    let history = History::new();
    fs::write(history.repository.join("vendor.config"), "CONFIG_EXT4=y\n").unwrap();
    let first = history.commit("a configuration");
    let last = history.change("vendor.config", "CONFIG_EXT4=y", "# CONFIG_EXT4 is not set");
    let name = Name::new("tiny").unwrap();
    let mut definitions = History::definitions();
    definitions.kernels.get_mut(&name).unwrap().configuration.base = ConfigurationBase::Vendor("vendor.config".into());
    let (setup, commits) = over_commits(&definitions, &name, &history.repository, [&first, &last], frame(false)).await.unwrap();
    let (axis, events) = (Axis::Commits(Box::new(commits)), Events::ignored());
    let store = &history.bench.store;
    let with = axis.build(store, &definitions, &setup.good_end.kernel, &events, 2).await.unwrap();
    let without = axis.build(store, &definitions, &setup.points[0].kernel, &events, 2).await.unwrap();
    let config = |built: &Built| fs::read_to_string(&built.config).unwrap();
    assert!(config(&with).contains("CONFIG_EXT4=y") && !config(&without).contains("CONFIG_EXT4=y"), "{}", config(&without));
}

#[tokio::test]
async fn a_finished_search_is_a_log_that_git_replays() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    let commits: Vec<String> = (0..30).map(|number| history.commit(&format!("change {number}"))).collect();
    let last = commits.last().unwrap();
    for find_fix in [false, true] {
        let (setup, _) = history.over(&first, last, find_fix).await;
        // In the line of a fix, which goes back in time, position 12 is commit 30 - 2 - 12.
        let culprit = if find_fix { &commits[17] } else { &commits[12] };
        let course = searched(setup.clone(), 12, &[5]);
        let report = course.report();
        let Some(SearchAnswer::Found { culprits, probability }) = &report.answer else { panic!("{:?}", report.answer) };
        assert_eq!((culprits.iter().map(|point| &point.what).collect::<Vec<_>>(), *probability >= 0.95), (vec![culprit], true));
        let log = history.bench.path("bisect.log");
        fs::write(&log, report.git_bisect_log().unwrap()).unwrap();
        let said = history.git(&["bisect", "replay", log.to_str().unwrap()]);
        let word = if find_fix { "new" } else { "bad" };
        assert!(said.contains(&format!("{culprit} is the first {word} commit")), "{said}");
        history.git(&["bisect", "reset"]);
    }
}

/// It hung, and then it couldn't be tested any more: git is told the answer, not the skip.
#[tokio::test]
async fn what_was_left_out_and_is_the_answer_is_replayed_as_the_answer() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    let commits: Vec<String> = (0..10).map(|number| history.commit(&format!("change {number}"))).collect();
    let (setup, _) = history.over(&first, "main", false).await;
    let mut course = Course::new(setup.clone());
    for (kernel, observation) in [
        (&setup.points[9].kernel, course::hang()),
        (&setup.good_end.kernel, course::pass()),
        (&setup.points[3].kernel, course::pass()),
        (&setup.points[4].kernel, course::hang()),
    ] {
        let trial = |repeat| TrialId { kernel: kernel.clone(), mitigation: None, repeat, attempt: 1 };
        (1..=20).for_each(|repeat| course.take(&trial(repeat), &observation));
    }
    [3, 4].into_iter().for_each(|position: usize| course.unbuildable(&setup.points[position].kernel, "gone"));
    let log = history.bench.path("bisect.log");
    fs::write(&log, course.report().git_bisect_log().unwrap()).unwrap();
    let said = history.git(&["bisect", "replay", log.to_str().unwrap()]);
    assert!(said.contains(&format!("{} is the first bad commit", commits[4])), "{said}");
}

/// Of each search that was cut short after a trial, its report tells all that it knew.
#[tokio::test]
async fn a_search_that_was_cut_anywhere_is_known_from_its_report() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    (0..20).for_each(|number| drop(history.commit(&format!("change {number}"))));
    let (setup, _) = history.over(&first, "main", false).await;
    let mut report: Report = serde_json::from_str(include_str!("report/run.json")).unwrap();
    let manifest = report.kernels[0].build.clone().unwrap();
    report.kernels.clear();
    let mut searching = Searching::new(setup.clone(), None, 1);
    let mut cuts = 0;
    loop {
        match searching.next() {
            None => break,
            Some(Next::Build(kernel)) => {
                let manifest = Manifest { elf_signature: Some(kernel.to_string()), ..manifest.clone() };
                let cell = Cell { kernel: kernel.clone(), mitigation: None, expected: None };
                let doesn_t_compile = kernel == setup.points[9].kernel;
                let made = if doesn_t_compile { Err(NotBuilt { why: "no".to_owned(), trouble: false }) } else { Ok(manifest) };
                match &made {
                    Ok(manifest) => searching.built(&kernel, manifest.elf_signature.as_deref(), Some(1.0)),
                    Err(not_built) => searching.unbuildable(&kernel, &not_built.why),
                }
                report.kernels.push(KernelReport::new(cell, Vec::new(), made));
            }
            Some(Next::Trial(trial)) => {
                let position = setup.points.iter().position(|point| point.kernel == trial.kernel);
                // The eighth hangs, every second time; one shows nothing, and another's trials are invalid, which is its own doing.
                let observation = match position {
                    // This machine is in trouble for a while.
                    _ if (12..20).contains(&cuts) => Observation::Invalid { fault: Fault::Host, reason: "no room".to_owned() },
                    Some(5) => Observation::Crash { title: "BUG".to_owned(), at: At(5) },
                    Some(6) => Observation::Invalid { fault: Fault::Reproducer, reason: "it needs a file".to_owned() },
                    Some(7..) if trial.repeat % 2 == 1 => course::hang(),
                    _ => course::pass(),
                };
                searching.ended(&trial, &observation, 1.0, false);
                let kernel = report.kernels.iter_mut().find(|kernel| kernel.name == trial.kernel).unwrap();
                let (evidence, seconds) = (PathBuf::new(), 1.0);
                kernel.results.push(TrialReport { trial, observation, seconds, evidence, repeated: false, calibrates: false });
                report.search = Some(searching.report());
                cuts += 1;
                if cuts % 7 == 0 {
                    // It is killed, and goes on; what it did so far is in its report then, too.
                    let saved: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
                    searching = Searching::new(setup.clone(), Some(&saved), 1);
                    report.search = Some(searching.report());
                }
                let saved = report.search.as_ref().unwrap();
                let order: Vec<_> = saved.trials.iter().map(|trial| trial.trial.clone()).collect();
                assert_eq!(Course::of(setup.clone(), &report.kernels, &order, &saved.went_on).report(), searching.report());
            }
        }
    }
    let found = searching.report();
    let Some(SearchAnswer::Found { culprits, .. }) = &found.answer else { panic!("{found:?}") };
    assert!(culprits.contains(&setup.points[7]) && cuts > 10, "{found:?}");
}

/// The commits that came in with a merge aren't on the line, and git's replay mustn't look for them either.
#[tokio::test]
async fn a_merge_is_what_git_replays_to() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    history.git(&["switch", "--quiet", "--create", "topic"]);
    (0..4).for_each(|number| drop(history.commit(&format!("on the topic {number}"))));
    history.git(&["switch", "--quiet", "main"]);
    history.commit("beside it");
    history.git(&["merge", "--quiet", "--no-ff", "-m", "merge the topic", "topic"]);
    let merge = history.git(&["rev-parse", "HEAD"]);
    history.commit("after it");
    let (setup, _) = history.over(&first, "main", false).await;
    let log = history.bench.path("bisect.log");
    fs::write(&log, searched(setup, 1, &[]).report().git_bisect_log().unwrap()).unwrap();
    let said = history.git(&["bisect", "replay", log.to_str().unwrap()]);
    assert!(said.contains(&format!("{merge} is the first bad commit")), "{said}");
}

#[tokio::test]
async fn a_merge_is_searched_as_one_and_says_how_to_go_on() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    history.git(&["switch", "--quiet", "--create", "topic"]);
    history.commit("on the topic");
    history.git(&["switch", "--quiet", "main"]);
    history.commit("beside it");
    history.git(&["merge", "--quiet", "--no-ff", "-m", "merge the topic", "topic"]);
    history.commit("after it");
    let (setup, _) = history.over(&first, "main", false).await;
    assert_eq!(setup.points.iter().map(|point| point.title.as_str()).collect::<Vec<_>>(), ["beside it", "merge the topic", "after it"]);
    let told = searched(setup, 1, &[]).report().told();
    assert!(told.contains("merge the topic") && told.contains("it is a merge: `hangproof bisect ... --good \"$(git merge-base "), "{told}");
}

#[test]
fn kernels_that_are_defined_are_a_line() {
    let mut definitions = History::definitions();
    let tiny = definitions.kernels[&Name::new("tiny").unwrap()].clone();
    let names = ["old", "middle", "new"].map(|name| Name::new(name).unwrap());
    for (number, name) in names.iter().enumerate() {
        let boot_arguments = if number == 2 { vec!["x=1".to_owned()] } else { Vec::new() };
        definitions.kernels.insert(name.clone(), Kernel { name: name.clone(), boot_arguments, ..tiny.clone() });
    }
    let setup = over_kernels(&definitions, &names, frame(false)).unwrap();
    assert_eq!((&setup.good_end.kernel, &setup.points[1].kernel), (&names[0], &names[2]));
    let mut searching = Searching::new(setup, None, 1);
    // The same bits with other boot arguments are another kernel; with the same ones they aren't.
    names.iter().for_each(|name| searching.built(name, Some("one"), None));
    let Some(Next::Trial(trial)) = searching.next() else { panic!("there is something to test") };
    assert_eq!(trial.kernel, names[2]);
    let likeliest = searching.report().likeliest;
    assert_eq!(likeliest.iter().map(|point| (point.name(), point.probability)).collect::<Vec<_>>(), [("new", 1.0)]);
    let twice = over_kernels(&definitions, &[names[0].clone(), names[0].clone()], frame(false)).unwrap_err();
    assert!(format!("{twice:#}").contains("old"), "{twice:#}");
}

#[tokio::test]
async fn a_stack_of_patches_is_a_line() {
    let bench = Bench::new();
    let mut definitions = History::definitions();
    let name = Name::new("tiny").unwrap();
    let error = over_patches(&bench.store, &mut definitions, &name, frame(false), &Events::ignored()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "tiny has no patches to search: name a kernel with a stack of them by --kernel");
    let patches = ["one", "two", "three"].map(|what| {
        let path = bench.path(what);
        fs::write(&path, format!("Subject: [PATCH] Do {what}\n\n--- a/f\n+++ b/f\n")).unwrap();
        path
    });
    definitions.kernels.get_mut(&name).unwrap().patches = patches.to_vec();
    let (setup, _) = over_patches(&bench.store, &mut definitions, &name, frame(false), &Events::ignored()).await.unwrap();
    let titles: Vec<_> = setup.points.iter().map(|point| (point.kernel.as_str(), point.title.as_str())).collect();
    assert_eq!(titles, [("tiny.patch-1", "Do one"), ("tiny.patch-2", "Do two"), ("tiny.patch-3", "Do three")]);
    assert_eq!(definitions.kernels[&setup.points[1].kernel].patches, patches[..2]);
    assert_eq!(definitions.kernels[&setup.good_end.kernel].patches, [] as [PathBuf; 0]);
}

#[tokio::test]
async fn two_configurations_are_a_line_whose_fragments_are_written_when_they_are_wanted() {
    let history = History::new();
    let bench = &history.bench;
    let mut definitions = History::definitions();
    let name = Name::new("tiny").unwrap();
    definitions.kernels.get_mut(&name).unwrap().source = Source::Directory { path: history.repository.clone() };
    let [old, new] =
        [("old", "CONFIG_NAME=\"a\"\n# CONFIG_EXT4 is not set\n"), ("new", "CONFIG_EXT4=y\nCONFIG_NAME=\"b\"\n")].map(|(file, text)| {
            let path = bench.path(file);
            fs::write(&path, text).unwrap();
            path
        });
    let fragments = || {
        let files = fs::read_dir(bench.store.root().join("sources")).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("fragment-")).count()
    };
    let whats = |points: &[Point]| points.iter().map(|point| point.what.clone()).collect::<Vec<_>>();
    let (setup, symbols) = over_config(&mut definitions, &name, [&old, &new], frame(false)).unwrap();
    assert_eq!((whats(&setup.points), fragments()), (vec!["CONFIG_EXT4".to_owned(), "CONFIG_NAME".to_owned()], 0));
    let axis = Axis::Symbols(Box::new(symbols));
    let [both, one] = [1, 0].map(|position: usize| setup.points[position].kernel.clone());
    for (kernel, base, written, expected) in [
        (&both, Some("tiny.config-0"), 1, "CONFIG_EXT4=y\nCONFIG_NAME=\"b\"\n"),
        (&setup.good_end.kernel, None, 1, "# CONFIG_EXT4 is not set\nCONFIG_NAME=\"a\"\n"),
        (&one, Some("tiny.config-0"), 2, "CONFIG_EXT4=y\nCONFIG_NAME=\"a\"\n"),
    ] {
        let built = history.build_with(&axis, &definitions, kernel).await.unwrap();
        let config = fs::read_to_string(&built.config).unwrap();
        assert!(config.starts_with(expected), "{kernel}: {config}");
        assert_eq!((built.manifest.base.as_ref().map(Name::as_str), fragments()), (base, written), "{kernel}");
    }
    // For a fix the line goes from the new one back to the old one.
    let (setup, _) = over_config(&mut definitions, &name, [&old, &new], frame(true)).unwrap();
    assert_eq!(
        (setup.good_end.what.as_str(), whats(&setup.points)),
        ("CONFIG_NAME", vec!["CONFIG_EXT4".to_owned(), "no symbol".to_owned()])
    );
    let same = over_config(&mut definitions, &name, [&old, &old], frame(false)).unwrap_err();
    assert!(format!("{same:#}").contains("don't differ in what tiny leaves open"));
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut hangproof = Command::new(env!("CARGO_BIN_EXE_hangproof"));
    let definitions = env!("CARGO_MANIFEST_DIR");
    hangproof.current_dir(folder).args(["--definitions", definitions]).args(arguments);
    hangproof.env("HANGPROOF_CACHE", folder.join("cache"));
    hangproof
}

fn hangproof(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// What a search leaves that failed before its first kernel was built: nothing, so that it can be begun again.
#[test]
fn a_search_that_came_to_nothing_leaves_its_folder() {
    let history = History::new();
    history.change("mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let out = history.bench.path("out");
    // What was there before stays.
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("mine"), "mine").unwrap();
    let over = ["--toolchain", "debian-6.1=host:gcc-77", "bisect", "ext4-oom", "--good", "main~1", "--bad", "main", "--out"];
    let output = hangproof(&history.repository, &[&over[..], &[out.to_str().unwrap()]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("gcc-77"), "{said}");
    let files = |folder: &Path| fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    assert_eq!(files(&out), ["mine"]);
}

/// `git bisect run` takes 1 to 127 for bad or untestable: whatever else is wrong has to stop it.
#[test]
fn a_step_that_cannot_answer_stops_the_bisection() {
    let history = History::new();
    history.git(&["rm", "--quiet", "-r", "Kconfig"]);
    history.commit("no kernel");
    for arguments in [&["bisect-step", "ext4-oom"][..], &["bisect-step", "no-such"], &["bisect-step", "ext4-oom", "--no-such-option"]] {
        let output = hangproof(&history.repository, arguments);
        assert_eq!(output.status.code(), Some(128), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a search is refused for before anything is made, each with its remedy.
#[test]
fn arguments_that_mean_nothing_are_refused() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    let second = history.change("mm/filemap.c", "\treturn page + 1;", "\treturn page + 10;");
    let third = history.commit("more");
    let over = ["bisect", "ext4-oom", "--good", &first, "--bad", "main"];
    let with = |more: &[&'static str]| over.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let kernels = |more: &[&'static str]| ["bisect", "ext4-oom", "--over", "kernels"].iter().chain(more).copied().collect::<Vec<_>>();
    fs::create_dir_all(history.bench.path("trials-only/trials")).unwrap();
    let mut told = Vec::new();
    for (what, arguments, foreign) in [
        ("a repository over kernels", kernels(&["--repo", "."]), false),
        ("a source of its own", with(&["--source", "debian-6.1=."]), false),
        ("an end skipped", with(&["--skip", "main"]), false),
        ("no commit skipped", with(&["--skip", "no-such"]), false),
        ("a kernel skipped that is none of the line", kernels(&["--skip", "no-such"]), false),
        ("the repository for the results", with(&["--out", "."]), false),
        ("a folder of it for the results", with(&["--out", "docs"]), false),
        ("git's folder, by another way", with(&["--out", "docs/../.git/refs"]), false),
        ("where others have their folders", with(&["--out", ".git/hangproof"]), false),
        ("no search to go on with", with(&["--out", "../no-such", "--resume"]), false),
        ("trials without a report", with(&["--out", "../trials-only", "--resume"]), false),
        ("a run's folder without its report", with(&["--out", "../trials-only"]), false),
        ("somebody else's repository", with(&[]), true),
    ] {
        let mut hangproof = command(&history.repository, &arguments);
        if foreign {
            hangproof.env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
        }
        let output = hangproof.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        told.push(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let told = told.join("\n").replace(&history.bench.folder.path().display().to_string(), "DIR");
    insta::assert_snapshot!(told.replace(&third, "THIRD").replace(&second, "SECOND"));
    assert_eq!(history.git(&["status", "--porcelain"]), "?? cache/");
}

#[tokio::test]
async fn what_is_skipped_is_not_tested_and_may_be_the_one() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    (0..20).for_each(|number| drop(history.commit(&format!("change {number}"))));
    let (mut setup, _) = history.over(&first, "main", false).await;
    setup.skip = [11, 12].map(|position: usize| setup.points[position].kernel.clone()).to_vec();
    let report = searched(setup.clone(), 12, &[]).report();
    let Some(SearchAnswer::Found { culprits, .. }) = &report.answer else { panic!("{:?}", report.answer) };
    assert_eq!(culprits, &setup.points[11..=13]);
    assert!(report.trials.iter().all(|trial| !setup.skip.contains(&trial.trial.kernel)));
    assert_eq!(report.left_out[&setup.skip[0]], "skipped, as --skip says");
    assert_eq!(report.git_bisect_log().unwrap().matches("\ngit bisect skip ").count(), 2);
}

/// The same kernel crashes wherever it runs: that is found out once.
#[tokio::test]
async fn what_is_wrong_with_a_kernel_is_wrong_with_the_same_one() {
    let history = History::new();
    let first = history.git(&["rev-parse", "HEAD"]);
    (0..20).for_each(|number| drop(history.commit(&format!("change {number}"))));
    let (setup, _) = history.over(&first, "main", false).await;
    let kernel = |position: usize| &setup.points[position].kernel;
    let mut course = Course::new(setup.clone());
    [5, 6, 7, 9].into_iter().for_each(|position| course.built(kernel(position), Some("one")));
    course.built(kernel(10), Some("another"));
    let trial = |position: usize, repeat| TrialId { kernel: kernel(position).clone(), mitigation: None, repeat, attempt: 1 };
    // One of them passed once.
    course.take(&trial(9, 1), &course::pass());
    let crash = Observation::Crash { title: "BUG".to_owned(), at: At(5) };
    (1..=3).for_each(|repeat| course.take(&trial(6, repeat), &crash));
    course.built(kernel(8), Some("one"));
    let left_out = course.report().left_out;
    let positions: Vec<_> = (0..20).filter(|position| left_out.contains_key(kernel(*position))).collect();
    assert_eq!(positions, [5, 6, 7, 8]);
    // Known from the start, as in a report, they are left out as well.
    let mut again = Course::new(setup.clone());
    [5, 6, 7, 9, 8].into_iter().for_each(|position| again.built(kernel(position), Some("one")));
    again.built(kernel(10), Some("another"));
    again.take(&trial(9, 1), &course::pass());
    (1..=3).for_each(|repeat| again.take(&trial(6, repeat), &crash));
    assert_eq!(again.report(), course.report());
    assert_eq!(left_out[kernel(7)], format!("the same kernel as {}: BUG (at 0.005 s) (crash)", kernel(6)));
}

/// Beside others that have it, a commit without its configuration is one that can't be built; it is no reason to stop a bisection.
#[tokio::test]
async fn a_commit_without_its_configuration_is_unbuildable() {
    let history = History::new();
    let name = Name::new("tiny").unwrap();
    let mut definitions = History::definitions();
    definitions.kernels.get_mut(&name).unwrap().configuration.base = ConfigurationBase::Vendor("vendor.config".into());
    let repository = Repository::open(&history.repository).await.unwrap();
    let head = repository.commit("HEAD").await.unwrap();
    let commits = Commits::new(&definitions, &name, repository, std::iter::once(&head)).unwrap();
    // Where no commit has it, the answer for all would be the same.
    assert!(matches!(commits.check_step(&head).await, Err(HistoryError::Lacks { .. })));
    fs::write(history.repository.join("vendor.config"), "CONFIG_EXT4=y\n").unwrap();
    history.commit("a configuration");
    history.git(&["bisect", "start", "main", &head.id]);
    commits.check_step(&head).await.unwrap();
    let axis = Axis::Commits(Box::new(commits));
    let error = history.build_with(&axis, &definitions, &Commits::kernel(&head)).await.unwrap_err();
    let expected = "the source has no configuration vendor.config: it comes with the distribution's source package; bring it with \
                    --configuration tiny=FILE";
    assert_eq!((error.to_string().as_str(), error.fault()), (expected, Whose::Source));
}

#[tokio::test]
async fn commits_have_names_of_their_own() {
    let history = History::new();
    let head = Repository::open(&history.repository).await.unwrap().commit("HEAD").await.unwrap();
    assert_eq!(Commits::kernel(&head).as_str(), format!("c-{}", &head.id[..16]));
}
