//! QEMU's life: spawned, connected to, listened to, killed.
//!
//! QEMU is started as a [`Program`], with its temporary files in the trial's folder: it dies with hangproof even if that is killed, a Ctrl-C at the
//! terminal doesn't reach it, and its overlays are unlinked files. It is spawned from
//! asynchronous code only: the parent-death signal follows the spawning *thread*, and a blocking-pool thread ends before its time.
//!
//! Read [`Start`] first.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hangproof_wire::{LINE_LIMIT, Report, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::args::{Invocation, Socket, arguments};
use super::console::Lines;
use super::qmp::Monitor;
use super::{Clock, Signal, Signals, Vm, VmError};
use crate::evidence::{At, ConsoleLine, CpuTime, QmpFact, Trouble, VmEnd};
use crate::program::{Group, Program};

/// How QEMU is started.
#[derive(Debug)]
pub struct Start {
    /// What the VM is to be.
    pub invocation: Invocation,
    /// For QEMU's temporary files: the trial's folder.
    pub temporary: PathBuf,
    /// From the spawn to QEMU's four connections and its first answer; already scaled.
    pub deadline: Duration,
}

/// A running QEMU.
#[derive(Debug)]
pub struct Qemu {
    clock: Clock,
    pid: Option<u32>,
    signals: Signals,
    stream: mpsc::Receiver<(At, Signal)>,
    requests: mpsc::UnboundedSender<Request>,
    monitor: Arc<Mutex<Monitor>>,
    ssh_port: u16,
    deadline: Duration,
    end: Option<oneshot::Sender<()>>,
    watcher: tokio::task::JoinHandle<()>,
}

/// The longest path of a unix socket: `sun_path` has 108 bytes with its end.
const SOCKET_PATH: usize = 107;

/// QEMU's program: `HANGPROOF_QEMU`, or `qemu-system-x86_64` of `PATH`.
///
/// # Errors
/// When there is none.
pub fn find_qemu() -> Result<PathBuf, VmError> {
    if let Some(path) = std::env::var_os("HANGPROOF_QEMU") {
        return if Path::new(&path).is_file() { Ok(path.into()) } else { Err(VmError::NoSuchQemu(path.into())) };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join("qemu-system-x86_64"));
    candidates.find(|path| path.is_file()).ok_or(VmError::NoQemu)
}

/// QEMU, without arguments yet.
#[must_use]
pub fn program(qemu: &Path) -> Program {
    Program::new(qemu, "qemu-system-x86")
}

impl Start {
    /// Starts QEMU and waits until it is connected.
    ///
    /// # Errors
    /// When QEMU isn't there, refuses its arguments or doesn't connect within the deadline.
    pub async fn start(self) -> Result<Vm, VmError> {
        let qemu = find_qemu()?;
        let listeners = Socket::ALL.map(|socket| listen(&self.invocation.sockets.join(socket.file())));
        let [console, agent, qmp, spare] = listeners;
        let (console, agent, qmp, spare) = (console?, agent?, qmp?, spare?);
        let clock = Clock::start();
        let mut program = program(&qemu);
        program.command.args(arguments(&self.invocation)).env("TMPDIR", &self.temporary).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = program.start()?;
        let pid = child.id();
        if let Some(pid) = pid {
            // If the host runs out of memory, a VM goes first: its trial is repeated, ours would be lost.
            let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
        }
        let stderr = tokio::spawn(tail(child.stderr.take()));
        let connected = async {
            let accept = |listener: UnixListener| async move { listener.accept().await.map(|(stream, _)| stream) };
            tokio::try_join!(accept(console), accept(agent), accept(qmp), accept(spare))
        };
        let streams = tokio::select! {
            streams = tokio::time::timeout(self.deadline, connected) => streams,
            status = child.wait() => {
                return Err(VmError::Start { status: shown(status.ok()), stderr: stderr.await.unwrap_or_default() });
            }
        };
        let Ok(streams) = streams else {
            drop(Group(child));
            let status = format!("no connection within {:?}", self.deadline);
            return Err(VmError::Start { status, stderr: stderr.await.unwrap_or_default() });
        };
        let (console, agent, qmp, spare) = streams.map_err(VmError::io("accepting QEMU's connections"))?;
        let (signals, stream) = Signals::channel(clock);
        let (mut monitor, events_ended) = Monitor::new(qmp, spare, signals.clone());
        let (end, ended) = oneshot::channel();
        let (requests, queue) = mpsc::unbounded_channel();
        let (agent_read, agent_write) = agent.into_split();
        let readers = [
            tokio::spawn(read_console(console, signals.clone())),
            tokio::spawn(read_agent(agent_read, signals.clone())),
            tokio::spawn(async move { drop(events_ended.await) }),
        ];
        tokio::spawn(write_requests(agent_write, queue));
        let ssh_port = match monitor.ssh_port(self.deadline).await {
            Ok(port) => port,
            Err(error) => {
                drop(Group(child));
                let said = stderr.await.unwrap_or_default();
                return Err(if said.is_empty() { error } else { VmError::Start { status: error.to_string(), stderr: said } });
            }
        };
        let watcher = tokio::spawn(watch(child, ended, readers, stderr, signals.clone()));
        let monitor = Arc::new(Mutex::new(monitor));
        Ok(Vm::Qemu(Qemu { clock, pid, signals, stream, requests, monitor, ssh_port, deadline: self.deadline, end: Some(end), watcher }))
    }
}

