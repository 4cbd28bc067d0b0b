//! Which commands a line of a spec file's shell script runs, as far as its words show.
//!
//! It is no shell: nothing is expanded or run, and what can't be told is taken for what patches, since a patch that is left out without a word makes
//! another kernel. Quoted text is no command, unless a shell is told to run it; what both ways of a `%{?NAME:...}` make of a line is looked at.
//!
//! Read [`patches`] first, then [`Line`].

/// What kernels' spec files call the functions of `%prep` that apply a patch.
pub const HOOKS: [&str; 2] = ["ApplyPatch", "ApplyOptionalPatch"];

const PATCHERS: [&str; 8] = ["patch", "gpatch", "patch-kernel", "quilt", "git-apply", "git-am", "autosetup", "guilt"];
/// What git does to patch.
const APPLIES: [&str; 2] = ["apply", "am"];
/// Words before a command that leave the next one in its place.
const KEYWORDS: [&str; 8] = ["if", "then", "else", "elif", "while", "until", "do", "!"];
/// Programs that run another one, somewhere among their words.
const WRAPPERS: [&str; 19] = [
    "sudo", "env", "nice", "ionice", "nohup", "time", "timeout", "setsid", "stdbuf", "chroot", "fakeroot", "flock", "busybox", "exec",
    "command", "builtin", "xargs", "parallel", "find",
];
/// Programs that run a file.
const INTERPRETERS: [&str; 6] = [".", "source", "perl", "python", "python2", "python3"];
/// Those that run a text.
const SHELLS: [&str; 9] = ["sh", "bash", "dash", "ksh", "zsh", "su", "eval", "trap", "alias"];
const DECLARATIONS: [&str; 5] = ["local", "export", "declare", "typeset", "readonly"];

/// How deep texts within texts are read.
const DEEPEST: usize = 8;

/// Whether a line applies a patch: by a hook, which may be named anywhere, or by a program. `is_clear` says that no quotation began in an earlier line.
pub fn patches(text: &str, is_clear: bool) -> bool {
    let names_hook = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| HOOKS.contains(&word));
    names_hook
        || runs_patch(text, DEEPEST)
        || (!is_clear || Line::read(text).is_open) && runs_patch(&text.replace(['"', '\'', '{', '}'], ""), DEEPEST)
}

fn runs_patch(text: &str, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    // The body of a conditional macro is a command of its own, or words of the one around it.
    let ways: &[&str] = if text.contains("%{") { &[";", " "] } else { &[";"] };
    ways.iter().any(|between| Line::read(&unconditional(text, between)).commands.iter().any(|words| command_patches(words, depth)))
}

/// Whether a simple command patches.
fn command_patches(words: &[String], depth: usize) -> bool {
    let mut words = words;
    while let [word, rest @ ..] = words {
        if let Some(value) = assigned(word) {
            if runs_patch(value, depth) {
                return true;
            }
        } else if is_patcher(word) {
            return true;
        } else if !KEYWORDS.contains(&word.as_str()) {
            let name = program(word);
            // A variable or a macro may be empty, or such a program.
            let is_unknown = word.starts_with(['$', '%']) && !word.contains('/') && !word.contains("__");
            return match name.as_str() {
                "git" => rest.iter().any(|word| APPLIES.contains(&word.as_str())),
                "command" if rest.first().is_some_and(|option| option.eq_ignore_ascii_case("-v")) => false,
                "find" => {
                    let run = rest.iter().position(|word| word.starts_with("-exec") || word.starts_with("-ok"));
                    run.is_some_and(|run| any_patches(&rest[run..], depth))
                }
                name if DECLARATIONS.contains(&name) => rest.iter().filter_map(|word| assigned(word)).any(|value| runs_patch(value, depth)),
                name if WRAPPERS.contains(&name) || SHELLS.contains(&name) => any_patches(words, depth),
                _ if is_unknown => rest.first().is_some_and(|word| is_patcher(word) || APPLIES.contains(&word.as_str())),
                _ => false,
            };
        }
        words = rest;
    }
    false
}

