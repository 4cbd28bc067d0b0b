//! What a kernel's spec file does to its tarball, as far as it can be told without running anything.
//!
//! A spec file is a program: `%(...)` and `%{lua:...}` run commands, so rpm never sees one here. This is a reader of its own for what kernels' spec files
//! use: plain macros, conditions on them, `SourceN` and `PatchN` lines, and the `ApplyPatch` and `ApplyOptionalPatch` lines of `%prep`. What it can't
//! decide is no error where it doesn't matter, and a refusal with the line's number where it does.
//!
//! Read [`Recipe`] first, then [`read`]. Which commands a line of `%prep` runs is `shell`'s, and which of them are the package's own `scripts`'.

use std::collections::{BTreeMap, BTreeSet};

use super::distribution::{self, Known};
use super::macros::{Macros, Truth, Unexpandable};
use super::scripts;
use super::shell::{HOOKS, Line, patches};

/// What the spec file does to the tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// `SourceN` by N, with its line: file names.
    pub sources: BTreeMap<u32, (String, usize)>,
    /// `PatchN` by N, with its line: file names.
    pub patches: BTreeMap<u32, (String, usize)>,
    /// What `%prep` applies, in order.
    pub applied: Vec<Hook>,
    /// Files of the package that `%prep` runs as programs, each with the line that does.
    pub scripts: Vec<(String, usize)>,
    /// Lines of `%prep` that seem to change the tree otherwise than by a patch, which isn't repeated here, with their numbers.
    pub unrepeated: Vec<(usize, String)>,
    /// Patches that are listed and that no line applies, whatever its condition: rpmbuild leaves them out too, and who reads a report should know.
    pub unnamed: Vec<String>,
    /// How many lines of context may differ (`patch -F`).
    pub fuzz: u32,
    /// What the Makefile's `EXTRAVERSION` is set to.
    pub extraversion: Option<String>,
}

/// A line that applies a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The patch's file name.
    pub patch: String,
    /// Its line in the spec file.
    pub line: usize,
    /// An `ApplyOptionalPatch` leaves a patch out that has no more lines than this.
    pub more_lines_than: Option<u64>,
}

/// A line that isn't understood, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// What helps with a package that isn't understood.
pub const BRING_A_TREE: &str = "bring a patched tree with --source KERNEL=FOLDER";

fn refused<T>(line: usize, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { line, why: why.into(), remedy: BRING_A_TREE.to_owned() })
}

/// Where in the file a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Preamble,
    Prep,
    /// `%build`, which sets the version.
    Build,
    Other,
}

/// Directives that begin a section (build/parseSpec.c, `partList`), other than those of [`Section`].
const OTHER_SECTIONS: [&str; 19] = [
    "%description",
    "%install",
    "%clean",
    "%check",
    "%files",
    "%changelog",
    "%pre",
    "%post",
    "%preun",
    "%postun",
    "%pretrans",
    "%posttrans",
    "%preuntrans",
    "%postuntrans",
    "%triggerin",
    "%triggerun",
    "%triggerpostun",
    "%verifyscript",
    "%generate_buildrequires",
];

/// Most lines of one definition: the longest one in EL7's `kernel.spec` has some ten. One that goes on is read as if it ended here.
const JOINED: usize = 1000;

