//! `hangproof shell`: a kernel to look around in, booted as a trial boots it.
//!
//! A command is run through the same ssh session as a reproducer; an interactive shell is left to the system's `ssh`, which knows terminals.
//! Nothing is judged and nothing is saved.
//!
//! Read [`open`].

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hangproof_wire::Report;
use tokio::sync::watch;

use crate::build;
use crate::event::{Event, Events};
use crate::evidence::{ReproducerEnd, VmEnd};
use crate::exit::Exit;
use crate::guest::Key;
use crate::image::{self, Payload, initramfs};
use crate::plan::TrialId;
use crate::run::cpus;
use crate::spec::{CgroupChoice, Definitions, Limits, Machine, MemMib, Name, Trigger};
use crate::store::Store;
use crate::trial::Trial;
use crate::vm::{Signal, Vm, probe};

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The kernel.
    pub kernel: Name,
    /// The image.
    pub image: Name,
    /// Loopback port for ssh; a free one if not given.
    pub ssh_port: Option<u16>,
    /// Program and arguments; a shell if empty.
    pub words: Vec<String>,
}

/// A boot may take so long (unscaled).
const BOOT: Duration = Duration::from_secs(60);

/// A command may take so long: a day.
const COMMAND: Duration = Duration::from_secs(24 * 60 * 60);

/// Boots the kernel and opens a shell, or runs the command and takes over its exit status: 0 or not.
///
/// # Errors
/// When the kernel can't be built or doesn't get ready.
pub async fn open(
    store: &Store,
    definitions: &Definitions,
    wanted: Wanted,
    events: &Events,
    mut stop: watch::Receiver<bool>,
) -> Result<Exit> {
    let kernel = definitions.kernels.get(&wanted.kernel).with_context(|| format!("kernel {} is not defined", wanted.kernel))?;
    let image = definitions.images.get(&wanted.image).with_context(|| format!("image {} is not defined", wanted.image))?;
    let folder = store.work()?;
    let probed = probe::probe(folder.path()).await?;
    let disks = image::make(store, image, events).await?;
    let built = build::build(store, definitions, kernel, events, cpus()).await?;
    let initramfs = initramfs::base(store)?;
    let trial = Trial {
        id: TrialId { kernel: kernel.name.clone(), mitigation: None, repeat: 1, attempt: 1 },
        kernel: built.image.clone(),
        boot_arguments: kernel.boot_arguments.clone(),
        initramfs: initramfs.file.clone(),
        modules: built.modules.clone(),
        payload: Payload::new(),
        disks: disks.members.clone(),
        root: disks.root.clone(),
        machine: Machine { cpus: 2, memory: MemMib(2048) },
        accelerator: probed.accelerator,
        cgroup: CgroupChoice::Auto,
        ssh_port: wanted.ssh_port,
        words: wanted.words.clone(),
        beside: Vec::new(),
        limits: Limits { duration: COMMAND, boot: BOOT, stall: BOOT, silence: BOOT },
        trigger: Trigger { oom_kills: 0, commits: 0 },
        hang: None,
        collecting: None,
    };
    let (mut vm, key, scratch) = match trial.start().await {
        Ok(started) => started,
        Err(trouble) => bail!("starting {}: {trouble}", kernel.name),
    };
    let ready = tokio::select! {
        ready = ready(&mut vm, &trial) => ready,
        _ = stop.wait_for(|stop| *stop) => return Ok(Exit::Interrupted),
    };
    let result = match ready {
        Err(error) => Err(error),
        Ok(host_key) if wanted.words.is_empty() => interactive(&mut vm, &key, scratch.path(), &host_key, events).await,
        Ok(host_key) => {
            vm.run(trial.command(&key, &host_key));
            tokio::select! {
                exit = follow(&mut vm) => exit,
                _ = stop.wait_for(|stop| *stop) => Ok(Exit::Interrupted),
            }
        }
    };
    vm.stop().await;
    result
}

/// Waits for the guest and returns its ssh host key.
async fn ready(vm: &mut Vm, trial: &Trial) -> Result<String> {
    let limit = trial.rules().limits.boot;
    let mut console = Vec::new();
    let waiting = async {
        while let Some((_, signal)) = vm.signal().await {
            match signal {
                Signal::Console(line) => console.push(line.text),
                Signal::Agent(Report::Ready { host_key, .. }) => return Ok(host_key),
                Signal::Agent(Report::Failed { step, error, .. }) => bail!("the agent's step {step:?} failed: {error}"),
                Signal::Trouble(trouble) => bail!("{trouble}"),
                Signal::Exited(end) => bail!("the VM ended: {}", how(&end)),
                _ => {}
            }
        }
        bail!("the VM ended")
    };
    let result = tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| Err(anyhow::anyhow!("not ready within {limit:?}")));
    result.with_context(|| {
        format!("{} did not boot; its last lines:\n{}", trial.id.kernel, console[console.len().saturating_sub(15)..].join("\n"))
    })
}

async fn follow(vm: &mut Vm) -> Result<Exit> {
    use std::io::Write as _;
    while let Some((_, signal)) = vm.signal().await {
        match signal {
            Signal::Output(line) => {
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            Signal::ReproducerEnded(ReproducerEnd::Status(0)) => return Ok(Exit::Expected),
            Signal::ReproducerEnded(ReproducerEnd::Status(_)) => return Ok(Exit::Contrary),
            Signal::ReproducerEnded(ReproducerEnd::Lost(why)) => bail!("the connection was lost: {why}"),
            Signal::Trouble(trouble) => bail!("{trouble}"),
            Signal::Exited(end) => bail!("the VM ended: {}", how(&end)),
            _ => {}
        }
    }
    bail!("the VM ended")
}

/// Hands the terminal to the system's ssh.
async fn interactive(vm: &mut Vm, key: &Key, folder: &Path, host_key: &str, events: &Events) -> Result<Exit> {
    let port = vm.ssh_port().context("a replayed VM has no shell")?;
    let (identity, known) = (folder.join("key"), folder.join("known_hosts"));
    let mut options = std::fs::OpenOptions::new();
    use std::io::Write as _;
    options.create_new(true).write(true).mode(0o600).open(&identity)?.write_all(key.private().as_bytes())?;
    std::fs::write(&known, format!("[127.0.0.1]:{port} {host_key}\n"))?;
    events.send(Event::Warning { message: format!("the guest's ssh port is 127.0.0.1:{port}; leave the shell to end the VM") });
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.arg("-i").arg(&identity).arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.args(["-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-p", &port.to_string(), "root@127.0.0.1"]);
    let mut child = ssh
        .stdin(Stdio::inherit())
        .spawn()
        .context("starting `ssh`: run `apt-get install openssh-client`, or give a command after `--`")?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(if status?.success() { Exit::Expected } else { Exit::Contrary }),
            signal = vm.signal() => if let None | Some((_, Signal::Exited(_))) = signal {
                let _ = child.kill().await;
                bail!("the VM ended");
            },
        }
    }
}

fn how(end: &VmEnd) -> String {
    match end {
        VmEnd::Stopped | VmEnd::Interrupted => "by us".to_owned(),
        VmEnd::Exited { signal: Some(signal), .. } => format!("QEMU was killed by signal {signal}"),
        VmEnd::Exited { stderr, .. } if !stderr.is_empty() => stderr.clone(),
        VmEnd::Exited { .. } => "the guest reset or powered off".to_owned(),
    }
}
