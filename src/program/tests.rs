//! Programs of the host: their deadlines, their children, their words.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::time::Instant;

use rustix::process::{Pid, test_kill_process_group};

use super::*;

fn sh(script: &str, deadline: Deadline) -> Program {
    let mut sh = Program::new("sh", "dash").within(deadline);
    sh.command.args(["-c", script]);
    sh
}

/// A program that writes its id into a file, and a child that holds its outputs. Both would go on for a minute.
fn hangs(folder: &Path) -> String {
    format!("echo $$ > {}/id; echo begun >&2; sleep 60 & sleep 60", folder.display())
}

/// Whether nothing is left of the program of [`hangs`] and its child.
fn is_gone(folder: &Path) -> bool {
    let id = std::fs::read_to_string(folder.join("id")).unwrap();
    test_kill_process_group(Pid::from_raw(id.trim().parse().unwrap()).unwrap()) == Err(rustix::io::Errno::SRCH)
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (script, start) = (hangs(folder.path()), Instant::now());
    let error = sh(&script, Deadline::Total(Duration::from_secs(2))).output().await.unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(is_gone(folder.path()));
    let expected = "didn't end within 2 s and was killed (it had said: begun): run it by hand to see what it waits for, and try again";
    assert_eq!(error, format!("`sh -c {script:?}` {expected}"));
}

#[tokio::test]
async fn the_children_of_a_program_that_nobody_waits_for_any_more_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut hangs = sh(&hangs(folder.path()), Deadline::Total(DEADLINE));
    assert!(tokio::time::timeout(Duration::from_secs(2), hangs.output()).await.is_err());
    assert!(is_gone(folder.path()));
}

#[tokio::test]
async fn one_that_speaks_goes_on_and_one_that_falls_silent_is_killed() {
    let silent = Deadline::Silent(Duration::from_secs(2));
    let output = sh("for i in 1 2 3 4 5 6; do sleep 0.5; echo $i >&2; done; echo done", silent.clone()).output().await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    let error = sh("sleep 0.3; sleep 60", silent).output().await.unwrap_err().to_string();
    assert!(error.starts_with("`sh -c \"sleep 0.3; sleep 60\"` said nothing for 2 s and was killed: "), "{error}");
}

#[tokio::test]
async fn a_file_that_grows_is_a_sign_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let still = Deadline::Still(Duration::from_secs(2), folder.path().to_owned());
    let mut grows = sh("for i in 1 2 3 4 5 6; do sleep 0.5; echo $i >> file; done", still.clone());
    grows.command.current_dir(folder.path());
    assert!(grows.output().await.unwrap().status.success());
    let error = sh("sleep 60", still).output().await.unwrap_err().to_string();
    assert!(error.starts_with("`sh -c \"sleep 60\"` brought nothing for 2 s and was killed: "), "{error}");
}

#[test]
fn a_stream_that_stops_is_killed_and_one_that_is_left_ends() {
    let second = Deadline::Total(Duration::from_secs(1));
    let mut stops = sh("echo begun; sleep 60 & sleep 60", second.clone()).stream().unwrap();
    let mut text = String::new();
    assert_eq!(stops.read_to_string(&mut text).unwrap_err().kind(), io::ErrorKind::TimedOut);
    let error = stops.finish().unwrap_err().to_string();
    assert!(error.starts_with("`sh -c \"echo begun; sleep 60 & sleep 60\"` didn't end within 1 s and was killed: "), "{error}");

    let mut endless = sh("while echo y; do :; done", second.clone()).stream().unwrap();
    endless.read_exact(&mut [0; 4]).unwrap();
    assert!(endless.finish().is_ok());

    let mut ends = sh("echo all; exit 3", second).stream().unwrap();
    let mut text = String::new();
    ends.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), ends.finish().unwrap().code()), ("all\n", Some(3)));
}

#[tokio::test]
async fn one_that_prints_without_end_is_killed() {
    let error = sh("yes", Deadline::Total(Duration::from_secs(60))).output().await.unwrap_err().to_string();
    assert_eq!(error, "run sh: it prints more than 256 MiB");
}

#[tokio::test]
async fn a_missing_program_is_told_with_its_package() {
    let error = Program::new("no-such-program", "its-package").output().await.unwrap_err();
    assert_eq!(error.to_string(), "no-such-program is not installed: `apt-get install its-package`");
    let error = Program::new("/no/such/program", "its-package").output().await.unwrap_err();
    assert_eq!(error.to_string(), "/no/such/program is not installed: `apt-get install its-package`");
}

#[test]
fn of_a_line_that_was_written_over_the_end_is_told() {
    let said = b"remote: Counting: 50%\rremote: Counting: 100%, done.\nReceiving:  1%\rReceiving:  2%   \r\nfatal: early EOF\n";
    assert_eq!(last_lines(said), "remote: Counting: 100%, done.; Receiving:  2%; fatal: early EOF");
}
