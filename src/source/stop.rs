//! Long blocking work (unpacking, copying, hashing) that ends soon after nobody waits for it any more.
//!
//! A future that is dropped can't take its blocking thread with it; the thread has to look. This file decides nothing else.
//!
//! Read [`blocking`] first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the work is still wanted.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Fails with `Interrupted` when the work isn't wanted any more.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }
}

/// Says that the work isn't wanted any more when it is dropped.
#[derive(Debug)]
pub(super) struct StopOnDrop(pub Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread for blocking work. When the future is dropped, the work's [`Stop`] says so.
///
/// What the work needs to clean up (a scratch folder) has to be owned by it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce(&Stop) -> T + Send + 'static) -> T {
    let stop = Stop::default();
    let _guard = StopOnDrop(stop.clone());
    match tokio::task::spawn_blocking(move || work(&stop)).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}
