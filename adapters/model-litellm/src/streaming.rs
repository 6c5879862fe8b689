//! An answer that comes in pieces: bytes from the connection, chunks from the decoder, and the times between them.

use agent_core::{Chunk, ModelError, ModelStream};
use futures_util::{StreamExt, stream};
use reqwest::Response;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::decode::StreamDecoder;
use crate::failure;

/// The chunks of `response`. Dropping the stream closes its connection.
pub(crate) fn stream(response: Response, decoder: StreamDecoder, clock: Clock) -> ModelStream {
    let answering = Box::new(Answering { response, decoder, clock, progress: Progress::Waiting });
    stream::unfold(answering, |mut answering| async { Some((answering.next().await?, answering)) }).boxed()
}

struct Answering {
    response: Response,
    decoder: StreamDecoder,
    clock: Clock,
    progress: Progress,
}

/// How far an answer has come, which decides how long the next piece of it is waited for.
#[derive(Clone, Copy)]
enum Progress {
    /// Nothing has come that says something.
    Waiting,
    /// The last piece that said something came then.
    Saying(Instant),
    /// The model said then that it is done.
    Finished(Instant),
}

impl Answering {
    async fn next(&mut self) -> Option<Result<Chunk, ModelError>> {
        loop {
            match self.decoder.next_chunk() {
                Some(Ok(chunk)) => {
                    if says_something(&chunk) {
                        self.progress = Progress::Saying(Instant::now());
                    }
                    return Some(Ok(chunk));
                }
                Some(Err(error)) => return Some(Err(error)),
                None if self.decoder.is_over() => return None,
                None => {}
            }
            if self.decoder.has_finish() && !matches!(self.progress, Progress::Finished(_)) {
                self.progress = Progress::Finished(Instant::now());
            }
            if let Err(error) = self.read().await {
                return Some(Err(self.decoder.give_up(error)));
            }
        }
    }

    /// Reads more bytes.
    async fn read(&mut self) -> Result<(), ModelError> {
        let piece = self.response.chunk();
        let piece = match self.progress {
            Progress::Waiting => self.clock.until_first_token(piece).await?,
            Progress::Saying(last) => self.clock.until_next_token(last, piece).await?,
            // The answer is complete: neither a silence nor a cut can take that back.
            Progress::Finished(at) => Ok(self.clock.until_after_finish(at, piece).await.and_then(Result::ok).flatten()),
        };
        match piece.map_err(failure::broken)? {
            Some(bytes) => self.decoder.push(bytes),
            None => self.decoder.end(),
        }
        Ok(())
    }
}

fn says_something(chunk: &Chunk) -> bool {
    !matches!(chunk, Chunk::Usage(_) | Chunk::Finish(_))
}