/// Reads a spec file. `nvr` is the package's name, version and release by its header, and `vendor` who made it; the machine is x86_64.
///
/// # Errors
/// At the first line that matters and isn't understood.
pub fn read(text: &str, nvr: &[String; 3], vendor: Option<&str>) -> Result<Recipe, Refused> {
    let mut macros = Macros::default();
    let known = [
        ("name", nvr[0].as_str()),
        ("version", &nvr[1]),
        ("release", &nvr[2]),
        ("_target_cpu", "x86_64"),
        ("_arch", "x86_64"),
        ("nil", ""),
    ];
    for (name, value) in known {
        macros.set(name, value.to_owned());
    }
    for (name, known) in distribution::macros(&nvr[2], vendor) {
        match known {
            Known::Set(value) => macros.set(&name, value),
            Known::Unset => {}
            Known::Unknown => macros.forbid(&name, ""),
        }
    }
    let recipe = Recipe {
        sources: BTreeMap::new(),
        patches: BTreeMap::new(),
        applied: Vec::new(),
        scripts: Vec::new(),
        unrepeated: Vec::new(),
        unnamed: Vec::new(),
        fuzz: 2,
        extraversion: None,
    };
    let mut reading = Reading { macros, recipe, branches: Vec::new(), section: Section::Preamble, shell: Shell::default() };
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let mut whole = line.to_owned();
        // rpm joins the lines of a definition; a shell's continued lines are of no interest.
        if is_definition(line) {
            let mut open = open_braces(line);
            for _ in 0..JOINED {
                if !whole.ends_with('\\') && open <= 0 {
                    break;
                }
                let Some((_, next)) = lines.next() else { break };
                open += open_braces(next);
                whole.push('\n');
                whole.push_str(next);
            }
        }
        reading.line(number, &whole)?;
    }
    reading.end_prep()?;
    if let Some(open) = reading.branches.last() {
        return refused(open.line, "this condition has no %endif");
    }
    let Reading { mut recipe, macros, .. } = reading;
    // A hook that a condition leaves out was never read: its words may still be macros.
    let written = text.lines().filter_map(hooked).map(|patch| macros.expand(patch).unwrap_or_else(|_| patch.to_owned()));
    let named: BTreeSet<String> = written.chain(recipe.applied.iter().map(|hook| hook.patch.clone())).collect();
    recipe.unnamed = recipe.patches.values().map(|(file, _)| file).filter(|file| !named.contains(*file)).cloned().collect();
    Ok(recipe)
}

/// The patch that a line applies, if it is a hook, as it is written there.
fn hooked(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    HOOKS.contains(&words.next()?).then(|| words.next()).flatten()
}

