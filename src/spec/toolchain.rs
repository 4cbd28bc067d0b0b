//! From `toolchain:`, or from the word of `--toolchain`, to [`Toolchain`].
//!
//! Checks the form only: whether there is such a suite, image or compiler is found out before a build.
//!
//! Read [`check`] first.

use super::Toolchain;
use super::marks::Node;
use super::raw;
use super::sheet::Sheet;
use super::words::{Wrong, argument, wrong};

/// Checks `toolchain:`.
pub(super) fn check(sheet: &mut Sheet, toolchain: raw::Toolchain, marks: &Node) -> Option<Toolchain> {
    match toolchain {
        raw::Toolchain { host: Some(raw::Host { compiler: written }), debian: None, container: None } => {
            let compiler = one(sheet, written, marks.at("host"), "compiler", compiler)?;
            Some(Toolchain::Host { compiler })
        }
        raw::Toolchain { host: None, debian: Some(raw::Buildroot { suite: named, compiler: written, packages }), container: None } => {
            let marks = marks.at("debian");
            let suite = one(sheet, named, marks, "suite", suite);
            let compiler = one(sheet, written, marks, "compiler", package);
            let packages = sheet.each_once(packages, marks, "packages", package);
            Some(Toolchain::Debian { suite: suite?, compiler: compiler?, packages })
        }
        raw::Toolchain { host: None, debian: None, container: Some(raw::Container { image: named, compiler: written }) } => {
            let marks = marks.at("container");
            let image = one(sheet, named, marks, "image", image);
            let compiler = one(sheet, written, marks, "compiler", compiler);
            Some(Toolchain::Container { image: image?, compiler: compiler? })
        }
        raw::Toolchain { .. } if marks.lost.is_empty() => {
            sheet.say(marks.place, "a toolchain is exactly one of `host`, `debian` and `container`", "write one of them");
            None
        }
        raw::Toolchain { .. } => None,
    }
}

fn one(sheet: &mut Sheet, text: Option<String>, marks: &Node, key: &str, check: impl Fn(&str) -> Result<String, Wrong>) -> Option<String> {
    let text = sheet.required(text, marks, key)?;
    sheet.value(check(&text), marks.at(key).place)
}

fn compiler(text: &str) -> Result<String, Wrong> {
    argument(text, "compiler", "+-./_")
}

fn package(text: &str) -> Result<String, Wrong> {
    argument(text, "Debian package", "+-.")
}

fn suite(text: &str) -> Result<String, Wrong> {
    argument(text, "suite", "-.")
}

fn image(text: &str) -> Result<String, Wrong> {
    argument(text, "container image", "+-./_:@")
}

/// Reads `host:COMPILER`, `debian:SUITE:COMPILER` or `container:IMAGE:COMPILER`; an image may have colons of its own.
pub(super) fn from_word(word: &str) -> Result<Toolchain, Wrong> {
    let form =
        || wrong(format!("{word:?} is no toolchain"), "write `host:COMPILER`, `debian:SUITE:COMPILER` or `container:IMAGE:COMPILER`");
    match word.split_once(':') {
        Some(("host", text)) => Ok(Toolchain::Host { compiler: compiler(text)? }),
        Some(("debian", rest)) => match rest.split_once(':') {
            Some((named, text)) => Ok(Toolchain::Debian { suite: suite(named)?, compiler: package(text)?, packages: Vec::new() }),
            None => form(),
        },
        Some(("container", rest)) => match rest.rsplit_once(':') {
            Some((named, text)) => Ok(Toolchain::Container { image: image(named)?, compiler: compiler(text)? }),
            None => form(),
        },
        Some(_) | None => form(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_option_names_a_toolchain() {
        assert_eq!(from_word("host:gcc-12").unwrap(), Toolchain::Host { compiler: "gcc-12".into() });
        let debian = Toolchain::Debian { suite: "bullseye".into(), compiler: "gcc-9".into(), packages: Vec::new() };
        assert_eq!(from_word("debian:bullseye:gcc-9").unwrap(), debian);
        let container = Toolchain::Container { image: "localhost:5000/centos:7".into(), compiler: "gcc".into() };
        assert_eq!(from_word("container:localhost:5000/centos:7:gcc").unwrap(), container);
        for bad in ["", "gcc", "host:", "host:gcc -m32", "debian:bullseye", "debian:--x:gcc", "debian:a:b/c", "container:x", "docker:a:b"] {
            assert!(from_word(bad).is_err(), "{bad}");
        }
    }
}
