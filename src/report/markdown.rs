//! A report as Markdown, for trackers and merge requests.
//!
//! Words of the guest stand in code spans or fences that are longer than any run of backticks in them, so that they can't end them.
//!
//! Read [`markdown`].

use super::account::{Block, account, result};
use super::case::{Case, arm};
use crate::text::plain;

/// The report as Markdown.
#[must_use]
pub fn markdown(case: &Case) -> String {
    let report = &case.report;
    let mut text = format!("# {}: {}\n\n", escaped(report.pipeline.as_str()), escaped(&result(case)));
    text.push_str("| kernel | expected | verdict | hangs | exact 95 % interval |\n|-|-|-|-|-|\n");
    for kernel in &report.kernels {
        let expected = kernel.expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string());
        let rate = &kernel.hang_rate;
        let (arm, verdict) = (escaped(&arm(kernel)), kernel.verdict);
        text.push_str(&format!("| {arm} | {expected} | **{verdict}** | {}/{} | {} |\n", rate.hits, rate.trials, rate.outward()));
    }
    for block in account(case) {
        match block {
            Block::Heading(title) => text.push_str(&format!("\n## {}\n\n", escaped(&title))),
            Block::Paragraph(paragraph) => text.push_str(&format!("{}\n\n", escaped(&paragraph))),
            Block::Fields(title, fields) => {
                text.extend(title.map(|title| format!("**{}**\n\n", escaped(&title))));
                for (name, value) in fields {
                    text.push_str(&format!("- {name}: {}\n", code(&plain(&value))));
                }
                text.push('\n');
            }
            Block::Verbatim(lines) => text.push_str(&fenced(&lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n"))),
            Block::Command(command) => text.push_str(&fenced(&plain(&command))),
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn code(text: &str) -> String {
    let ticks = "`".repeat(longest_run(text) + 1);
    // A blank on both sides is taken away again; it keeps a backtick at the edge apart.
    let edge = if text.is_empty() || text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{edge}{text}{edge}{ticks}")
}

fn fenced(text: &str) -> String {
    let ticks = "`".repeat((longest_run(text) + 1).max(3));
    format!("{ticks}\n{text}\n{ticks}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cant_leave_its_code() {
        assert_eq!(code("plain"), "`plain`");
        assert_eq!(code("a `b` c"), "``a `b` c``");
        assert_eq!(code("``"), "``` `` ```");
        assert!(fenced("x\n```\n<script>").starts_with("````\n"));
        assert_eq!(escaped("<img src=x> [a](b) | *c*"), r"&lt;img src=x> \[a\](b) \| \*c\*");
    }
}
