//! Makes a pipeline's mitigations ready: each program of the host with its libraries, laid beside the reproducer.
//!
//! It runs nothing here. Arguments become words, never shell text.
//!
//! Read [`Beside`] first, then [`prepare`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::image::{ImageError, Payload};
use crate::spec::{Mitigation, Name};

/// What a mitigation's trials have in the guest.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What is laid over the root filesystem: the reproducer's, and the mitigation's program.
    pub payload: Payload,
    /// The program and its arguments, in the guest; nothing for `none`.
    pub words: Vec<String>,
}

/// Why a mitigation can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum MitigationError {
    /// Its program isn't there.
    #[error(
        "the mitigation `{name}` needs {}, which is not on this machine: install the package that brings it, or choose others with --mitigation",
        program.display()
    )]
    Missing {
        /// The mitigation.
        name: Name,
        /// The program.
        program: PathBuf,
    },
    /// It can't be put into the payload.
    #[error(transparent)]
    Payload(#[from] ImageError),
}

/// Makes the mitigations ready, each with the reproducer's payload.
///
/// # Errors
/// When a program, or a library that it needs, isn't there.
pub fn prepare<'a>(
    mitigations: impl IntoIterator<Item = &'a Mitigation>,
    reproducer: &Payload,
) -> Result<BTreeMap<Name, Beside>, MitigationError> {
    let ready = |mitigation: &Mitigation| {
        let Mitigation { name, program, arguments, expected: _ } = mitigation;
        let mut payload = reproducer.clone();
        let mut words = Vec::new();
        if let Some(program) = program {
            if !program.is_file() {
                return Err(MitigationError::Missing { name: name.clone(), program: program.clone() });
            }
            payload.program(program)?;
            words.push(program.display().to_string());
            words.extend(arguments.iter().cloned());
        }
        Ok((name.clone(), Beside { payload, words }))
    };
    mitigations.into_iter().map(ready).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn mitigation(name: &str, program: Option<&str>) -> Mitigation {
        let arguments = program.iter().map(|_| "-c".to_owned()).collect();
        Mitigation { name: Name::new(name).unwrap(), program: program.map(PathBuf::from), arguments, expected: BTreeMap::new() }
    }

    #[test]
    fn a_mitigation_is_its_program_and_arguments_or_nothing() {
        let ready = prepare(&[mitigation("none", None), mitigation("shell", Some("/bin/sh"))], &Payload::new()).unwrap();
        assert!(ready[&Name::new("none").unwrap()].words.is_empty());
        assert_eq!(ready[&Name::new("shell").unwrap()].words, ["/bin/sh", "-c"]);
    }

    #[test]
    fn a_missing_program_is_named_with_a_remedy() {
        let error = prepare(&[mitigation("oomd", Some("/no/such/oomd"))], &Payload::new()).unwrap_err().to_string();
        let expected = "the mitigation `oomd` needs /no/such/oomd, which is not on this machine: install the package that brings it, \
                        or choose others with --mitigation";
        assert_eq!(error, expected);
    }
}
