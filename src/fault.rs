//! Whose fault it is that something wasn't made: what an exit code, and a search that goes on or ends, depend on.
//!
//! Errors say it of themselves (`fault()`); nothing is decided here.
//!
//! Read [`Whose`].

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// What is built: a patch, what Kconfig makes of the source, or code that doesn't compile. Another commit or another stack of patches may be better.
    Source,
    /// The user's: a definition, an argument, a file or a folder that was named.
    Definition,
    /// This machine's, the network's, or ours.
    Ours,
}
