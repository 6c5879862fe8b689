//! Putting calls together of pieces that servers number, name and repeat in different ways.

use std::collections::VecDeque;

use agent_core::Chunk;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::lenient::Count;
use super::wire::{CallPiece, FunctionPiece};

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    /// The server's number, which it may give to several.
    number: u64,
    id: String,
    name: String,
    /// What came of the arguments.
    arguments: String,
    /// A call begins with its first argument, when its name is known to be whole.
    has_begun: bool,
}

impl Calls {
    /// Takes a piece. Tells which call it belongs to: their order is their number in chunks.
    pub(super) fn push(&mut self, piece: CallPiece<'_>, chunks: &mut VecDeque<Chunk>) -> u32 {
        let FunctionPiece { name, arguments } = piece.function.unwrap_or_default();
        let at = match self.find(piece.index, &piece.id.0, &name.0) {
            Some(at) => at,
            None => {
                self.begin_all(chunks);
                let number = piece.index.0.unwrap_or(self.calls.len() as u64);
                let (id, name) = (String::new(), String::new());
                self.calls.push(Call { number, id, name, arguments: String::new(), has_begun: false });
                self.calls.len() - 1
            }
        };
        let index = to_u32(at);
        if let Some(call) = self.calls.get_mut(at) {
            call.label(&piece.id.0, &name.0);
            let arguments = arguments.map(argument_text).unwrap_or_default();
            if !arguments.is_empty() {
                call.begin(index, chunks);
                call.arguments.push_str(&arguments);
                chunks.push_back(Chunk::CallArguments { index, text: arguments });
            }
        }
        index
    }

    /// Takes a call in its old form, of which there is one.
    pub(super) fn push_function(&mut self, function: FunctionPiece<'_>, chunks: &mut VecDeque<Chunk>) {
        let piece = CallPiece { index: Count(Some(0)), function: Some(function), ..CallPiece::default() };
        self.push(piece, chunks);
    }

    /// Begins the calls of which no argument came: a function without any may be called so.
    pub(super) fn begin_all(&mut self, chunks: &mut VecDeque<Chunk>) {
        for (index, call) in self.calls.iter_mut().enumerate() {
            call.begin(to_u32(index), chunks);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The call that a piece goes on with, if it begins none.
    fn find(&self, number: Count, id: &str, name: &str) -> Option<usize> {
        let at = match number {
            Count(Some(number)) => self.calls.iter().rposition(|call| call.number == number)?,
            // Without a number an id or a name begins a call, and anything else goes on with the last one.
            Count(None) if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1)?,
            Count(None) => self.calls.iter().rposition(|call| !id.is_empty() && call.id == id)?,
        };
        self.calls.get(at).filter(|call| !call.is_followed_by(id, name)).map(|_| at)
    }
}

impl Call {
    /// Whether a piece with this id and name begins another call, though it has the number of this one.
    fn is_followed_by(&self, id: &str, name: &str) -> bool {
        let has_another_id = !id.is_empty() && !self.id.is_empty() && id != self.id;
        let is_complete = || serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok();
        !name.is_empty() && (has_another_id || (id.is_empty() && self.id.is_empty() && is_complete()))
    }

    /// Takes an id and a name, which some servers repeat with every piece, and some send in pieces.
    fn label(&mut self, id: &str, name: &str) {
        if self.has_begun {
            return;
        }
        if self.id.is_empty() {
            id.clone_into(&mut self.id);
        }
        if self.name != name {
            self.name.push_str(name);
        }
    }

    fn begin(&mut self, index: u32, chunks: &mut VecDeque<Chunk>) {
        if !self.has_begun {
            self.has_begun = true;
            chunks.push_back(Chunk::CallStart { index, id: self.id.clone(), name: self.name.clone() });
        }
    }
}

/// The text of arguments: a text's content, or any other value as it is written. `null` is none.
fn argument_text(arguments: &RawValue) -> String {
    match arguments.get() {
        "null" => String::new(),
        raw if raw.starts_with('"') => serde_json::from_str(raw).unwrap_or_default(),
        raw => raw.to_owned(),
    }
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
