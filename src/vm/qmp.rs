//! QMP, QEMU's control protocol, through qapi; no other file names that crate.
//!
//! qapi has three traps, each reproduced: a dropped `execute()` future makes the next command panic, a late reply ends its event loop, and one
//! event that it doesn't know kills the stream. So a session's task is the only owner of its service and never drops a command in flight;
//! events are taken out of the stream before qapi's parser sees it, those that it can't parse included; and a session that missed a deadline is
//! retired for ever: the next command goes to the spare one.
//!
//! Read [`Monitor`] first.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Order, Signal, Signals, VmError};
use crate::evidence::QmpFact;

/// Most bytes of one QMP message; `query-qmp-schema`, which we don't use, has 200 KB.
const LINE_LIMIT: u64 = 1 << 20;

type Service = QapiService<QmpStreamTokio<OwnedWriteHalf>>;
type Job = Box<dyn for<'a> FnOnce(&'a Service) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send>;

/// QEMU's monitor: the session in use and the spare one.
#[derive(Debug)]
pub struct Monitor {
    current: Option<Session>,
    spare: Option<UnixStream>,
    signals: Signals,
}

/// A session: its task runs commands one after the other and never drops one.
#[derive(Debug)]
struct Session {
    jobs: mpsc::UnboundedSender<Job>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only here, when nobody will speak through the session again, is a command in flight dropped.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Monitor {
    /// A monitor over QEMU's two connections; only the first is spoken to until it fails. Also a receiver that wakes when the first connection has said
    /// its last event.
    pub fn new(first: UnixStream, spare: UnixStream, signals: Signals) -> (Self, oneshot::Receiver<()>) {
        let (last, ended) = oneshot::channel();
        let current = Some(Session::open(first, signals.clone(), Some(last)));
        (Self { current, spare: Some(spare), signals }, ended)
    }

    /// `query-status`.
    pub async fn status(&mut self, deadline: Duration) -> Result<String, VmError> {
        let info = self.execute("query-status", qmp::query_status {}, deadline).await?;
        Ok(serde_json::to_value(info.status).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default())
    }

    /// The loopback port that leads to the guest's port 22, from the human monitor's `info usernet` (QMP has no such query).
    pub async fn ssh_port(&mut self, deadline: Duration) -> Result<u16, VmError> {
        let command = qmp::human_monitor_command { command_line: "info usernet".to_owned(), cpu_index: None };
        let text = self.execute("info usernet", command, deadline).await?;
        forwarded_port(&text).ok_or_else(|| VmError::Refused { command: "info usernet", error: format!("no forwarding in: {text}") })
    }

    /// `stop`, `cont`, `dump-guest-memory` or `inject-nmi`.
    pub async fn order(&mut self, order: Order, deadline: Duration) -> Result<(), VmError> {
        match order {
            Order::Pause => self.execute("stop", qmp::stop {}, deadline).await.map(drop),
            Order::Resume => self.execute("cont", qmp::cont {}, deadline).await.map(drop),
            Order::Nmi => self.execute("inject-nmi", qmp::inject_nmi {}, deadline).await.map(drop),
            Order::Dump(path) => {
                let command = qmp::dump_guest_memory {
                    // Physical addresses: page tables of a sick kernel are not to be walked.
                    paging: false,
                    protocol: format!("file:{}", path.display()),
                    detach: None,
                    begin: None,
                    length: None,
                    format: None,
                };
                self.execute("dump-guest-memory", command, deadline).await.map(drop)
            }
        }
    }

    async fn execute<C>(&mut self, name: &'static str, command: C, deadline: Duration) -> Result<C::Ok, VmError>
    where
        C: qmp::QmpCommand + Send + Sync + 'static,
        C::Ok: Send + 'static,
    {
        if self.current.is_none() {
            let spare = self.spare.take().ok_or(VmError::Silent { command: name, deadline })?;
            self.current = Some(Session::open(spare, self.signals.clone(), None));
        }
        let Some(session) = &self.current else { return Err(VmError::Silent { command: name, deadline }) };
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |service| {
            Box::pin(async move {
                let _ = answer.send(service.execute(command).await);
            })
        });
        let _ = session.jobs.send(job);
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(VmError::Refused { command: name, error: error.to_string() }),
            // The session is closed (QEMU ended) or silent: either way nobody speaks through it again.
            Ok(Err(_)) | Err(_) => {
                self.current = None;
                Err(VmError::Silent { command: name, deadline })
            }
        }
    }
}

impl Session {
    /// `last` is dropped after the last event.
    fn open(stream: UnixStream, signals: Signals, last: Option<oneshot::Sender<()>>) -> Self {
        let (read, write) = stream.into_split();
        let (to_parser, parser) = tokio::io::duplex(64 * 1024);
        let (jobs, queue) = mpsc::unbounded_channel();
        let divert = tokio::spawn(async move {
            if let Err(error) = divert_events(read, to_parser, &signals).await {
                tracing::debug!(%error, "a QMP stream ended");
            }
            drop(last);
        });
        let serve = tokio::spawn(async move {
            if let Err(error) = serve(parser, write, queue).await {
                tracing::debug!(%error, "a QMP session ended");
            }
        });
        Self { jobs, tasks: [divert, serve] }
    }
}

