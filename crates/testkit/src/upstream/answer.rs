//! What a [`FaultUpstream`](super::FaultUpstream) does with one request, byte for byte.

use std::time::Duration;

use serde_json::Value;

/// What happens on the connection after one request: a head, a body in pieces, pauses and cuts, in this order.
///
/// Nothing here has to be valid HTTP, JSON or SSE: an answer is what some server might send.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) head: Option<Head>,
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
}

/// How the client knows where the body ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Framing {
    /// `content-length` with the true length.
    Length,
    /// `content-length` with another one.
    WrongLength(usize),
    /// `transfer-encoding: chunked`, a chunk for each piece.
    Chunked,
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// The connection is closed, in the middle of whatever is being sent.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing ever comes again.
    Hang,
}

impl Answer {
    /// An empty answer of this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { head: Some(Head { status, headers: Vec::new(), framing: Framing::Length }), pieces: Vec::new() }
    }

    /// A JSON document.
    #[must_use]
    pub fn json(status: u16, value: &Value) -> Self {
        Self::status(status).with_header("content-type", "application/json").then(value.to_string())
    }

    /// An error as OpenAI's API tells it.
    #[must_use]
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let code = if code.is_empty() { Value::Null } else { code.into() };
        let error = serde_json::json!({"message": message, "type": kind, "param": null, "code": code});
        Self::json(status, &serde_json::json!({ "error": error }))
    }

    /// The beginning of a stream of server-sent events.
    #[must_use]
    pub fn stream() -> Self {
        let mut answer = Self::status(200).with_header("content-type", "text/event-stream; charset=utf-8");
        if let Some(head) = &mut answer.head {
            head.framing = Framing::Chunked;
        }
        answer
    }

    /// No HTTP head at all: begin with this to send bytes of your own, or none.
    #[must_use]
    pub fn raw() -> Self {
        Self { head: None, pieces: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Some(head) = &mut self.head {
            head.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same with a `content-length` that is not the body's.
    #[must_use]
    pub fn with_wrong_length(mut self, length: usize) -> Self {
        if let Some(head) = &mut self.head {
            head.framing = Framing::WrongLength(length);
        }
        self
    }

    /// The same, and then these bytes, in a packet of their own.
    #[must_use]
    pub fn then(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then_piece(Piece::Bytes(bytes.into()))
    }

    /// The same, and then one event.
    #[must_use]
    pub fn then_event(self, data: &Value) -> Self {
        self.then(format!("data: {data}\n\n"))
    }

    /// The same, and then the event that ends a stream.
    #[must_use]
    pub fn then_done(self) -> Self {
        self.then("data: [DONE]\n\n")
    }

    /// The same, and then a pause.
    #[must_use]
    pub fn then_wait(self, pause: Duration) -> Self {
        self.then_piece(Piece::Wait(pause))
    }

    /// The same, and then the connection is closed.
    #[must_use]
    pub fn then_close(self) -> Self {
        self.then_piece(Piece::Close)
    }

    /// The same, and then the connection is reset.
    #[must_use]
    pub fn then_reset(self) -> Self {
        self.then_piece(Piece::Reset)
    }

    /// The same, and then nothing ever again.
    #[must_use]
    pub fn then_hang(self) -> Self {
        self.then_piece(Piece::Hang)
    }

    /// The same, and then everything that comes of `other` after its head.
    #[must_use]
    pub fn then_all_of(mut self, other: Self) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// The same body in one packet.
    #[must_use]
    pub fn in_one_packet(self) -> Self {
        self.map_runs(|bytes| vec![Piece::Bytes(bytes)])
    }

    /// The same body in packets of so many bytes, with a pause after each.
    #[must_use]
    pub fn in_packets_of(self, size: usize, pause: Duration) -> Self {
        self.map_runs(|bytes| {
            let packets = bytes.chunks(size.max(1)).map(|packet| Piece::Bytes(packet.to_vec()));
            packets.flat_map(|packet| [packet, Piece::Wait(pause)]).collect()
        })
    }

    /// The same, with what lies between pauses and cuts put together and changed.
    #[must_use]
    pub fn map_bytes(self, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        self.map_runs(|bytes| vec![Piece::Bytes(change(bytes))])
    }

    fn map_runs(mut self, change: impl Fn(Vec<u8>) -> Vec<Piece>) -> Self {
        let (mut pieces, mut run) = (Vec::new(), Vec::new());
        for piece in self.pieces {
            match piece {
                Piece::Bytes(bytes) => run.extend(bytes),
                other => {
                    if !run.is_empty() {
                        pieces.extend(change(std::mem::take(&mut run)));
                    }
                    pieces.push(other);
                }
            }
        }
        if !run.is_empty() {
            pieces.extend(change(run));
        }
        self.pieces = pieces;
        self
    }

    fn then_piece(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }
}