fn is_definition(line: &str) -> bool {
    ["%define", "%global"].iter().any(|word| line.trim_start().strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\t'])))
}

/// How many braces of macros a line leaves open.
fn open_braces(line: &str) -> i64 {
    let count = |pattern| line.matches(pattern).count() as i64;
    count("%{") - count("}")
}

/// A branch of a condition.
struct Branch {
    line: usize,
    now: Truth,
    /// Whether an earlier branch of the same condition was taken.
    taken: Truth,
}

struct Reading {
    macros: Macros,
    recipe: Recipe,
    branches: Vec<Branch>,
    section: Section,
    shell: Shell,
}

/// Where in `%prep`'s shell script a line stands.
#[derive(Default)]
struct Shell {
    /// A line that goes on in the next one, its number, and whether it is there.
    begun: Option<(usize, String, Truth)>,
    /// The function that is being defined.
    function: Option<Function>,
    /// How many `if`, `for`, `while`, `case`, braces and parentheses are open.
    depth: usize,
    /// A quotation went on after its line's end, or seemed to, as an apostrophe does in a here-document: what is quoted since then isn't known.
    is_unclear: bool,
    /// The number in ApplyOptionalPatch's condition.
    more_lines_than: Option<u64>,
    /// `-p1` was seen.
    strips_one: bool,
}

/// A function of the shell.
struct Function {
    name: String,
    /// How many braces are open in it; none before the first line of its body.
    braces: Option<isize>,
}

impl Reading {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Refused> {
        let trimmed = line.trim();
        let word = trimmed.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
        let rest = trimmed[word.len()..].trim();
        match word {
            "%include" | "%load" if self.section != Section::Other => return refused(number, format!("`{word}` reads another file")),
            "%if" => return self.open(number, self.macros.condition(rest)),
            "%ifarch" => return self.open(number, self.macros.lists(rest, "x86_64")),
            "%ifnarch" => return self.open(number, self.macros.lists(rest, "x86_64").not()),
            "%ifos" => return self.open(number, self.macros.lists(rest, "linux")),
            "%ifnos" => return self.open(number, self.macros.lists(rest, "linux").not()),
            "%elif" => return self.next_branch(number, self.macros.condition(rest)),
            "%elifarch" => return self.next_branch(number, self.macros.lists(rest, "x86_64")),
            "%elifos" => return self.next_branch(number, self.macros.lists(rest, "linux")),
            "%else" => return self.next_branch(number, Truth::Yes),
            "%endif" => {
                let open = self.branches.pop();
                return if open.is_some() { Ok(()) } else { refused(number, "this %endif ends no condition") };
            }
            _ => {}
        }
        let here = self.branches.iter().fold(Truth::Yes, |all, branch| all.and(branch.now));
        if here == Truth::No {
            return Ok(());
        }
        if is_definition(line) {
            self.define(rest, word == "%global", here);
            return Ok(());
        }
        if self.begins_section(word) {
            return self.end_prep();
        }
        match self.section {
            Section::Preamble => self.tag(number, trimmed, here),
            Section::Prep => self.joined(number, line, here),
            Section::Build => self.build(number, trimmed, here),
            Section::Other => Ok(()),
        }
    }

    fn open(&mut self, line: usize, now: Truth) -> Result<(), Refused> {
        if self.branches.len() >= 64 {
            return refused(line, "conditions are nested too deeply");
        }
        self.branches.push(Branch { line, now, taken: now });
        Ok(())
    }

    fn next_branch(&mut self, line: usize, condition: Truth) -> Result<(), Refused> {
        let Some(branch) = self.branches.last_mut() else { return refused(line, "this branch belongs to no condition") };
        branch.now = branch.taken.not().and(condition);
        branch.taken = branch.taken.or(condition);
        Ok(())
    }

    /// Whether the line begins a section. Which one is never in doubt: no kernel has a section that is there only sometimes, but for packages, which
    /// hold no patch lines.
    fn begins_section(&mut self, word: &str) -> bool {
        self.section = match word {
            "%prep" => Section::Prep,
            "%build" => Section::Build,
            "%package" | "%sourcelist" | "%patchlist" => Section::Preamble,
            other if OTHER_SECTIONS.contains(&other) => Section::Other,
            _ => return false,
        };
        true
    }

    fn define(&mut self, rest: &str, global: bool, here: Truth) {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, body) = rest.split_at(end);
        // A macro with arguments, or one that is there only perhaps, can't be used.
        if body.starts_with('(') || here != Truth::Yes {
            self.macros.forbid(name, body);
            return;
        }
        let body = body.trim().replace("\\\n", "\n");
        match (global, self.macros.expand(&body)) {
            (true, Ok(value)) => self.macros.set(name, value),
            (true, Err(_)) => self.macros.forbid(name, &body),
            (false, _) => self.macros.set(name, body),
        }
    }

    /// `Source0: NAME` and `Patch1: NAME`.
    fn tag(&mut self, number: usize, line: &str, here: Truth) -> Result<(), Refused> {
        let Some((tag, value)) = line.split_once(':') else { return Ok(()) };
        let tag = tag.trim().to_ascii_lowercase();
        let numbered = |prefix: &str| tag.strip_prefix(prefix).filter(|rest| rest.chars().all(|c| c.is_ascii_digit())).map(str::to_owned);
        let (digits, is_patch) = match (numbered("source"), numbered("patch")) {
            (Some(digits), _) => (digits, false),
            (_, Some(digits)) => (digits, true),
            (None, None) => return Ok(()),
        };
        self.certain(number, here)?;
        let value = self.expanded(number, value.trim())?;
        // A URL's last part is the file's name.
        let file = value.rsplit('/').next().unwrap_or_default().to_owned();
        let list = if is_patch { &mut self.recipe.patches } else { &mut self.recipe.sources };
        let index = if digits.is_empty() { Some(0) } else { digits.parse().ok() };
        let Some(index) = index else { return refused(number, format!("{digits} is no number of a source or patch")) };
        list.insert(index, (file, number));
        Ok(())
    }

    fn certain(&self, number: usize, here: Truth) -> Result<(), Refused> {
        let unclear = self.branches.iter().find(|branch| branch.now == Truth::Unknown);
        match (here, unclear) {
            (Truth::Unknown, Some(branch)) => refused(
                number,
                format!("it depends on the condition in line {}, which can't be decided without running the spec file", branch.line),
            ),
            _ => Ok(()),
        }
    }

    fn expanded(&self, number: usize, text: &str) -> Result<String, Refused> {
        self.macros.expand(text).or_else(|failure| match failure {
            Unexpandable::Unset(name) => Err(Refused {
                line: number,
                why: format!("the macro %{{{name}}} isn't set in the spec file"),
                remedy: format!("this package wants it on rpmbuild's command line: {BRING_A_TREE}"),
            }),
            Unexpandable::Runs(what) => refused(number, format!("{what} would run a program")),
            Unexpandable::Odd(what) => refused(number, format!("{what} isn't understood")),
        })
    }

    /// A line of `%prep`, which may go on in the next one.
    fn joined(&mut self, number: usize, line: &str, here: Truth) -> Result<(), Refused> {
        let (number, mut whole, here) = match self.shell.begun.take() {
            Some((first, begun, before)) => {
                // What went on may have been a comment, which ends with its line.
                let joined = format!("{begun}{line}");
                let hides = begun.contains('#') && self.patches(line.trim()) && !self.patches(joined.trim());
                (first, if hides { format!("{begun}\n{line}") } else { joined }, before.and(here))
            }
            None => (number, line.to_owned(), here),
        };
        let end = whole.trim_end();
        if end.trim_start().starts_with('#') {
            return Ok(());
        }
        let is_escaped = line.len() - line.trim_end_matches('\\').len();
        if is_escaped % 2 == 1 {
            whole.pop();
        } else if end.ends_with('|') || end.ends_with("&&") {
            whole.push(' ');
        } else {
            return self.prep(number, &whole, here);
        }
        self.shell.begun = Some((number, whole, here));
        Ok(())
    }

    /// Whether a line patches, or a macro that it names.
    fn patches(&self, text: &str) -> bool {
        patches(text, !self.shell.is_unclear) || self.macros.bodies(text).into_iter().any(|body| patches(body, true))
    }

    /// What its last line began.
    fn end_prep(&mut self) -> Result<(), Refused> {
        self.shell.begun.take().map_or(Ok(()), |(number, line, here)| self.prep(number, &line, here))
    }

    /// A whole line of `%prep`.
    fn prep(&mut self, number: usize, line: &str, here: Truth) -> Result<(), Refused> {
        let (trimmed, read) = (line.trim(), Line::read(line));
        let applies = self.patches(trimmed);
        for file in scripts::run(&read, &self.recipe.sources, &self.recipe.patches) {
            self.certain(number, here)?;
            self.recipe.scripts.push((file, number));
        }
        if scripts::edits(&read, &self.recipe.sources) {
            self.recipe.unrepeated.push((number, trimmed.to_owned()));
        }
        self.shell.is_unclear |= read.is_open;
        if let Some(function) = self.shell.function.take()
            && (trimmed.is_empty() || function.braces.is_some() || trimmed.starts_with('{'))
        {
            return self.in_function(number, function, line, &read, applies);
        }
        if let Some((name, after)) = trimmed.split_once("()")
            && !name.is_empty()
            && name.trim_end().chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && (after.trim().is_empty() || after.trim_start().starts_with('{'))
        {
            let function = Function { name: name.trim_end().to_owned(), braces: None };
            return self.in_function(number, function, after, &Line::read(after), self.patches(after));
        }
        let mut words = trimmed.split_whitespace();
        let word = words.next().unwrap_or_default();
        if HOOKS.contains(&word) {
            self.certain(number, here)?;
            return self.hook(number, word, &words.collect::<Vec<_>>());
        }
        if let Some(command) = trimmed.strip_prefix("patch_command=") {
            self.certain(number, here)?;
            return self.patch_command(number, command.trim_matches(['\'', '"']));
        }
        if word == "%setup" && words.clone().any(|option| ["-a", "-b", "-T"].iter().any(|other| option.starts_with(other))) {
            self.certain(number, here)?;
            return refused(number, "`%setup` unpacks another source than the first, or none");
        }
        let by_rpm = |prefix: &str| word.strip_prefix(prefix).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
        if by_rpm("%patch") || ["%autosetup", "%autopatch", "%apply_patches", "git"].contains(&word) {
            self.certain(number, here)?;
            return refused(number, format!("`{word}` changes the tree, and only ApplyPatch and ApplyOptionalPatch are understood"));
        }
        self.shell.depth = self.shell.depth.saturating_add_signed(read.opens());
        if applies { refused(number, "it applies a patch within another command") } else { Ok(()) }
    }

    /// A line of a function: its body isn't run here, but what it patches with has to be known.
    fn in_function(&mut self, number: usize, mut function: Function, line: &str, read: &Line, applies: bool) -> Result<(), Refused> {
        if function.name == "ApplyOptionalPatch"
            && let Some((_, rest)) = line.split_once(" -gt ")
        {
            self.shell.more_lines_than = rest.split_whitespace().next().and_then(|lines| lines.parse().ok());
        }
        if applies && !HOOKS.contains(&function.name.as_str()) {
            let name = function.name;
            return refused(
                number,
                format!("the function {name} applies a patch, and only ApplyPatch and ApplyOptionalPatch are understood"),
            );
        }
        if !line.trim().is_empty() {
            function.braces = Some(function.braces.unwrap_or(0) + read.braces);
        }
        let ends = line.starts_with('}') || function.braces.is_some_and(|open| open <= 0);
        if !ends {
            self.shell.function = Some(function);
            return Ok(());
        }
        // What stands after its end is run here.
        let after = line.trim().strip_prefix('}').unwrap_or(line);
        if self.patches(after) { refused(number, "it applies a patch within another command") } else { Ok(()) }
    }

    fn hook(&mut self, number: usize, word: &str, arguments: &[&str]) -> Result<(), Refused> {
        let [patch] = arguments else { return refused(number, format!("{word} has other arguments than one patch")) };
        if self.shell.depth > 0 {
            return refused(number, format!("{word} depends on a condition of the shell"));
        }
        let patch = self.expanded(number, patch)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        if patch.is_empty() || patch.starts_with(['-', '.']) || !patch.chars().all(plain) {
            return refused(number, format!("{patch:?} is no name of a patch"));
        }
        if !self.shell.strips_one {
            return refused(number, "no `patch_command='patch -p1 ...'` stands before it");
        }
        let more_lines_than = if word == "ApplyPatch" {
            None
        } else if self.shell.more_lines_than.is_none() {
            return refused(number, "ApplyOptionalPatch isn't defined with a number of lines (`-gt N`) before it");
        } else {
            self.shell.more_lines_than
        };
        if !self.recipe.patches.values().any(|(listed, _)| *listed == patch) {
            return Err(Refused {
                line: number,
                why: format!("{patch} is applied, but no Patch line lists it"),
                remedy: "the package is damaged: fetch it again".to_owned(),
            });
        }
        self.recipe.applied.push(Hook { patch, line: number, more_lines_than });
        Ok(())
    }

    /// `patch -p1 -F1 -s`.
    fn patch_command(&mut self, number: usize, command: &str) -> Result<(), Refused> {
        let mut words = command.split_whitespace();
        if words.next() != Some("patch") {
            return refused(number, format!("`{command}` applies patches by another program than patch"));
        }
        self.shell.strips_one = false;
        for word in words {
            match (word, word.strip_prefix("-F").map(str::parse)) {
                ("-p1", _) => self.shell.strips_one = true,
                ("-s" | "--silent" | "--quiet" | "--no-backup-if-mismatch", _) => {}
                (_, Some(Ok(fuzz @ 0..=2))) => self.recipe.fuzz = fuzz,
                _ => return refused(number, format!("`{word}` is an option of patch that isn't understood")),
            }
        }
        Ok(())
    }

    /// The line that sets the version: `perl -p -i -e "s/^EXTRAVERSION.*/EXTRAVERSION = -%{release}.%{_target_cpu}${Flavour:+.${Flavour}}/" Makefile`.
    fn build(&mut self, number: usize, line: &str, here: Truth) -> Result<(), Refused> {
        let Some((_, value)) = line.split_once("s/^EXTRAVERSION.*/EXTRAVERSION =") else { return Ok(()) };
        self.certain(number, here)?;
        // What follows is the flavour, which a plain kernel hasn't.
        let end = [value.find("${"), value.find('/')].into_iter().flatten().min().unwrap_or(value.len());
        let value = self.expanded(number, value[..end].trim())?;
        let fine = |c: char| c.is_ascii_alphanumeric() || "-._+~".contains(c);
        // A release has at most 64 bytes (UTS_RELEASE, Makefile).
        if value.is_empty() || value.len() > 56 || !value.chars().all(fine) {
            return refused(number, format!("{value:?} is no EXTRAVERSION"));
        }
        self.recipe.extraversion = Some(value);
        Ok(())
    }
}
