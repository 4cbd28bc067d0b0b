//! A report for a bug tracker whose comments are plain text: wrapped, the kernels first.
//!
//! Read [`bugzilla`].

use super::account::{Block, account, distinct, result};
use super::case::Case;
use super::materials::Material;
use super::text::wrapped;
use crate::text::plain;

/// Bugzilla wraps comments at 80 columns, and quotes them with `> `.
const WIDTH: usize = 76;

/// The report as plain text.
#[must_use]
pub fn bugzilla(case: &Case) -> String {
    let mut text = head(case);
    for block in account(case) {
        match block {
            Block::Heading(title) => text.push_str(&format!("\n{}\n", plain(&title).to_uppercase())),
            Block::Paragraph(paragraph) => text.push_str(&wrapped(&plain(&paragraph), WIDTH, "  ", "  ")),
            Block::Fields(title, fields) => {
                text.extend(title.map(|title| format!("  {}\n", plain(&title))));
                for (name, value) in fields {
                    text.push_str(&wrapped(&plain(&value), WIDTH, &format!("    {name}: "), "        "));
                }
            }
            Block::Verbatim(lines) => text.extend(lines.iter().map(|line| format!("    {}\n", plain(line)))),
            Block::Command(command) => text.push_str(&broken(&plain(&command))),
        }
    }
    text
}

/// The packages with their versions, which is what a tracker's component and version fields are filled from, and what came out.
fn head(case: &Case) -> String {
    let mut sources: Vec<String> = Vec::new();
    for kernel in distinct(&case.report) {
        let material = kernel.build.as_ref().map(|build| Material::of(&build.source).name);
        let known = material.filter(|name| !sources.contains(name));
        sources.extend(known);
    }
    let sources = if sources.is_empty() { "no kernel was built".to_owned() } else { sources.join(", ") };
    wrapped(&plain(&sources), WIDTH, "Source: ", "  ") + &wrapped(&plain(&result(case)), WIDTH, "Result: ", "  ")
}

/// A command over several lines, each but the last with a backslash.
fn broken(command: &str) -> String {
    let lines = wrapped(command, WIDTH - 2, "  ", "      ");
    lines.trim_end().replace('\n', " \\\n") + "\n"
}
