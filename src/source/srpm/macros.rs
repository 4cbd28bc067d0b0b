//! Macros of a spec file and conditions on them: the plain ones, within bounds.
//!
//! What runs a program is never expanded, and what isn't understood is said, not guessed. This file knows no kernel.
//!
//! Read [`Macros`] first.

use std::collections::{BTreeMap, BTreeSet};

/// The macros that are set at a line.
#[derive(Debug, Default)]
pub struct Macros(BTreeMap<String, Value>);

#[derive(Debug)]
enum Value {
    Set(String),
    /// Set to something that can't be known here, written so if it is written at all.
    Unknown(String),
}

/// Why a text can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexpandable {
    /// A macro has no value.
    Unset(String),
    /// It would run a program.
    Runs(String),
    /// It isn't understood.
    Odd(String),
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    Yes,
    /// It isn't.
    No,
    /// It can't be told.
    Unknown,
}

impl Truth {
    fn of(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }

    /// The opposite.
    #[must_use]
    pub fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    /// Whether both are so.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }

    /// Whether one of them is so.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// How deep macros may refer to each other: rpm's own limit is 64 (rpmio/macro.c).
const DEEPEST: usize = 64;
/// How long a text may become, in bytes, and how many macros may be replaced for it: a kernel's needs a dozen.
const LONGEST: usize = 64 << 10;
const MOST_STEPS: usize = 10_000;

/// A text while its macros are replaced.
#[derive(Default)]
struct Expansion {
    text: String,
    steps: usize,
}

impl Macros {
    /// Sets a macro to what it stands for, unexpanded.
    pub fn set(&mut self, name: &str, body: String) {
        self.0.insert(name.to_owned(), Value::Set(body));
    }

    /// Makes the use of a macro an error. `body` is what its definition says, where there is one.
    pub fn forbid(&mut self, name: &str, body: &str) {
        self.0.insert(name.to_owned(), Value::Unknown(body.to_owned()));
    }

    /// The bodies of the macros that a text names, and of those that they name: all that it may turn into, whatever its conditions.
    #[must_use]
    pub fn bodies<'a>(&'a self, text: &'a str) -> Vec<&'a str> {
        let (mut seen, mut bodies, mut texts) = (BTreeSet::new(), Vec::new(), vec![text]);
        while let Some(text) = texts.pop() {
            for after in text.split('%').skip(1) {
                let name = after.trim_start_matches(['{', '?', '!']);
                let name = &name[..name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len())];
                if let Some(Value::Set(body) | Value::Unknown(body)) = self.0.get(name)
                    && seen.insert(name)
                {
                    bodies.push(body.as_str());
                    texts.push(body);
                }
            }
        }
        bodies
    }

    /// A text with its macros replaced.
    ///
    /// # Errors
    /// When it has one without a value, one that runs a program, or one that isn't understood.
    pub fn expand(&self, text: &str) -> Result<String, Unexpandable> {
        let mut expansion = Expansion::default();
        self.expand_into(text, &mut expansion, 0)?;
        Ok(expansion.text)
    }

