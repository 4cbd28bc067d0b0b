//! What a distribution's build sets before it reads a spec file: `rhel`, `centos`, `dist` and their like, as far as the package itself tells them.
//!
//! They come from the builder's macros.dist, which is in no package; but a release that ends in `.el7` was made with that file. What the package
//! doesn't tell is unknown, neither set nor unset: a patch that depends on it is refused, not guessed.
//!
//! Read [`macros`] first.

/// Releases of Enterprise Linux that have kernels: a macro `elN` for each.
const RELEASES: std::ops::RangeInclusive<u32> = 4..=12;

/// Macros that a distribution's build may set.
const NAMES: [&str; 5] = ["rhel", "centos", "centos_ver", "fedora", "dist"];

/// A macro's value before the spec file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is set to this.
    Set(String),
    /// It isn't set.
    Unset,
    /// The package doesn't tell.
    Unknown,
}

/// The macros of the distribution that made a package of this release and vendor (header tags `Release` and `Vendor`).
#[must_use]
pub fn macros(release: &str, vendor: Option<&str>) -> Vec<(String, Known)> {
    let major = enterprise(release);
    let of = |name: &str| match (name, &major) {
        (_, None) => Known::Unknown,
        ("fedora", Some(_)) => Known::Unset,
        ("rhel", Some((major, _))) => Known::Set(major.to_string()),
        // CentOS alone sets these, and all of its builds have its name.
        ("centos" | "centos_ver", Some((major, _))) => match vendor {
            Some("CentOS") => Known::Set(major.to_string()),
            Some(vendor) if vendor.starts_with("Red Hat") => Known::Unset,
            Some(_) | None => Known::Unknown,
        },
        (_, Some((_, dist))) => dist.clone().map_or(Known::Unknown, Known::Set),
    };
    let numbered = RELEASES.map(|number| {
        let known = match &major {
            Some((major, _)) if *major == number => Known::Set("1".to_owned()),
            Some(_) => Known::Unset,
            None => Known::Unknown,
        };
        (format!("el{number}"), known)
    });
    NAMES.into_iter().map(|name| (name.to_owned(), of(name))).chain(numbered).collect()
}

/// The major number in `1160.el7` or `348.7.1.el8_5`, and the `dist` that it ends in; none if something follows, which may be somebody's own.
fn enterprise(release: &str) -> Option<(u32, Option<String>)> {
    let start = release.rfind(".el")?;
    let dist = &release[start..];
    let digits: String = dist[3..].chars().take_while(char::is_ascii_digit).collect();
    let major = digits.parse().ok().filter(|major| RELEASES.contains(major))?;
    let rest = &dist[3 + digits.len()..];
    let is_all =
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|minor| !minor.is_empty() && minor.chars().all(|c| c.is_ascii_digit()));
    Some((major, is_all.then(|| dist.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(release: &str, vendor: Option<&str>) -> Vec<String> {
        let macros = macros(release, vendor).into_iter().filter(|(_, known)| *known != Known::Unset);
        let said = |(name, known)| match known {
            Known::Set(value) => format!("{name}={value}"),
            Known::Unset | Known::Unknown => format!("{name}?"),
        };
        macros.map(said).collect()
    }

    #[test]
    fn a_release_tells_its_distribution() {
        assert_eq!(shown("1160.el7", Some("CentOS")), ["rhel=7", "centos=7", "centos_ver=7", "dist=.el7", "el7=1"]);
        assert_eq!(shown("348.7.1.el8_5", Some("CentOS")), ["rhel=8", "centos=8", "centos_ver=8", "dist=.el8_5", "el8=1"]);
        assert_eq!(shown("1160.el7", Some("Red Hat, Inc.")), ["rhel=7", "dist=.el7", "el7=1"]);
        assert_eq!(shown("1160.el7.local", None), ["rhel=7", "centos?", "centos_ver?", "dist?", "el7=1"]);
    }

    #[test]
    fn what_a_release_does_not_tell_is_unknown() {
        for release in ["1", "200.fc35", "5.elrepo", "5.el", "1.el99"] {
            assert!(macros(release, Some("CentOS")).iter().all(|(_, known)| *known == Known::Unknown), "{release}");
        }
    }
}
