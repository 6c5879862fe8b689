//! An answer that comes in pieces: bytes from the connection, chunks from the decoder, and the times between them.

use std::pin::Pin;
use std::task::{Context, Poll};

use agent_core::{Chunk, ModelError, ModelStream};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use reqwest::Response;

use crate::clock::{Clock, Watch};
use crate::decode::StreamDecoder;
use crate::failure;

/// The chunks of `response`. Dropping the stream closes its connection.
pub(crate) fn stream(response: Response, decoder: StreamDecoder, clock: Clock) -> ModelStream {
    Answering { body: response.bytes_stream().boxed(), decoder, watch: clock.watch() }.boxed()
}

struct Answering {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: StreamDecoder,
    watch: Watch,
}

impl Stream for Answering {
    type Item = Result<Chunk, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { body, decoder, watch } = &mut *self;
        loop {
            match decoder.next_chunk() {
                Some(Ok(chunk)) => {
                    if !matches!(chunk, Chunk::Usage(_) | Chunk::Finish(_)) {
                        watch.heard();
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if decoder.is_over() => return Poll::Ready(None),
                None => {}
            }
            let is_complete = decoder.has_finish();
            if is_complete {
                watch.heard_the_end();
            }
            let problem = match body.poll_next_unpin(task) {
                Poll::Ready(Some(Ok(bytes))) => {
                    decoder.push(bytes);
                    continue;
                }
                Poll::Ready(None) => {
                    decoder.end();
                    continue;
                }
                Poll::Ready(Some(Err(problem))) => failure::broken(problem),
                Poll::Pending => match watch.poll_late(task) {
                    Poll::Ready(error) => error,
                    Poll::Pending => return Poll::Pending,
                },
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