/// Negotiates, then runs one command after the other to its end.
async fn serve(parser: DuplexStream, write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Job>) -> io::Result<()> {
    let stream = QmpStreamTokio::open_split(parser, write).await?.negotiate().await?;
    let (service, events) = stream.into_parts();
    let drain = events.spawn_tokio();
    while let Some(job) = queue.recv().await {
        job(&service).await;
    }
    drain.abort();
    Ok(())
}

/// Copies lines to qapi's parser, except for events, which become signals.
async fn divert_events(read: OwnedReadHalf, mut parser: DuplexStream, signals: &Signals) -> io::Result<()> {
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let size = tokio::io::AsyncReadExt::take(&mut reader, LINE_LIMIT).read_until(b'\n', &mut line).await?;
        if size == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a QMP message is too long or cut off"));
        }
        let message: serde_json::Value = serde_json::from_slice(&line)?;
        if message.get("event").is_none() {
            parser.write_all(&line).await?;
        } else if let Some(fact) = fact_of(&message) {
            signals.send(Signal::Qmp(fact)).await;
        }
    }
}

/// What an event tells us; none for those that we have no use for or don't know.
fn fact_of(message: &serde_json::Value) -> Option<QmpFact> {
    match serde_json::from_value::<qmp::Event>(message.clone()) {
        Ok(qmp::Event::SHUTDOWN { data, .. }) => {
            let reason = serde_json::to_value(data.reason).ok()?;
            Some(QmpFact::Shutdown(reason.as_str()?.to_owned()))
        }
        Ok(qmp::Event::GUEST_PANICKED { .. }) => Some(QmpFact::GuestPanicked),
        Ok(qmp::Event::STOP { .. }) => Some(QmpFact::Stop),
        Ok(qmp::Event::RESUME { .. }) => Some(QmpFact::Resume),
        Ok(qmp::Event::WATCHDOG { .. }) => Some(QmpFact::Watchdog),
        Ok(qmp::Event::BLOCK_IO_ERROR { data, .. }) => Some(QmpFact::BlockIoError(data.reason)),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, %message, "an event that qapi does not know");
            None
        }
    }
}

/// The host port of `TCP[HOST_FORWARD]  11  127.0.0.1 45123  10.0.2.15  22  0  0`.
fn forwarded_port(text: &str) -> Option<u16> {
    let line = text.lines().find(|line| line.contains("HOST_FORWARD"))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let address = words.iter().position(|word| *word == "127.0.0.1")?;
    words.get(address + 1)?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read_from_the_human_monitor() {
        let text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  14       127.0.0.1 36613       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded_port(text), Some(36613));
        assert_eq!(forwarded_port("no network"), None);
    }

    #[test]
    fn events_become_facts_and_unknown_ones_nothing() {
        let check = |text: &str, expected: Option<QmpFact>| {
            let message = serde_json::from_str(text).unwrap();
            assert_eq!(fact_of(&message), expected, "{text}");
        };
        let time = r#""timestamp": {"seconds": 1, "microseconds": 2}"#;
        check(
            &format!(r#"{{"event": "SHUTDOWN", "data": {{"guest": true, "reason": "guest-reset"}}, {time}}}"#),
            Some(QmpFact::Shutdown("guest-reset".into())),
        );
        check(&format!(r#"{{"event": "STOP", {time}}}"#), Some(QmpFact::Stop));
        check(&format!(r#"{{"event": "FROM_THE_FUTURE", "data": {{}}, {time}}}"#), None);
    }

    /// A machine without CPUs, which answers QMP all the same.
    async fn qemu(folder: &std::path::Path) -> (tokio::process::Child, UnixStream, UnixStream) {
        let paths = ["a", "b"].map(|name| folder.join(name));
        let listeners = paths.clone().map(|path| tokio::net::UnixListener::bind(path).unwrap());
        let mut command = tokio::process::Command::new(super::super::find_qemu().unwrap());
        command.args(["-machine", "none", "-nodefaults", "-nographic", "-S"]).kill_on_drop(true);
        for path in &paths {
            command.arg("-qmp").arg(format!("unix:{},server=off", path.display()));
        }
        let child = command.stdin(std::process::Stdio::null()).spawn().unwrap();
        let [first, spare] = &listeners;
        (child, first.accept().await.unwrap().0, spare.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_session_that_missed_a_deadline_is_replaced_once() {
        let folder = tempfile::tempdir().unwrap();
        let (child, first, spare) = qemu(folder.path()).await;
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
        let (signals, _stream) = Signals::channel(super::super::Clock::start());
        let (mut monitor, _ended) = Monitor::new(first, spare, signals);
        let (long, short) = (Duration::from_secs(30), Duration::from_millis(300));
        assert_eq!(monitor.status(long).await.unwrap(), "prelaunch");

        signal(rustix::process::Signal::STOP);
        assert!(matches!(monitor.status(short).await, Err(VmError::Silent { command: "query-status", .. })));
        signal(rustix::process::Signal::CONT);
        // The late reply to the first session meets nobody; the spare one is negotiated anew.
        assert_eq!(monitor.status(long).await.unwrap(), "prelaunch");
        assert_eq!(monitor.status(long).await.unwrap(), "prelaunch");

        signal(rustix::process::Signal::STOP);
        assert!(matches!(monitor.status(short).await, Err(VmError::Silent { .. })));
        signal(rustix::process::Signal::CONT);
        let begin = std::time::Instant::now();
        assert!(matches!(monitor.status(long).await, Err(VmError::Silent { .. })), "there is no third session");
        assert!(begin.elapsed() < long);
    }
}
