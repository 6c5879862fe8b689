//! An answer that comes: bytes from the connection, chunks from the decoder, and the times between them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_core::{Chunk, ModelError, ModelStream};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use reqwest::Response;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use crate::clock::{Clock, Watch};
use crate::decode::StreamDecoder;
use crate::failure;

/// How long the end of a body is waited for after the end of the answer in it: so that its connection can be used again.
const LINGER: Duration = Duration::from_millis(200);

/// How many pieces of a body are read after the end of the answer in it.
const PIECES_AFTER_END: usize = 16;

/// The chunks of `response`. Dropping the stream closes its connection, unless the answer has ended.
pub(crate) fn stream(response: Response, decoder: StreamDecoder, clock: Clock) -> ModelStream {
    let body = response.bytes_stream().boxed();
    Answering { body, decoder, watch: clock.watch(), has_answered: false, is_read: false }.boxed()
}

struct Answering {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: StreamDecoder,
    watch: Watch,
    /// Whether the last chunk was given out, though the body may go on.
    has_answered: bool,
    /// Whether the body was read to its end.
    is_read: bool,
}

impl Stream for Answering {
    type Item = Result<Chunk, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { body, decoder, watch, has_answered, is_read } = &mut *self;
        loop {
            match decoder.next_chunk() {
                Some(Ok(chunk)) => {
                    match chunk {
                        Chunk::Finish(_) => *has_answered = true,
                        Chunk::Usage(_) => {}
                        _ => watch.heard(),
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if decoder.is_over() => return Poll::Ready(None),
                None => {}
            }
            // A server that is faster than its reader would keep others, and the clock, from their turn.
            ready!(pin!(consume_budget()).poll(task));
            let is_complete = decoder.has_finish();
            if is_complete {
                watch.heard_the_end();
            }
            let problem = match watch.ensure_in_time().map(|()| body.poll_next_unpin(task)) {
                Ok(Poll::Ready(Some(Ok(bytes)))) => {
                    decoder.push(bytes);
                    continue;
                }
                Ok(Poll::Ready(None)) => {
                    *is_read = true;
                    decoder.end();
                    continue;
                }
                Ok(Poll::Ready(Some(Err(problem)))) => failure::broken(problem),
                Ok(Poll::Pending) => ready!(watch.poll_late(task)),
                Err(late) => late,
            };
            if is_complete {
                // Neither a silence nor a cut can take a complete answer back.
                decoder.end();
            } else {
                return Poll::Ready(Some(Err(decoder.give_up(problem))));
            }
        }
    }
}

impl Drop for Answering {
    /// Reads the end of the body of an answer that was read to its own end, which most often is on its way: a connection whose body
    /// is not at its end is closed.
    fn drop(&mut self) {
        if !self.has_answered || self.is_read || matches!(self.body.next().now_or_never(), Some(None)) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let body = std::mem::replace(&mut self.body, stream::empty().boxed());
        runtime.spawn(timeout(LINGER, body.take(PIECES_AFTER_END).for_each(async |_| {})));
    }
}
