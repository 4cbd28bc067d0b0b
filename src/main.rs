//! The program `hangproof`: see `cli`.

fn main() -> std::process::ExitCode {
    hangproof::cli::main().into()
}
