//! The bad definitions: each is one edit of a good one.
//!
//! Data only. What is said about each is in the snapshots beside this file.
//!
//! Read [`Case`] first.

/// The kernel with a source.
pub const BASE: &str = "kernels/base.yaml";
/// The kernel that extends it.
pub const VARIANT: &str = "kernels/variant.yaml";
/// The image.
pub const DISK: &str = "images/disk.yaml";
/// The pipeline.
pub const WRITERS: &str = "pipelines/writers/pipeline.yaml";

/// A name for the case, the file, the text that is replaced (all of it when empty), and what it becomes.
pub type Case = (&'static str, &'static str, &'static str, &'static str);

/// What is no YAML, or YAML that a definition may not use.
pub const SYNTAX: &[Case] = &[
    ("malformed: a bracket is open", BASE, "[first.patch]", "[first.patch"),
    ("malformed: a tab indents", BASE, "  host", "\thost"),
    ("malformed: a quote is open", BASE, "gcc", "\"gcc"),
    ("malformed: indentation", BASE, "  fragments", " fragments"),
    ("malformed after a wide character", BASE, "a kernel with a source", "ä 内核 }: {"),
    ("empty", BASE, "", ""),
    ("only a comment", BASE, "", "# nothing\n"),
    ("a list", BASE, "", "- name: base\n"),
    ("a word", BASE, "", "base\n"),
    ("two documents", BASE, "source:", "---\nsource:"),
    ("an anchor and its alias", BASE, "{package: linux-source-6.1}", "&a {package: linux-source-6.1}\nextends: *a"),
    ("an alias bomb", BASE, "", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
    ("an alias of nothing", BASE, "[first.patch]", "[*first]"),
    ("a tag", BASE, "source:\n  debian:", "source: !debian\n  debian:"),
    ("a key twice", BASE, "toolchain:", "name: base\ntoolchain:"),
    ("a key that is a list", BASE, "toolchain:", "? [a]\n: b\ntoolchain:"),
    ("a merge key", BASE, "toolchain:", "<<: {a: b}\ntoolchain:"),
    ("a key that is a number", BASE, "toolchain:", "5: b\ntoolchain:"),
    ("nested too deeply", BASE, "[first.patch]", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"),
];

/// Kernels.
pub const KERNELS: &[Case] = &[
    ("unknown key near a known one", BASE, "patches:", "patchs:"),
    ("unknown key far from all", BASE, "patches:", "xyz:"),
    ("unknown key that moves the cursor", BASE, "patches:", "\"p\\e[2J\":"),
    ("unknown key deep inside", BASE, "compiler: gcc", "compiler: gcc, version: 12"),
    ("a misspelled required key is reported once", BASE, "toolchain:", "toolchan:"),
    ("missing keys", BASE, "", "name: base\n"),
    ("missing keys deep inside", BASE, "{package: linux-source-6.1}", "{}"),
    ("a key without a value", BASE, "{package: linux-source-6.1}", ""),
    ("a number for a string", BASE, "a kernel with a source", "6.1"),
    ("a list for a string", BASE, "a kernel with a source", "[a]"),
    ("a string for a list", BASE, "[first.patch]", "first.patch"),
    ("a number in a list", BASE, "[first.patch]", "[1, first.patch, true]"),
    ("a string for a map", BASE, "{compiler: gcc}", "gcc"),
    ("description of two lines", BASE, "a kernel with a source", "\"a\\nb\""),
    ("description of nothing", BASE, "a kernel with a source", "\"\""),
    ("bad name", BASE, "name: base", "name: Base/1"),
    ("another name than the file's", BASE, "name: base", "name: bass"),
    ("two files of one name", BASE, "name: base", "name: variant"),
    ("dangling extends", VARIANT, "extends: base", "extends: bas"),
    ("dangling extends, nothing near", VARIANT, "extends: base", "extends: mainline"),
    ("extends misspelled", VARIANT, "extends: base", "extend: base"),
    ("extends a number", VARIANT, "extends: base", "extends: 6.1"),
    ("extends itself", VARIANT, "extends: base", "extends: variant"),
    ("no source", BASE, "source:\n  debian: {package: linux-source-6.1}\n", ""),
    ("a wrong source is not replaced by a second report", BASE, "debian: {package: linux-source-6.1}", "debian: [linux-source-6.1]"),
    ("a source of nothing", BASE, "debian: {package: linux-source-6.1}", "{}"),
    ("two sources", BASE, "debian: {package: linux-source-6.1}", "debian: {package: a}\n  directory: {path: /a}"),
    ("unknown source", BASE, "debian: {package: linux-source-6.1}", "debain: {package: linux-source-6.1}"),
    ("package with an option", BASE, "linux-source-6.1", "--allow-unauthenticated"),
    ("version with a space", BASE, "linux-source-6.1", "a, version: \"1 2\""),
    ("git without a repository", BASE, "debian: {package: linux-source-6.1}", "git: {revision: v6.1}"),
    ("git with a relative repository", BASE, "debian: {package: linux-source-6.1}", "git: {repository: ../linux, revision: v6.1}"),
    ("git with an option", BASE, "debian: {package: linux-source-6.1}", "git: {repository: /linux, revision: --upload-pack=x}"),
    ("relative directory", BASE, "debian: {package: linux-source-6.1}", "directory: {path: linux}"),
    ("directory with ..", BASE, "debian: {package: linux-source-6.1}", "directory: {path: /a/../b}"),
    ("URL without a digest", BASE, "debian: {package: linux-source-6.1}", "tarball: {url: \"https://a/b.tar\"}"),
    ("bad digest", BASE, "debian: {package: linux-source-6.1}", "tarball: {path: /b.tar, sha256: 1234abcd}"),
    ("not a URL", BASE, "debian: {package: linux-source-6.1}", "tarball: {url: \"ftp://a\", sha256: x}"),
    ("both path and URL", BASE, "debian: {package: linux-source-6.1}", "tarball: {path: /a, url: \"https://a\"}"),
    ("compiler with arguments", BASE, "gcc", "gcc -m32"),
    ("unknown configuration", BASE, "base: allnoconfig", "base: alnoconfig"),
    ("configuration in no file", BASE, "base: allnoconfig", "base: {file: all.config}"),
    ("configuration outside the tree", BASE, "base: allnoconfig", "base: {vendor: ../config}"),
    ("configuration of two kinds", BASE, "base: allnoconfig", "base: {file: base.config, vendor: a}"),
    ("configuration without a base", BASE, "  base: allnoconfig\n", ""),
    ("configuration in a number", BASE, "base: allnoconfig", "base: 5"),
    ("missing fragment", BASE, "[base.config]", "[bsae.config]"),
    ("missing patch", BASE, "[first.patch]", "[first.patch, frist.patch, other.patch]"),
    ("a patch that is a folder", BASE, "[first.patch]", "[.]"),
    ("patch outside", BASE, "[first.patch]", "[../kernels/base.config]"),
    ("absolute patch", BASE, "[first.patch]", "[/etc/passwd]"),
    ("patch twice", BASE, "[first.patch]", "[first.patch, first.patch]"),
    ("patch that the base has", VARIANT, "[second.patch]", "[second.patch, first.patch]"),
    ("missing compatibility patch", BASE, "[compat.patch]", "[compat]"),
    ("boot argument of two words", BASE, "cgroup.memory=nokmem", "a b"),
    ("boot arguments of ours", BASE, "cgroup.memory=nokmem", "console=ttyS1, root=/dev/sda, init=/bin/sh, panic=1"),
    ("boot argument with a newline", BASE, "cgroup.memory=nokmem", "\"a\\nb\""),
    ("a variant redefines", VARIANT, "fragments:", "base: defconfig\n  fragments:"),
    (
        "a variant redefines more",
        VARIANT,
        "extends: base",
        "extends: base\nsource: {directory: {path: /a}}\ntoolchain: {host: {compiler: gcc}}",
    ),
    ("several at once", BASE, "source:", "colour: red\nextends: 5\nsource:\n  svn: {}\nold-source:"),
];

/// Images.
pub const IMAGES: &[Case] = &[
    ("missing keys", DISK, "", "name: disk\n"),
    ("unknown layout", DISK, "layout: md", "layout: raid5"),
    ("size without a unit", DISK, "512 MiB", "512"),
    ("size in another unit", DISK, "512 MiB", "512 MB"),
    ("too small", DISK, "512 MiB", "63 MiB"),
    ("too large", DISK, "512 MiB", "1025 GiB"),
    ("more than a number holds", DISK, "512 MiB", "99999999999999999999 TiB"),
    ("unknown features", DISK, "has_journal, extent", "has_jurnal, ^64bit, extent, extent"),
    ("relative program", DISK, "/usr/bin/fio", "fio"),
    ("several at once", DISK, "layout: md\nsize: 512 MiB", "layout: [md]\nsize: 5\ncolour: red"),
];

/// Pipelines.
pub const PIPELINES: &[Case] = &[
    ("missing keys", WRITERS, "", "name: writers\n"),
    ("missing keys deep inside", WRITERS, "{cpus: 2, memory: 2 GiB}", "{}"),
    ("no kernels", WRITERS, "  - {kernel: base, expect: pass}\n  - {kernel: variant, expect: hang}\n", "  []\n"),
    ("a kernel twice", WRITERS, "kernel: variant", "kernel: base"),
    ("dangling kernel", WRITERS, "kernel: variant", "kernel: varient"),
    ("an item without a kernel", WRITERS, "kernel: variant, ", ""),
    ("unknown expectation", WRITERS, "expect: hang", "expect: hangs"),
    ("dangling image", WRITERS, "image: disk", "image: disc"),
    ("no CPU", WRITERS, "cpus: 2", "cpus: 0"),
    ("many CPUs", WRITERS, "cpus: 2", "cpus: 65"),
    ("negative CPUs", WRITERS, "cpus: 2", "cpus: -1"),
    ("little memory", WRITERS, "2 GiB", "255 MiB"),
    ("much memory", WRITERS, "2 GiB", "2 TiB"),
    ("unknown hierarchy", WRITERS, "cgroup: v2", "cgroup: v3"),
    ("missing reproducer", WRITERS, "c: writers.c", "c: writer.c"),
    ("reproducer outside", WRITERS, "c: writers.c", "file: ../../kernels/base.config"),
    ("two reproducers", WRITERS, "c: writers.c", "c: writers.c\n  file: writers.c"),
    ("no reproducer", WRITERS, "c: writers.c\n", "\n"),
    ("bad parameters", WRITERS, "processes: 2", "Processes: 2\n    a_b: 1\n    rate: 0.10\n    text: \"a\\nb\""),
    ("parameters of the trial", WRITERS, "processes: 2", "dir: /mnt\n    duration: 40"),
    ("relative addition", WRITERS, "[/usr/bin/fio]", "[usr/bin/fio]"),
    ("duration of 0", WRITERS, "duration: 40s", "duration: 0s"),
    ("duration without a unit", WRITERS, "duration: 40s", "duration: 40"),
    ("duration in words", WRITERS, "duration: 40s", "duration: forty seconds"),
    ("duration for ever", WRITERS, "duration: 40s", "duration: 721h"),
    ("stall not below silence", WRITERS, "stall: 500ms", "stall: 1min"),
    ("no trigger", WRITERS, "oom-kills: 10\n  commits: 10", "oom-kills: 0\n  commits: 0"),
    (
        "a signature of nothing",
        WRITERS,
        "  signature:\n    - {task: jbd2/*, in: jbd2_journal_commit_transaction}\n    - {in: jbd2_log_wait_commit}\n",
        "  signature: []\n",
    ),
    (
        "a hang without a signature",
        WRITERS,
        "  signature:\n    - {task: jbd2/*, in: jbd2_journal_commit_transaction}\n    - {in: jbd2_log_wait_commit}\n",
        "  {}\n",
    ),
    ("a stuck task without a function", WRITERS, "task: jbd2/*, in: jbd2_journal_commit_transaction", "task: jbd2/*"),
    (
        "a stuck task's name and function",
        WRITERS,
        "task: jbd2/*, in: jbd2_journal_commit_transaction",
        "task: jbd2/*-8, in: jbd2_log_wait_commit+0x1",
    ),
    ("a stuck task of too long a name", WRITERS, "task: jbd2/*", "task: a-name-of-sixteen"),
    ("a stuck task in a list of functions", WRITERS, "in: jbd2_log_wait_commit", "in: [jbd2_log_wait_commit]"),
    ("no repeats", WRITERS, "repeats: 3", "repeats: 0"),
    ("repeats by the word", WRITERS, "repeats: 3", "repeats: three"),
    ("several at once", WRITERS, "machine: {cpus: 2, memory: 2 GiB}", "machine: {cpus: x, memory: 1 GB, disks: 3}\nimmage: disk"),
];
