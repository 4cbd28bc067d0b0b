//! Where everything in a YAML file is: a tree of the file's nodes, each with its line and column.
//!
//! serde_yaml gives values and forgets where they were; this tree remembers and holds no values. It also refuses what definitions don't need and
//! what makes a hostile file dangerous: anchors, aliases, tags, several documents, deep nesting, a key that is there twice.
//!
//! Read [`Node`] first.

use std::borrow::Cow;
use std::collections::BTreeSet;

use saphyr_parser::{Event, Marker, Parser, Span};

use super::problem::is_near;

/// Deepest nesting of lists and maps; the definitions need 4.
const DEEPEST: usize = 16;

/// Most problems of one file that are reported; the remaining ones show after these are mended.
pub(super) const MOST_FINDINGS: usize = 100;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub length: usize,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1, offset: 0, length: 0 };
}

/// Something wrong at a place of a file that the context knows.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub place: Place,
    pub message: String,
    pub remedy: String,
}

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins; the whole of it for a scalar.
    pub place: Place,
    /// What it holds.
    pub shape: Shape,
    /// Keys that were taken out because they were wrong; an empty word for an item of a list.
    pub lost: Vec<String>,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Scalar,
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

/// A step of a path into the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

impl Node {
    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.shape {
            Shape::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Shape::Scalar | Shape::List(_) => None,
        }
    }

    /// The value of `key`, or this node itself if there is none: the nearest place to point at.
    pub fn at(&self, key: &str) -> &Self {
        self.entry(key).map_or(self, |entry| &entry.value)
    }

    /// The place of `key` itself, or of this node if there is none.
    pub fn key(&self, key: &str) -> Place {
        self.entry(key).map_or(self.place, |entry| entry.key_place)
    }

    /// The item of that number, or this node itself if there is none.
    pub fn item(&self, index: usize) -> &Self {
        match &self.shape {
            Shape::List(items) => items.get(index).unwrap_or(self),
            Shape::Scalar | Shape::Map(_) => self,
        }
    }

    /// The absence of `key` needs no report of its own: it, or what looks like a misspelling of it, was reported and taken out.
    pub fn excuses(&self, key: &str) -> bool {
        self.lost.iter().any(|lost| lost == key || is_near(lost, key))
    }

    /// The node that a step leads to.
    fn step(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.shape, step) {
            (Shape::Map(entries), Step::Key(key)) => entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value),
            (Shape::List(items), Step::Item(index)) => items.get_mut(*index),
            (Shape::Scalar | Shape::List(_) | Shape::Map(_), _) => None,
        }
    }

    /// Takes out what the path leads to and returns where it was (the key's place and the value's). Its parent remembers.
    pub fn take(&mut self, path: &[Step]) -> Option<(Place, Place)> {
        let (last, parents) = path.split_last()?;
        let parent = parents.iter().try_fold(self, |node, step| node.step(step))?;
        let places = match (&mut parent.shape, last) {
            (Shape::Map(entries), Step::Key(key)) => {
                let entry = entries.remove(entries.iter().position(|entry| entry.key == *key)?);
                (entry.key_place, entry.value.place)
            }
            (Shape::List(items), Step::Item(index)) if *index < items.len() => {
                let place = items.remove(*index).place;
                (place, place)
            }
            (Shape::Scalar | Shape::List(_) | Shape::Map(_), _) => return None,
        };
        parent.lost.push(if let Step::Key(key) = last { key.clone() } else { String::new() });
        Some(places)
    }

    /// The place of the deepest node along the path.
    pub fn deepest(&self, path: &[Step]) -> Place {
        let step = |node: &mut &Self, step: &Step| {
            *node = match step {
                Step::Key(key) => node.at(key),
                Step::Item(index) => node.item(*index),
            };
            Some(node.place)
        };
        path.iter().scan(self, step).last().unwrap_or(self.place)
    }
}

/// Why there is no tree.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is no YAML.
    Syntax(Finding),
    /// It is YAML that a definition may not use.
    Refused(Vec<Finding>),
}

/// A list or map whose end has not been seen.
enum Open {
    List { place: Place, items: Vec<Node> },
    Map { place: Place, entries: Vec<Entry>, key: Option<(String, Place)>, seen: BTreeSet<String> },
}

/// Reads the tree of a file; `None` for a file without content.
pub(super) fn read(text: &str) -> Result<Option<Node>, Unreadable> {
    if let Some(place) = bracket_tower(text) {
        return Err(Unreadable::Refused(vec![Finding { place, message: TOO_DEEP.0.to_owned(), remedy: TOO_DEEP.1.to_owned() }]));
    }
    let mut builder = Builder { places: Places::of(text), open: Vec::new(), root: None, documents: 0, findings: Vec::new() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = builder.places.at(Span::empty(*error.marker()));
            Unreadable::Syntax(Finding { place, message: error.info().to_owned(), remedy: SYNTAX_REMEDY.to_owned() })
        })?;
        builder.take(event, span);
        if builder.open.len() > DEEPEST {
            builder.refuse(span, TOO_DEEP.0, TOO_DEEP.1);
            break;
        }
        if builder.findings.len() >= MOST_FINDINGS {
            break;
        }
    }
    if builder.findings.is_empty() { Ok(builder.root) } else { Err(Unreadable::Refused(builder.findings)) }
}

