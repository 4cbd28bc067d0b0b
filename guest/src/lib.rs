//! The wire format between the host program and the agent inside the guest.
//!
//! One JSON object a line, in both directions, over the virtio-serial port [`PORT`]; and one JSON file, [`Assignment`], which the host
//! appends to the initramfs of each trial. This file holds data only: it opens nothing and knows neither QEMU nor ext4. Both sides are
//! built from the same source, so there is no version negotiation; [`Report::Hello`] carries the version so that a mix-up is seen.
//!
//! Read [`Report`] first.

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port, as QEMU's `virtserialport,name=` and `/sys/class/virtio-ports/*/name` spell it.
pub const PORT: &str = "hangproof.agent.0";

/// Where the host puts the [`Assignment`] in the initramfs.
pub const ASSIGNMENT: &str = "/hangproof/assignment.json";

/// Folder of the initramfs that the agent lays over the root filesystem before the ssh server starts: `/hangproof/payload/usr/bin/x` becomes
/// `/usr/bin/x`, with its mode.
pub const PAYLOAD: &str = "/hangproof/payload";

/// Folder of the root filesystem for what has no place of its own there: the reproducer and its files.
pub const PAYLOAD_TARGET: &str = "/opt/hangproof";

/// Time between two heartbeats in milliseconds.
pub const BEAT_INTERVAL_MS: u64 = 500;

/// Most bytes of one line on the wire; a longer one is a protocol error (a guest is hostile).
pub const LINE_LIMIT: usize = 8 * 1024 * 1024;

/// What the agent of one trial has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// How the root filesystem is reached.
    pub root: Root,
    /// Which memory-cgroup hierarchy to mount.
    pub cgroup: CgroupVersion,
    /// The only ssh public key that may log in as root, in `authorized_keys` form.
    pub authorized_key: String,
    /// What the ssh server's ed25519 key is made of: the host's randomness, because an old kernel that has just started has none (until 3.17 only a
    /// daemon brings it what virtio-rng offers), and lets a program wait for it without end.
    pub host_key_seed: [u8; 32],
    /// `kernel.*` and `vm.*` settings to write below `/proc/sys`, as (path with slashes, value); missing ones are reported, not fatal.
    pub sysctls: Vec<(String, String)>,
    /// Kernel modules to load before the disks are looked for, as paths in the initramfs, in order.
    pub modules: Vec<String>,
}

/// How the root filesystem is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// ext4 on an md array that is assembled from `members`.
    Md {
        /// The array's device node, for example `/dev/md127`.
        array: String,
        /// Its member disks, for example `/dev/vda` and `/dev/vdb`.
        members: Vec<String>,
    },
    /// ext4 on a disk.
    Disk {
        /// The device node, for example `/dev/vda`.
        device: String,
    },
}

/// Which memory-cgroup hierarchy the guest mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupVersion {
    /// Version 2 where the kernel has it with a memory controller, else version 1.
    Auto,
    /// Version 1, `memory` at `/sys/fs/cgroup/memory`.
    V1,
    /// Version 2, unified at `/sys/fs/cgroup`.
    V2,
}