/// Where in a simple command the words stand that may name the program which it runs: its first, and all of those of a program that runs others.
pub fn programs(words: &[String]) -> std::ops::Range<usize> {
    let start = words.iter().take_while(|word| assigned(word).is_some() || KEYWORDS.contains(&word.as_str())).count();
    let runs_others = words.get(start).is_some_and(|word| {
        let name = program(word);
        [&WRAPPERS[..], &SHELLS[..], &INTERPRETERS[..]].concat().contains(&name.as_str())
    });
    start..if runs_others { words.len() } else { words.len().min(start + 1) }
}

/// Whether any of a command's words is one that patches: which of them are options' values isn't known here.
fn any_patches(words: &[String], depth: usize) -> bool {
    let (mut git, mut shell) = (false, false);
    words.iter().any(|word| {
        let name = program(word);
        let patches =
            is_patcher(word) || git && APPLIES.contains(&word.as_str()) || shell && runs_patch(assigned(word).unwrap_or(word), depth);
        git |= name == "git";
        shell |= SHELLS.contains(&name.as_str());
        patches
    })
}

/// The value that a word gives to a variable.
fn assigned(word: &str) -> Option<&str> {
    let (name, value) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(value)
}

/// The program that a word names: `git` for `/usr/bin/git`, `%{__git}` and `$GIT`.
pub fn program(word: &str) -> String {
    let name = word.rsplit('/').next().unwrap_or(word);
    name.trim_matches(['$', '%', '{', '}', '?', '!']).trim_start_matches("__").to_ascii_lowercase()
}

fn is_patcher(word: &str) -> bool {
    let name = program(word);
    PATCHERS.contains(&name.as_str()) || word.starts_with(['$', '%']) && !word.contains('/') && name.contains("patch")
}

/// A text with what conditional macros stand for, each body between two separators.
fn unconditional(text: &str, between: &str) -> String {
    let (mut flat, mut open, mut rest) = (String::new(), Vec::new(), text);
    while let Some(place) = rest.find(['%', '{', '}']) {
        flat.push_str(&rest[..place]);
        let here = &rest[place..];
        let body = here.strip_prefix("%{").and_then(|inside| {
            let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || "_?!".contains(c)))?;
            inside[end..].strip_prefix(':')
        });
        let length = match body {
            Some(_) => 0,
            None if here.starts_with("%%") || here.starts_with("%{") => 2,
            None => 1,
        };
        if body.is_some() || here.starts_with("%{") || here.starts_with('{') {
            open.push(body.is_some());
        }
        let ends = here.starts_with('}') && open.pop() == Some(true);
        if body.is_some() || ends {
            flat.push_str(between);
        } else {
            flat.push_str(&here[..length]);
        }
        rest = body.unwrap_or(&here[length.max(1)..]);
    }
    flat.push_str(rest);
    flat
}

/// A line, divided.
#[derive(Debug, Default)]
pub struct Line {
    /// The words of each simple command, without quotes and redirections; inner commands come first.
    pub commands: Vec<Vec<String>>,
    /// How many `{` it leaves open, less those that it closes.
    pub braces: isize,
    /// The same for parentheses, but for those of the patterns of a `case`.
    parentheses: isize,
    /// A quotation goes on after its end.
    pub is_open: bool,
}

/// Commands within `(...)`, `$(...)` or backquotes, or the line's own.
#[derive(Default)]
struct Frame {
    /// What ends it.
    end: Option<char>,
    /// Its output is part of a word.
    is_word: bool,
    words: Vec<String>,
    word: String,
    /// The next word is a redirection's.
    redirects: bool,
    quoted: bool,
    /// How many `${` and `%{` are open.
    braces: usize,
}

impl Frame {
    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        if !word.is_empty() && !std::mem::take(&mut self.redirects) {
            self.words.push(word);
        }
    }
}

