//! Reading ahead: a stream is produced on this thread and consumed on another, so that decompressing an archive and writing its files go on at once.
//!
//! It bounds what lies in between, and loses no error: a failed read reaches the consumer as its own. It decompresses and unpacks nothing itself.
//!
//! Read [`ahead`] first.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Bytes in one piece: an xz decoder's output of a few milliseconds.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the consumer, at most: 2 MiB.
const WAITING: usize = 8;

/// Runs `consume` on a thread of its own with what is read from `from`. What it leaves unread is left unread in `from` too, but for the pieces ahead.
pub fn ahead<T: Send>(mut from: impl Read, consume: impl FnOnce(&mut dyn Read) -> T + Send) -> T {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let consumer = scope.spawn(move || consume(&mut Pieces { receiver, piece: Vec::new(), at: 0 }));
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = from.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            let (is_last, failure) = (piece.is_empty(), read.err());
            // What came before a failure belongs to the consumer too.
            if !piece.is_empty() && sender.send(Ok(piece)).is_err() {
                break;
            }
            if let Some(failure) = failure {
                // A consumer that has ended doesn't want to know.
                let _ = sender.send(Err(failure));
                break;
            }
            if is_last {
                break;
            }
        }
        drop(sender);
        consumer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                // The producer has come to the end.
                Err(_) => return Ok(0),
            }
        }
        let read = (&self.piece[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Fails after its bytes.
    struct Breaks<'a>(&'a [u8]);

    impl Read for Breaks<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("broken")) } else { self.0.read(buffer) }
        }
    }

    fn bytes() -> Vec<u8> {
        (0..3 * PIECE + 17).map(|number| (number % 251) as u8).collect()
    }

    fn everything(from: &mut dyn Read) -> (Vec<u8>, Option<String>) {
        let mut all = Vec::new();
        let error = from.read_to_end(&mut all).err().map(|error| error.to_string());
        (all, error)
    }

    #[test]
    fn passes_everything_on() {
        let bytes = bytes();
        assert_eq!(ahead(bytes.as_slice(), everything), (bytes.clone(), None));
        assert_eq!(ahead(io::empty(), everything), (Vec::new(), None));
    }

    #[test]
    fn an_error_reaches_the_consumer_behind_what_was_read_before_it() {
        let bytes = bytes();
        assert_eq!(ahead(Breaks(&bytes), everything), (bytes.clone(), Some("broken".to_owned())));
    }

    #[test]
    fn a_consumer_that_has_enough_ends_it() {
        let mut endless = io::repeat(7);
        let read = ahead(&mut endless, |from| {
            let mut few = [0; 10];
            from.read_exact(&mut few).map(|()| few)
        });
        assert_eq!(read.unwrap(), [7; 10]);
    }
}
