//! Runs the reproducer, and what is to run beside it, in the guest, over ssh, as a user would; no other file names ssh2.
//!
//! ssh2 blocks and has one lock per session, so each session lives in a thread of its own and ends there. Two of its traps are handled here:
//! `exit_status()` is 0 when no status came, so the status is read from a line with a nonce that only this trial knows; and QEMU's forwarded
//! port accepts connections while the guest is dead, so "logged in" means that authentication succeeded. A session that missed a deadline is
//! dropped, never used again.
//!
//! Read [`Command`] first.

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ssh_key::rand_core::{OsRng, RngCore as _};
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::evidence::{ReproducerEnd, Trouble};
use crate::vm::{Signal, Signals};

/// A key of one trial, and what the guest's own is made of.
#[derive(Clone)]
pub struct Key {
    private: String,
    public: String,
    seed: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Key {
    /// A new ed25519 key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self, ssh_key::Error> {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
        let mut seed = [0; 32];
        OsRng.try_fill_bytes(&mut seed).map_err(|_| ssh_key::Error::Crypto)?;
        Ok(Self { private: key.to_openssh(LineEnding::LF)?.to_string(), public: key.public_key().to_openssh()?, seed })
    }

    /// The public half, as a line of `authorized_keys`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// 32 random bytes for the guest's host key.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// The private half, in OpenSSH's format.
    #[must_use]
    pub fn private(&self) -> &str {
        &self.private
    }
}

/// What a command is to the trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The reproducer.
    Reproducer,
    /// A program beside it, in a session of its own.
    Mitigation,
}

impl Role {
    fn started(self) -> Signal {
        match self {
            Self::Reproducer => Signal::Started,
            Self::Mitigation => Signal::MitigationStarted,
        }
    }

    fn output(self, line: String) -> Signal {
        match self {
            Self::Reproducer => Signal::Output(line),
            Self::Mitigation => Signal::MitigationOutput(line),
        }
    }

    fn ended(self, end: ReproducerEnd) -> Signal {
        match self {
            Self::Reproducer => Signal::ReproducerEnded(end),
            Self::Mitigation => Signal::MitigationEnded(end),
        }
    }
}

/// What is run in the guest.
#[derive(Debug, Clone)]
pub struct Command {
    /// What it is to the trial.
    pub role: Role,
    /// Program and arguments; no shell looks at them.
    pub words: Vec<String>,
    /// Folder in the guest that it is started in; made if missing.
    pub folder: String,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The trial's key.
    pub key: Key,
    /// The ssh server's public host key, as the agent reported it: `algorithm base64`.
    pub host_key: String,
    /// For connecting, logging in and starting the program; already scaled.
    pub login: Duration,
    /// For the program's output and end, counted from its start; already scaled.
    pub run: Duration,
}

/// Most bytes of one line of the reproducer's output.
const LINE_LIMIT: u64 = 4096;

/// Runs the command through the forwarded port. What comes of it is sent as signals, the end in any case.
pub fn spawn(port: u16, command: Command, signals: Signals) {
    let named = std::thread::Builder::new().name("hangproof-ssh".to_owned());
    let in_thread = signals.clone();
    let spawned = named.spawn(move || {
        if let Err(trouble) = run(port, &command, &in_thread) {
            in_thread.send_blocking(Signal::Trouble(Trouble::Ssh(trouble)));
        }
    });
    if let Err(error) = spawned {
        tokio::spawn(async move { signals.send(Signal::Trouble(Trouble::Host(format!("no thread for ssh: {error}")))).await });
    }
}

fn run(port: u16, command: &Command, signals: &Signals) -> Result<(), String> {
    let session = login(port, command)?;
    if command.role == Role::Reproducer {
        signals.send_blocking(Signal::Login);
    }
    let nonce = nonce()?;
    let mut channel = session.channel_session().map_err(|error| format!("no channel: {error}"))?;
    channel.handle_extended_data(ssh2::ExtendedData::Merge).map_err(|error| format!("no output: {error}"))?;
    channel.exec(&script(command, &nonce)).map_err(|error| format!("the command was not started: {error}"))?;
    signals.send_blocking(command.role.started());
    session.set_timeout(millis(command.run));
    let end = follow(&mut BufReader::new(channel), &nonce, |line| signals.send_blocking(command.role.output(line)));
    signals.send_blocking(command.role.ended(end));
    Ok(())
}