    fn expand_into(&self, text: &str, into: &mut Expansion, depth: usize) -> Result<(), Unexpandable> {
        if depth > DEEPEST {
            return Err(Unexpandable::Odd("a macro that contains itself".to_owned()));
        }
        let mut rest = text;
        while let Some(start) = rest.find('%') {
            into.text.push_str(&rest[..start]);
            let after = &rest[start + 1..];
            rest = match after.chars().next() {
                Some('%') => {
                    into.text.push('%');
                    &after[1..]
                }
                Some('{') => {
                    let end = closing(after).ok_or_else(|| Unexpandable::Odd(shown(after)))?;
                    self.braced(&after[1..end], into, depth)?;
                    &after[end + 1..]
                }
                Some('(') => return Err(Unexpandable::Runs(shown(after))),
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                    self.named(&after[..end], into, depth)?;
                    &after[end..]
                }
                _ => return Err(Unexpandable::Odd(shown(after))),
            };
            into.steps += 1;
            if into.text.len() > LONGEST || into.steps > MOST_STEPS {
                return Err(Unexpandable::Odd("a macro that grows without end".to_owned()));
            }
        }
        into.text.push_str(rest);
        Ok(())
    }

    /// What stands between the braces of `%{...}`.
    fn braced(&self, inside: &str, into: &mut Expansion, depth: usize) -> Result<(), Unexpandable> {
        let flags = inside.len() - inside.trim_start_matches(['?', '!']).len();
        let (flags, rest) = inside.split_at(flags);
        let (name, text) = rest.split_once(':').map_or((rest, None), |(name, text)| (name, Some(text)));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Unexpandable::Odd(format!("%{{{inside}}}")));
        }
        if flags.is_empty() {
            return match text {
                None => self.named(name, into, depth),
                Some(_) if name == "lua" || name == "load" => Err(Unexpandable::Runs(format!("%{{{name}:...}}"))),
                Some(_) => Err(Unexpandable::Odd(format!("%{{{name}:...}}"))),
            };
        }
        if !flags.contains('?') {
            return Err(Unexpandable::Odd(format!("%{{{inside}}}")));
        }
        let wanted = flags.matches('!').count() % 2 == 0;
        let is_set = match self.0.get(name) {
            Some(Value::Unknown(_)) => return Err(Unexpandable::Odd(format!("the macro %{{{name}}}"))),
            Some(Value::Set(_)) => true,
            None => false,
        };
        match text {
            Some(text) if is_set == wanted => self.expand_into(text, into, depth + 1),
            None if is_set && wanted => self.named(name, into, depth),
            Some(_) | None => Ok(()),
        }
    }

    fn named(&self, name: &str, into: &mut Expansion, depth: usize) -> Result<(), Unexpandable> {
        match self.0.get(name) {
            Some(Value::Set(body)) => self.expand_into(body, into, depth + 1),
            Some(Value::Unknown(_)) => Err(Unexpandable::Odd(format!("the macro %{{{name}}}"))),
            None => Err(Unexpandable::Unset(name.to_owned())),
        }
    }

    /// Whether a list of words has `word`: `%ifarch`.
    #[must_use]
    pub fn lists(&self, list: &str, word: &str) -> Truth {
        self.expand(list).map_or(Truth::Unknown, |list| Truth::of(list.split([' ', '\t', ',']).any(|item| item == word)))
    }

    /// Whether a condition holds: numbers, quoted strings, `!`, `==`, `!=`, `&&` and `||`.
    #[must_use]
    pub fn condition(&self, condition: &str) -> Truth {
        // A comment after a condition is common.
        let condition = condition.split(" #").next().unwrap_or_default();
        let Ok(text) = self.expand(condition) else { return Truth::Unknown };
        let all = |part: &str| part.split("&&").map(atom).fold(Truth::Yes, Truth::and);
        text.split("||").map(all).fold(Truth::No, Truth::or)
    }
}

fn atom(text: &str) -> Truth {
    let text = text.trim();
    if let Some((left, right)) = text.split_once("==") {
        return equal(left, right);
    }
    if let Some((left, right)) = text.split_once("!=") {
        return equal(left, right).not();
    }
    if let Some(rest) = text.strip_prefix('!') {
        return atom(rest).not();
    }
    match value(text) {
        Some(Literal::Number(number)) => Truth::of(number != 0),
        Some(Literal::Text(text)) => Truth::of(!text.is_empty()),
        None => Truth::Unknown,
    }
}

#[derive(PartialEq)]
enum Literal<'a> {
    Number(u64),
    Text(&'a str),
}

fn equal(left: &str, right: &str) -> Truth {
    match (value(left), value(right)) {
        (Some(Literal::Number(left)), Some(Literal::Number(right))) => Truth::of(left == right),
        (Some(Literal::Text(left)), Some(Literal::Text(right))) => Truth::of(left == right),
        _ => Truth::Unknown,
    }
}