/// A line from the agent to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// The agent runs; first line of every boot.
    Hello {
        /// Version of the agent.
        agent: String,
        /// `/proc/version`.
        kernel: String,
        /// `/proc/cmdline`.
        command_line: String,
        /// `/sys/kernel/vmcoreinfo` (address and size), if the kernel has it: a memory dump is hard to read without it.
        vmcoreinfo: Option<String>,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// The agent reached a step of the boot.
    Step {
        /// Which one.
        step: Step,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// The guest is ready: root mounted, ssh server listening.
    Ready {
        /// The ssh server's public host key, as `algorithm base64`.
        host_key: String,
        /// What is mounted as the root under test: device, filesystem, md state (for the report).
        root: String,
        /// Hierarchy that was mounted for memory cgroups: 1 or 2.
        cgroup: u8,
        /// Settings of the assignment that this kernel doesn't have.
        missing_sysctls: Vec<String>,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// The agent can't go on.
    Failed {
        /// The step that failed.
        step: Step,
        /// Why, with the operating system's words.
        error: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// A heartbeat: both clocks.
    Beat(Beat),
    /// Answer to [`Request::Look`].
    Look(Look),
    /// Answer to [`Request::Counters`].
    Counters {
        /// The request's number.
        id: u64,
        /// One entry per memory cgroup that has a limit.
        cgroups: Vec<CgroupCounters>,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// Answer to [`Request::Log`].
    Log {
        /// The request's number.
        id: u64,
        /// The kernel log from its oldest record on, lines separated by `\n`; cut at the line limit of the wire.
        log: String,
    },
    /// Answer to [`Request::Sysrq`]: the kernel has done what the key says, and written its output to the log.
    Pressed {
        /// The key.
        key: char,
    },
    /// A request could not be carried out.
    Refused {
        /// The request's number.
        id: u64,
        /// Why.
        error: String,
    },
}

/// A step of the guest's boot, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Mounts `/proc`, `/sys`, `/dev` and reads the assignment.
    Start,
    /// Loads kernel modules.
    Modules,
    /// Mounts the cgroup hierarchy and writes sysctls.
    Settings,
    /// Waits for the disks and assembles the array.
    Array,
    /// Mounts the root filesystem.
    Root,
    /// Copies the payload into the root.
    Payload,
    /// Brings the network up.
    Network,
    /// Starts the ssh server.
    Ssh,
}

/// One heartbeat, sent every [`BEAT_INTERVAL_MS`] by a thread that never touches the filesystem under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Number of the beat, from 0.
    pub seq: u64,
    /// First clock: milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// Second clock: filesystem probes (a small write and fsync outside any memory cgroup) completed.
    pub probes: u64,
    /// Milliseconds that the probe under way has taken so far; 0 between two probes.
    pub probe_pending_ms: u64,
    /// Memory-cgroup OOM kills in the kernel log since boot.
    pub oom_kills: u64,
    /// Transactions that the root's journal committed since it was mounted; none where the kernel doesn't tell.
    pub commits: Option<u64>,
}

/// What the tasks of the guest were doing at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The request's number.
    pub id: u64,
    /// Milliseconds since the kernel started, when the look began.
    pub uptime_ms: u64,
    /// The kernel log that sysrq `w`, `t` and `l` produced, lines separated by `\n`, with the log's time stamps.
    pub log: String,
    /// Tasks with a pending SIGKILL: they were told to die and have not.
    pub dying: Vec<Dying>,
    /// Stacks of tasks that run or are ready to. The kernel's own task list can't show them: it unwinds from where a task last slept.
    pub running: Vec<Running>,
    /// Counters of every memory cgroup that has a limit, read at the look's end; empty before the hierarchy is mounted.
    #[serde(default)]
    pub cgroups: Vec<CgroupCounters>,
    /// Tries to reclaim memory for a charge that may not enter the filesystem, since the look before, by task and flags; empty where the kernel has no such tracepoint.
    #[serde(default)]
    pub reclaims: Vec<Reclaim>,
    /// Whether these are all tries: tasks that spin make more of them than the kernel holds.
    #[serde(default)]
    pub all_reclaims: bool,
}

/// Tries of a task to make room in its memory cgroup, each for one charge that hit the limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// Thread identifier.
    pub tid: u32,
    /// The charge's allocation flags in the kernel's words, such as `GFP_NOFS|__GFP_NOFAIL`.
    pub flags: String,
    /// How many began before this look's stacks were taken.
    pub before: u32,
    /// How many began while they were taken.
    pub during: u32,
}

/// A task that runs or is ready to, and its stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Thread identifier.
    pub tid: u32,
    /// Thread group.
    pub tgid: u32,
    /// Name of the task.
    pub comm: String,
    /// `/proc/PID/task/TID/stack`: the deepest of the samples in which it was awake.
    pub stack: String,
    /// In how many samples it was awake: a task that spins is in all, one that sleeps a little and tries again in some.
    pub awake: u32,
    /// How many samples there were.
    pub samples: u32,
    /// How often it went to sleep between its first and its last sample (`voluntary_ctxt_switches`).
    pub slept: u64,
}

/// A task that was told to die and has not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dying {
    /// Thread identifier: the number that the task list shows.
    pub tid: u32,
    /// Thread group: the number that `Killed process N` shows.
    pub tgid: u32,
    /// Name of the task.
    pub comm: String,
    /// State letter of `/proc/PID/stat`.
    pub state: char,
}

/// Counters of one memory cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupCounters {
    /// Path below the hierarchy's root.
    pub path: String,
    /// Bytes charged.
    pub usage: u64,
    /// Limit in bytes.
    pub limit: u64,
    /// Charges that hit the limit (`failcnt`, or `max` of `memory.events`).
    pub hits: u64,
    /// OOM kills in it, where the kernel counts them.
    pub oom_kills: Option<u64>,
}

/// A line from the host to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Take a look at all tasks; answered by [`Report::Look`].
    Look {
        /// Number that comes back with the answer.
        id: u64,
    },
    /// Read the memory cgroups' counters; answered by [`Report::Counters`].
    Counters {
        /// Number that comes back with the answer.
        id: u64,
    },
    /// Read the whole kernel log; answered by [`Report::Log`].
    Log {
        /// Number that comes back with the answer.
        id: u64,
    },
    /// Probe the filesystem now instead of at the probe's next turn, and beat when it came back; not answered.
    Probe,
    /// Trigger one sysrq key so that its output is on the serial console; answered by [`Report::Pressed`].
    Sysrq {
        /// The key.
        key: char,
    },
}