/// Logs in, trying again while the server isn't there yet: QEMU accepts the connection and drops it.
fn login(port: u16, command: &Command) -> Result<ssh2::Session, String> {
    let deadline = Instant::now() + command.login;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match try_login(port, command, left) {
            Ok(session) => return Ok(session),
            Err(error) if left < Duration::from_millis(200) => {
                return Err(format!("no login within {:?}: {error}", command.login));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn try_login(port: u16, command: &Command, left: Duration) -> Result<ssh2::Session, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connecting: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("connecting: {error}"))?;
    let mut session = ssh2::Session::new().map_err(|error| error.to_string())?;
    session.set_timeout(millis(left));
    session.set_tcp_stream(stream);
    session.handshake().map_err(|error| format!("handshake: {error}"))?;
    let expected = command.host_key.split_whitespace().nth(1).unwrap_or_default();
    let (blob, _) = session.host_key().ok_or("the server showed no host key")?;
    if base64(blob) != expected {
        return Err("the server's host key is not the one that the agent reported".to_owned());
    }
    let key = &command.key;
    session.userauth_pubkey_memory("root", Some(&key.public), &key.private, None).map_err(|error| format!("login: {error}"))?;
    Ok(session)
}

/// Standard base64, from the OpenSSH form of the key that ssh-key prints.
fn base64(blob: &[u8]) -> String {
    ssh_key::PublicKey::from_bytes(blob)
        .and_then(|key| key.to_openssh())
        .ok()
        .and_then(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_default()
}

/// Passes the output on, line by line, up to the nonce line or the connection's end.
fn follow(output: &mut impl io::BufRead, nonce: &str, mut pass_on: impl FnMut(String)) -> ReproducerEnd {
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) => return ReproducerEnd::Lost("the connection ended".to_owned()),
            Ok(_) => {}
            Err(error) => return ReproducerEnd::Lost(error.to_string()),
        }
        let text = String::from_utf8_lossy(&line);
        match text.trim_end().split_once(nonce) {
            Some(("", status)) => {
                return status.trim().parse().map_or_else(|_| ReproducerEnd::Lost(format!("no status in {text:?}")), ReproducerEnd::Status);
            }
            // Output that didn't end its last line stands before the nonce.
            Some((before, status)) => {
                pass_on(before.to_owned());
                if let Ok(status) = status.trim().parse() {
                    return ReproducerEnd::Status(status);
                }
            }
            None => pass_on(text.trim_end().to_owned()),
        }
    }
}

fn nonce() -> Result<String, String> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(format!("hangproof-{}:", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn millis(time: Duration) -> u32 {
    // 0 would mean "no time-out".
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// The one line that the guest's shell sees. Every word is quoted, so that what a definition holds stays one word.
fn script(command: &Command, nonce: &str) -> String {
    let folder = quoted(&command.folder);
    let environment: String = command.environment.iter().map(|(name, value)| format!("{}={} ", name, quoted(value))).collect();
    let words = command.words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    format!("mkdir -p {folder} && cd {folder} && {environment}{words}; echo {}$?", quoted(nonce))
}

/// A word in single quotes, in which a shell interprets nothing.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn follow_text(text: &str) -> (ReproducerEnd, Vec<String>) {
        let mut output = Vec::new();
        let end = follow(&mut text.as_bytes(), "nonce:", |line| output.push(line));
        (end, output)
    }

    #[test]
    fn a_status_needs_the_nonce() {
        assert_eq!(follow_text("one\ntwo\nnonce:0\n"), (ReproducerEnd::Status(0), vec!["one".into(), "two".into()]));
        assert_eq!(follow_text("unfinishednonce:3\n"), (ReproducerEnd::Status(3), vec!["unfinished".into()]));
        assert!(matches!(follow_text("0\n").0, ReproducerEnd::Lost(_)));
        assert!(matches!(follow_text("").0, ReproducerEnd::Lost(_)));
    }

    #[test]
    fn a_shell_gets_every_word_whole() {
        let hostile = ["a b", "$(reboot)", "it's", "`x`", "", "--key=value;true", "new\nline"];
        let command = Command {
            role: Role::Reproducer,
            words: std::iter::once("printf").chain(["[%s]"]).chain(hostile).map(str::to_owned).collect(),
            folder: std::env::temp_dir().display().to_string(),
            environment: vec![("VALUE".to_owned(), "x y".to_owned())],
            key: Key::new().unwrap(),
            host_key: String::new(),
            login: Duration::ZERO,
            run: Duration::ZERO,
        };
        let output = std::process::Command::new("sh").arg("-c").arg(script(&command, "nonce:")).output().unwrap();
        let expected = hostile.map(|word| format!("[{word}]")).concat() + "nonce:0\n";
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
