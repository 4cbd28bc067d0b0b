//! Takes private words out of what is given to others: host and user names, home and cache folders, keys, passwords in URLs.
//!
//! Words are replaced, not cut out, so that what is left still reads. Names are replaced where they stand alone; a name that says nothing (`root`,
//! `localhost`, or one of two letters, which would hit half of a kernel's console) stays. It can't know what is private in a reproducer.
//!
//! Read [`Redactor`] first.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::text::compiled;

/// What is private on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private {
    /// The host's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// Folders, each with the word that takes its place.
    pub folders: Vec<(String, String)>,
}

impl Private {
    /// What is private on this machine. `folders` are more of them.
    #[must_use]
    pub fn here(folders: &[(&Path, &str)]) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let user = [variable("USER"), variable("LOGNAME")].into_iter().find(|user| !user.is_empty()).unwrap_or_default();
        let mut all: Vec<(String, String)> = folders.iter().map(|(path, word)| (path.display().to_string(), (*word).to_owned())).collect();
        all.push((variable("HOME"), "~".to_owned()));
        Self { host: rustix::system::uname().nodename().to_string_lossy().into_owned(), user, folders: all }
    }
}

/// Replaces private words.
#[derive(Debug)]
pub struct Redactor(Vec<Word>);

/// A private word: a pattern, and what takes its place.
#[derive(Debug)]
struct Word {
    /// A part of it in small letters, which is looked for first: patterns are slow, and a console has megabytes.
    needle: String,
    pattern: Regex,
    instead: String,
}

impl Word {
    fn new(needle: &str, pattern: &str, instead: &str) -> Self {
        Self { needle: needle.to_lowercase(), pattern: compiled(pattern), instead: instead.to_owned() }
    }
}

/// Names that say nothing about anybody.
const COMMON: &[&str] = &[
    "root",
    "user",
    "admin",
    "build",
    "builder",
    "runner",
    "nobody",
    "debian",
    "ubuntu",
    "fedora",
    "centos",
    "redhat",
    "linux",
    "kernel",
    "localhost",
    "host",
    "server",
    "machine",
    "guest",
    "hangproof",
    "test",
    "qemu",
    "none",
    "local",
    // Words of the reports themselves, which couldn't be read without them.
    "kvm",
    "tcg",
    "dev",
    "git",
    "directory",
    "tarball",
    "srpm",
    "prebuilt",
    "pass",
    "hang",
    "crash",
    "invalid",
    "trial",
    "trials",
    "trigger",
    "proof",
    "report",
    "source",
    "patch",
    "patches",
    "config",
    "memory",
    "boot",
    "baseline",
    "candidate",
    "fixed",
];

/// Shorter names are words of every console.
const LEAST_LETTERS: usize = 3;

/// What is private wherever it stands: the run may be another machine's.
static ANYWHERE: LazyLock<[Word; 6]> = LazyLock::new(|| {
    [
        Word::new("private key", r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", "(a key)"),
        Word::new("ssh-", r"\bssh-(?:rsa|dss|ed25519) [A-Za-z0-9+/=]{16,}(?: [^\s@]+@[^\s]+)?", "(a public key)"),
        Word::new("ecdsa-", r"\becdsa-sha2-nistp\d+ [A-Za-z0-9+/=]{16,}(?: [^\s@]+@[^\s]+)?", "(a public key)"),
        Word::new("://", r"://[^/\s@]+@", "://"),
        // A name may have any letters.
        Word::new("/home/", r"/home/[^/\s\x22'`:;,()<>|\\]+", "~"),
        Word::new("/root", r"(?m)(^|[\s'\x22=:(])/root(/|\b)", "$1~$2"),
    ]
});

impl Redactor {
    /// A redactor of these words.
    #[must_use]
    pub fn new(private: &Private) -> Self {
        let mut folders: Vec<&(String, String)> =
            private.folders.iter().filter(|(path, _)| path.len() > 1 && path.starts_with('/')).collect();
        // What lies in another one is more exact.
        folders.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let folder = |(path, word): &(String, String)| {
            let path = path.trim_end_matches('/');
            Word::new(path, &format!(r"{}(/|[^A-Za-z0-9._-]|$)", regex::escape(path)), &format!("{word}$1"))
        };
        let mut all: Vec<Word> = folders.into_iter().map(folder).collect();
        let short = private.host.split('.').next().unwrap_or_default();
        let names = [(private.host.as_str(), "host"), (short, "host"), (private.user.as_str(), "user")];
        all.extend(names.into_iter().filter(|(name, _)| tells(name)).map(|(name, word)| {
            let alone = format!(r"(?i)(^|[^A-Za-z0-9]){}($|[^A-Za-z0-9])", regex::escape(name));
            Word::new(name, &alone, &format!("${{1}}{word}${{2}}"))
        }));
        Self(all)
    }

    /// The text without private words.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in self.0.iter().chain(&*ANYWHERE) {
            // Two names side by side share the character between them: a second look finds the second.
            while text.to_ascii_lowercase().contains(&word.needle) {
                let next = word.pattern.replace_all(&text, word.instead.as_str()).into_owned();
                if next == text {
                    break;
                }
                text = next;
            }
        }
        text
    }

    /// A value whose texts are without private words, names of fields among them.
    ///
    /// # Errors
    /// When the value can't be told without them.
    pub fn value<T: Serialize + DeserializeOwned>(&self, value: &T) -> serde_json::Result<T> {
        serde_json::from_value(self.json(serde_json::to_value(value)?))
    }

    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (self.text(&name), self.json(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }
}