impl Line {
    /// Divides a text.
    pub fn read(text: &str) -> Self {
        let mut line = Self::default();
        let (mut outer, mut frame) = (Vec::new(), Frame::default());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let next = chars.peek().copied();
            match c {
                '\\' => frame.word.extend(chars.next()),
                '"' => frame.quoted = !frame.quoted,
                '\'' if !frame.quoted => {
                    let mut closed = false;
                    frame.word.extend(chars.by_ref().take_while(|c| {
                        closed = *c == '\'';
                        !closed
                    }));
                    line.is_open |= !closed;
                }
                '$' | '%' if next == Some('{') => {
                    frame.word.extend([c, '{']);
                    chars.next();
                    frame.braces += 1;
                }
                '}' if frame.braces > 0 => {
                    frame.word.push(c);
                    frame.braces -= 1;
                }
                '`' if frame.end == Some('`') => line.close(&mut frame, &mut outer),
                '`' => outer.push(std::mem::replace(&mut frame, Frame { end: Some('`'), is_word: true, ..Frame::default() })),
                '$' if next == Some('(') => {
                    chars.next();
                    outer.push(std::mem::replace(&mut frame, Frame { end: Some(')'), is_word: true, ..Frame::default() }));
                }
                _ if frame.quoted || frame.braces > 0 => frame.word.push(c),
                '#' if frame.word.is_empty() => while chars.next_if(|c| *c != '\n').is_some() {},
                '&' if next == Some('>') => frame.end_word(),
                ';' | '|' | '&' | '\n' => line.end_command(&mut frame),
                '(' => {
                    line.end_command(&mut frame);
                    outer.push(std::mem::replace(&mut frame, Frame { end: Some(')'), ..Frame::default() }));
                }
                ')' if frame.end == Some(')') => line.close(&mut frame, &mut outer),
                ')' => {
                    line.parentheses -= isize::from(frame.words.is_empty() && frame.word.is_empty());
                    line.end_command(&mut frame);
                }
                '<' | '>' => {
                    // `2>` is one of the file 2.
                    if frame.word.chars().all(|c| c.is_ascii_digit()) {
                        frame.word.clear();
                    }
                    frame.end_word();
                    while chars.next_if(|c| "<>&|".contains(*c)).is_some() {}
                    frame.redirects = true;
                }
                c if c.is_whitespace() => {
                    let brace = [("{", 1), ("}", -1)].into_iter().find(|(brace, _)| *brace == frame.word);
                    line.braces += brace.map_or(0, |(_, count)| count);
                    if brace.is_some() {
                        frame.word.clear();
                        line.end_command(&mut frame);
                    }
                    frame.end_word();
                }
                c => frame.word.push(c),
            }
        }
        loop {
            line.is_open |= frame.quoted || frame.braces > 0 || frame.end == Some('`');
            line.parentheses += isize::from(frame.end == Some(')'));
            line.end_command(&mut frame);
            let Some(next) = outer.pop() else { return line };
            frame = next;
        }
    }

    fn end_command(&mut self, frame: &mut Frame) {
        match frame.word.as_str() {
            "{" => self.braces += 1,
            "}" => self.braces -= 1,
            _ => frame.end_word(),
        }
        frame.word.clear();
        frame.redirects = false;
        if !frame.words.is_empty() {
            self.commands.push(std::mem::take(&mut frame.words));
        }
    }

    /// Goes back to the commands around.
    fn close(&mut self, frame: &mut Frame, outer: &mut Vec<Frame>) {
        frame.end_word();
        // `$(command -v patch) -p1` runs what was printed, which most often is the last word.
        let last = if frame.is_word { frame.words.last().cloned() } else { None };
        self.end_command(frame);
        if let Some(around) = outer.pop() {
            *frame = around;
        }
        frame.word.extend(last);
    }

    /// How many compound commands it leaves open, less those that it ends.
    pub fn opens(&self) -> isize {
        let compound = |words: &Vec<String>| {
            let mut opened = 0;
            for word in words {
                match word.as_str() {
                    "if" | "while" | "until" => opened += 1,
                    "for" | "case" | "select" => return opened + 1,
                    "fi" | "done" | "esac" => return opened - 1,
                    word if KEYWORDS.contains(&word) => {}
                    _ => break,
                }
            }
            opened
        };
        self.commands.iter().map(compound).sum::<isize>() + self.braces + self.parentheses
    }
}
