//! Build script: compiles the guest's agent as a static program and hands its path to the host program, which embeds it.
//!
//! The agent needs other compiler flags than the host program (`+crt-static`: it is PID 1 of an initramfs without libraries), which cargo
//! can't express for one member of a workspace; so cargo is called once more, with a target folder of its own below `OUT_DIR`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "that is how a build script speaks to cargo")]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    for path in ["guest", "Cargo.lock", "scripts/build-agent.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.join("agent-target");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["build", "--release", "--package", "hangproof-agent", "--bin", "hangproof-agent", "--target", "x86_64-unknown-linux-gnu"])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Cstrip=symbols\u{1f}-Cpanic=abort")
        // The host program holds it in memory, and the guest locks it there.
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the agent does not compile; see the messages above");
    let built = target.join("x86_64-unknown-linux-gnu/release/hangproof-agent");
    let agent = out.join("hangproof-agent");
    fs::copy(&built, &agent).expect("the agent is copied");
    println!("cargo::rustc-env=HANGPROOF_AGENT={}", agent.display());
}