/// Whether a name says something about somebody.
#[must_use]
pub fn tells(name: &str) -> bool {
    name.len() >= LEAST_LETTERS && !COMMON.contains(&name.to_lowercase().as_str())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let folder = |path: &str, word: &str| (path.to_owned(), word.to_owned());
        Redactor::new(&Private {
            host: "forge7.example.org".to_owned(),
            user: "alice".to_owned(),
            folders: vec![folder("/home/alice", "~"), folder("/home/alice/.cache/hangproof", "cache"), folder("/srv/acme", "definitions")],
        })
    }

    #[test]
    fn private_words_are_replaced_and_others_stay() {
        let check = |text: &str, expected: &str| assert_eq!(redactor().text(text), expected);
        check("cc: /home/alice/.cache/hangproof/work/x: error", "cc: cache/work/x: error");
        check("--definitions /srv/acme/k --source k=/home/alice/linux", "--definitions definitions/k --source k=~/linux");
        check("'/home/jürgen/linux' and \"/home/żółw\"", "'~/linux' and \"~\"");
        check("/home/alicent and /srv/acme2 and alicea", "~ and /srv/acme2 and alicea");
        check("forge7 login: alice@forge7.example.org alice alice", "host login: user@host user user");
        check("https://bob:secret@example.org/linux.git", "https://example.org/linux.git");
        check("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----\nmore", "(a key)\nmore");
        check("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB bob@elsewhere", "(a public key)");
        check("root=/dev/md127 /rootfs /root/x", "root=/dev/md127 /rootfs ~/x");
        check("Linux vm.overcommit jbd2/md127-8", "Linux vm.overcommit jbd2/md127-8");
    }

    #[test]
    fn names_that_say_nothing_stay() {
        let private = Private { host: "vm".to_owned(), user: "root".to_owned(), folders: Vec::new() };
        assert_eq!(Redactor::new(&private).text("vm.x root"), "vm.x root");
    }

    proptest::proptest! {
        #[test]
        fn nothing_private_is_left(parts in proptest::collection::vec("[a-z/ .@:-]{0,3}|alice|forge7|forge7.example.org|/home/alice|/srv/acme", 0..12)) {
            let text = parts.concat();
            let out = redactor().text(&text);
            let words = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert!(!words(&out).iter().any(|word| word == "alice" || word == "forge7"), "{text:?} {out:?}");
            proptest::prop_assert!(!out.contains("/home/"), "{text:?} {out:?}");
        }
    }

    #[test]
    fn values_are_redacted_inside() {
        let value: Vec<(String, u32)> = redactor().value(&vec![("at forge7\nalice".to_owned(), 1)]).unwrap();
        assert_eq!(value, [("at host\nuser".to_owned(), 1)]);
    }
}