fn value(text: &str) -> Option<Literal<'_>> {
    let text = text.trim();
    if let Some(inside) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return (!inside.contains('"')).then_some(Literal::Text(inside));
    }
    text.parse().ok().map(Literal::Number)
}

/// Where the brace that begins `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

/// The beginning of what stands after a `%`, for messages.
fn shown(after: &str) -> String {
    format!("`%{}`", after.chars().take(24).collect::<String>().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros(set: &[(&str, &str)]) -> Macros {
        let mut macros = Macros::default();
        set.iter().for_each(|(name, body)| macros.set(name, (*body).to_owned()));
        macros
    }

    #[test]
    fn macros_are_replaced_when_they_are_used() {
        let macros = macros(&[("version", "3.10.0"), ("full", "%{version}-%release%{?build}"), ("release", "1160"), ("empty", "")]);
        let expand = |text: &str| macros.expand(text);
        assert_eq!(expand("linux-%{full}.tar.xz"), Ok("linux-3.10.0-1160.tar.xz".into()));
        assert_eq!(
            expand("100%% %{?version:yes}%{!?version:no}%{?!build:not %{release}}%{?build:no}%{empty}"),
            Ok("100% yesnot 1160".into())
        );
        assert_eq!(expand("%{build}"), Err(Unexpandable::Unset("build".into())));
        assert_eq!(expand("a%(id)"), Err(Unexpandable::Runs("`%(id)`".into())));
        assert_eq!(expand("%{?version:%(id)}"), Err(Unexpandable::Runs("`%(id)`".into())));
        for odd in ["%{expand:%%x}", "%{", "%", "%-", "%{a b}", "%{!version}"] {
            assert!(matches!(expand(odd), Err(Unexpandable::Odd(_))), "{odd}");
        }
    }

    #[test]
    fn a_bomb_of_macros_has_an_end() {
        let bodies: Vec<(String, String)> = (1..60).map(|n| (format!("m{n}"), format!("%m{0}%m{0}", n - 1))).collect();
        for first in ["", "long text"] {
            let mut bomb = macros(&[("m0", first), ("self", "x%self")]);
            bodies.iter().for_each(|(name, body)| bomb.set(name, body.clone()));
            assert!(matches!(bomb.expand("%m59"), Err(Unexpandable::Odd(_))));
            assert!(matches!(bomb.expand("%self"), Err(Unexpandable::Odd(_))));
        }
    }

    #[test]
    fn conditions_hold_or_not_or_cannot_be_told() {
        let mut macros = macros(&[("one", "  1"), ("zero", " 0 "), ("set", "1"), ("arches", "i686 x86_64"), ("rhel", "7")]);
        ["fedora", "dist"].iter().for_each(|name| macros.forbid(name, ""));
        for (condition, truth) in [
            ("%{one}", Truth::Yes),
            ("!%{one}", Truth::No),
            ("%{zero} # why", Truth::No),
            ("0%{?unset}", Truth::No),
            ("0%{?rhel}", Truth::Yes),
            ("0%{?fedora}", Truth::Unknown),
            ("\"%{?dist}\" == \".el7\"", Truth::Unknown),
            ("0%{?set} && !%{zero}", Truth::Yes),
            ("%{zero} || %{one}", Truth::Yes),
            ("\"a\" == \"a\"", Truth::Yes),
            ("\"%{one}\" != \"  1\"", Truth::No),
            ("%{one} > 3", Truth::Unknown),
            ("%{unset}", Truth::Unknown),
            ("%{unset} && %{zero}", Truth::Unknown),
            ("", Truth::Unknown),
        ] {
            assert_eq!(macros.condition(condition), truth, "{condition}");
        }
        assert_eq!(macros.lists("%{arches}", "x86_64"), Truth::Yes);
        assert_eq!(macros.lists("%arches", "ppc"), Truth::No);
        assert_eq!(macros.lists("%{all}", "ppc"), Truth::Unknown);
    }
}