/// What is wrong with deep nesting, and what to do about it.
const TOO_DEEP: (&str, &str) = ("nested too deeply", "definitions need four levels");

/// Where brackets are open that no definition needs. The parser looks ahead, so that a file of nothing but `[` costs it the square of the file's
/// size before its first event: 64 KiB were measured to take seconds. Quoted brackets count too; nobody quotes so many and closes none.
fn bracket_tower(text: &str) -> Option<Place> {
    let (mut open, mut line, mut column) = (0_usize, 1, 1);
    for (offset, c) in text.char_indices() {
        match c {
            '[' | '{' => open += 1,
            ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > 4 * DEEPEST {
            return Some(Place { line, column, offset, length: 1 });
        }
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    None
}

/// What to do about malformed YAML.
pub(super) const SYNTAX_REMEDY: &str = "check the indentation, quotes and brackets there and on the line before";

struct Builder {
    places: Places,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    findings: Vec<Finding>,
}

impl Builder {
    fn refuse(&mut self, span: Span, message: &str, remedy: &str) {
        let place = self.places.at(span);
        self.findings.push(Finding { place, message: message.to_owned(), remedy: remedy.to_owned() });
    }

    fn take(&mut self, event: Event<'_>, span: Span) {
        let place = self.places.at(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.refuse(span, "a second document begins here", "put one definition in a file");
                }
            }
            Event::Alias(_) => {
                self.refuse(span, "an alias is not accepted", "write the value out");
                self.close(None, Node { place, shape: Shape::Scalar, lost: Vec::new() });
            }
            Event::Scalar(text, _, anchor, tag) => {
                self.refuse_decoration(span, anchor, tag.is_some());
                self.close(Some(text), Node { place, shape: Shape::Scalar, lost: Vec::new() });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(span, anchor, tag.is_some());
                self.open.push(Open::List { place, items: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(span, anchor, tag.is_some());
                self.open.push(Open::Map { place, entries: Vec::new(), key: None, seen: BTreeSet::new() });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { place, items }) => self.close(None, Node { place, shape: Shape::List(items), lost: Vec::new() }),
                Some(Open::Map { place, entries, .. }) => self.close(None, Node { place, shape: Shape::Map(entries), lost: Vec::new() }),
                None => {}
            },
        }
    }

    fn refuse_decoration(&mut self, span: Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse(span, "an anchor is not accepted", "write the value out where it is needed");
        }
        if tagged {
            self.refuse(span, "a tag (`!...`) is not accepted", "write the value without it");
        }
    }

    /// Hands a finished node to what encloses it. `text` is there for a scalar, which may be a key.
    fn close(&mut self, text: Option<Cow<'_, str>>, node: Node) {
        let place = node.place;
        let finding = |message: String, remedy: &str| Some(Finding { place, message, remedy: remedy.to_owned() });
        let found = match self.open.last_mut() {
            None => {
                self.root.get_or_insert(node);
                None
            }
            Some(Open::List { items, .. }) => {
                items.push(node);
                None
            }
            Some(Open::Map { entries, key: key @ Some(_), .. }) => {
                if let Some((key, key_place)) = key.take() {
                    entries.push(Entry { key, key_place, value: node });
                }
                None
            }
            Some(Open::Map { key, seen, .. }) => {
                let found = match &text {
                    Some(text) if !seen.insert(text.to_string()) => {
                        finding(format!("the key `{text}` is there twice"), "keep one of the two")
                    }
                    Some(text) if is_word(text) => None,
                    Some(_) | None => finding("a key has to be a word".to_owned(), "write `key: value`"),
                };
                *key = Some((text.unwrap_or_default().into_owned(), place));
                found
            }
        };
        self.findings.extend(found);
    }
}

/// A key that serde_yaml reads as a string, quoted or not: all keys that definitions know are.
fn is_word(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    key.starts_with(|c: char| c.is_ascii_alphabetic()) && !["true", "false", "null"].contains(&lower.as_str())
}

/// From the parser's character counts to bytes.
struct Places {
    bytes: Vec<usize>,
    end: usize,
}

impl Places {
    fn of(text: &str) -> Self {
        Self { bytes: text.char_indices().map(|(offset, _)| offset).collect(), end: text.len() }
    }

    fn byte(&self, marker: Marker) -> usize {
        self.bytes.get(marker.index()).copied().unwrap_or(self.end)
    }

    fn at(&self, span: Span) -> Place {
        let offset = self.byte(span.start);
        let length = self.byte(span.end).saturating_sub(offset);
        Place { line: span.start.line(), column: span.start.col() + 1, offset, length }
    }
}