impl Qemu {
    /// The clock of the signals.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The loopback port that leads to the guest's ssh server.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    pub(super) async fn signal(&mut self) -> Option<(At, Signal)> {
        self.stream.recv().await
    }

    pub(super) fn request(&mut self, request: Request) {
        let _ = self.requests.send(request);
    }

    pub(super) fn ask_status(&mut self) {
        let (monitor, signals, deadline, pid) = (Arc::clone(&self.monitor), self.signals.clone(), self.deadline, self.pid);
        tokio::spawn(async move {
            if let Some(time) = pid.and_then(cpu_time) {
                signals.send(Signal::Qmp(QmpFact::Cpus(time))).await;
            }
            let mut monitor = monitor.lock().await;
            let mut answer = monitor.status(deadline).await;
            if matches!(answer, Err(VmError::Silent { .. })) {
                // That session is retired; the spare one decides.
                answer = monitor.status(deadline).await;
            }
            let fact = match answer {
                Ok(status) => QmpFact::Status(status),
                Err(VmError::Refused { error, .. }) => QmpFact::Status(error),
                Err(_) => QmpFact::Silent,
            };
            signals.send(Signal::Qmp(fact)).await;
        });
    }

    pub(super) fn monitor(&self) -> Arc<Mutex<Monitor>> {
        Arc::clone(&self.monitor)
    }

    pub(super) fn run(&mut self, command: crate::guest::Command) {
        crate::guest::spawn(self.ssh_port, command, self.signals.clone());
    }

    pub(super) async fn stop(mut self) {
        drop(self.end.take());
        // The signals must be read, or the tasks that send them would wait for us while we wait for them.
        let drain = async { while self.stream.recv().await.is_some() {} };
        tokio::select! {
            _ = &mut self.watcher => {}
            () = drain => {}
        }
    }
}

/// What the host gave the threads of a QEMU's vCPUs. A QEMU that is gone has none.
fn cpu_time(pid: u32) -> Option<CpuTime> {
    let mut all = CpuTime { cpus: 0, ran: 0, waited: 0 };
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).ok();
        if !read("comm").is_some_and(|comm| comm.starts_with("CPU ")) {
            continue;
        }
        // Nanoseconds on a CPU, nanoseconds in which it waited for one, time slices.
        let times: Vec<u64> = read("schedstat")?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [ran, waited, _] = times[..] else { return None };
        all = CpuTime { cpus: all.cpus + 1, ran: all.ran + ran / 1_000_000, waited: all.waited + waited / 1_000_000 };
    }
    (all.cpus > 0).then_some(all)
}

fn listen(path: &Path) -> Result<UnixListener, VmError> {
    if path.as_os_str().len() > SOCKET_PATH {
        return Err(VmError::LongPath(path.to_owned()));
    }
    UnixListener::bind(path).map_err(VmError::io(format!("listening on {}", path.display())))
}

fn shown(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string())
}

/// Waits for QEMU's end or for ours. A QEMU that ends by itself is reported after everything that it had said.
async fn watch(
    mut child: Child,
    ended: oneshot::Receiver<()>,
    readers: [tokio::task::JoinHandle<()>; 3],
    stderr: tokio::task::JoinHandle<String>,
    signals: Signals,
) {
    tokio::select! {
        status = child.wait() => {
            for reader in readers {
                let _ = tokio::time::timeout(Duration::from_secs(2), reader).await;
            }
            use std::os::unix::process::ExitStatusExt as _;
            let (code, signal) = status.map_or((None, None), |status| (status.code(), status.signal()));
            let stderr = stderr.await.unwrap_or_default();
            signals.send(Signal::Exited(VmEnd::Exited { status: code, signal, stderr })).await;
        }
        _ = ended => {
            // What is named as QEMU may be a script that started it.
            let mut group = Group(child);
            group.kill();
            let _ = group.0.wait().await;
        }
    }
}

/// Bytes of QEMU's standard error that are kept.
const STDERR_TAIL: usize = 4096;

async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(size @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..size]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

async fn read_console(mut stream: UnixStream, signals: Signals) {
    let (mut lines, mut chunk) = (Lines::default(), vec![0; 8192]);
    while let Ok(size @ 1..) = stream.read(&mut chunk).await {
        let dropped = lines.dropped;
        for text in lines.push(&chunk[..size]) {
            signals.send(Signal::Console(ConsoleLine { at: signals.clock().now(), text })).await;
        }
        if lines.dropped != dropped {
            signals.send(Signal::ConsoleDropped(lines.dropped)).await;
        }
    }
    if let Some(text) = lines.finish() {
        signals.send(Signal::Console(ConsoleLine { at: signals.clock().now(), text })).await;
    }
}

async fn read_agent(stream: OwnedReadHalf, signals: Signals) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_LIMIT as u64;
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(1..) if line.ends_with(b"\n") => {}
            Ok(size) if size as u64 == limit => {
                let trouble = format!("a line of more than {limit} bytes");
                return signals.send(Signal::Trouble(Trouble::Agent(trouble))).await;
            }
            Ok(_) | Err(_) => return,
        }
        let signal = match serde_json::from_slice::<Report>(&line) {
            Ok(report) => Signal::Agent(report),
            Err(error) => {
                let shown: String = String::from_utf8_lossy(&line).chars().take(120).collect();
                Signal::Trouble(Trouble::Agent(format!("{error} in {shown:?}")))
            }
        };
        signals.send(signal).await;
    }
}

async fn write_requests(mut stream: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = queue.recv().await {
        let Ok(mut line) = serde_json::to_vec(&request) else { continue };
        line.push(b'\n');
        if stream.write_all(&line).await.is_err() {
            return;
        }
    }
}
