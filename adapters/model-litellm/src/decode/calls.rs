//! Putting calls together of pieces that servers number, name and repeat in different ways.

use std::collections::{HashMap, VecDeque};

use agent_core::{Chunk, ModelError, ModelErrorClass};
use serde_json::value::RawValue;

use super::lenient::Count;
use super::wire::{CallPiece, FunctionPiece};
use crate::failure;

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// All of them have begun but the last one, perhaps.
    calls: Vec<Call>,
    /// The latest call with a number, which servers may give to several.
    by_number: HashMap<u64, usize>,
    /// The latest call with an id.
    by_id: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: Nesting,
    /// A call begins with its first argument, when its name is known to be whole.
    has_begun: bool,
}

/// Whether each element of a list, such as that of calls, is there as a whole, or may be a piece of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Elements {
    Whole,
    Pieces,
}

impl Calls {
    /// Takes an element of a list of calls. Tells which call it belongs to: their order is their number in chunks.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::Malformed`] for arguments that are no text: a piece that is left out would make other arguments of the rest.
    pub(super) fn push(
        &mut self,
        piece: &CallPiece<'_>,
        elements: Elements,
        chunks: &mut VecDeque<Chunk>,
    ) -> Result<u32, ModelError> {
        let none = FunctionPiece::default();
        let FunctionPiece { name, arguments } = piece.function.as_ref().unwrap_or(&none);
        let (id, name) = (&*piece.id.0, &*name.0);
        let arguments = arguments.map(argument_text).transpose()?.unwrap_or_default();
        let known = match elements {
            Elements::Pieces => self.find(piece.index, id, name, !arguments.trim().is_empty()),
            Elements::Whole => None,
        };
        let at = known.unwrap_or_else(|| self.open(piece.index, chunks));
        if !id.is_empty() {
            self.by_id.insert(id.to_owned(), at);
        }
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        if let Some(call) = self.calls.get_mut(at) {
            call.label(id, name);
            if !arguments.is_empty() {
                call.begin(index, chunks);
                call.arguments.read(&arguments);
                chunks.push_back(Chunk::CallArguments { index, text: arguments });
            }
        }
        Ok(index)
    }

    /// Takes a piece of a call in its old form, of which there is one.
    ///
    /// # Errors
    ///
    /// As with [`push`](Self::push).
    pub(super) fn push_function(
        &mut self,
        function: FunctionPiece<'_>,
        chunks: &mut VecDeque<Chunk>,
    ) -> Result<(), ModelError> {
        let piece = CallPiece { index: Count(Some(0)), function: Some(function), ..CallPiece::default() };
        self.push(&piece, Elements::Pieces, chunks).map(drop)
    }

    /// Begins the last call if no argument of it came: a function without any may be called so.
    pub(super) fn begin_last(&mut self, chunks: &mut VecDeque<Chunk>) {
        let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX).saturating_sub(1);
        if let Some(call) = self.calls.last_mut() {
            call.begin(index, chunks);
        }
    }

    pub(super) fn have_ids(&self) -> bool {
        !self.by_id.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Makes room for one more call.
    fn open(&mut self, number: Count, chunks: &mut VecDeque<Chunk>) -> usize {
        self.begin_last(chunks);
        let at = self.calls.len();
        self.by_number.insert(number.0.unwrap_or(at as u64), at);
        self.calls.push(Call::default());
        at
    }

    /// The call that a piece goes on with, if it begins none.
    fn find(&self, number: Count, id: &str, name: &str, has_arguments: bool) -> Option<usize> {
        let at = match number {
            Count(Some(number)) => *self.by_number.get(&number)?,
            // Without a number an id or a name begins a call, and anything else goes on with the last one.
            Count(None) if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1)?,
            Count(None) => *self.by_id.get(id)?,
        };
        self.calls.get(at).filter(|call| !call.is_followed_by(id, name, has_arguments)).map(|_| at)
    }
}

impl Call {
    /// Whether a piece with this id and name begins another call, though it has the number or the id of this one. Some servers
    /// repeat id and name with every piece; some give all calls one number, or one id.
    fn is_followed_by(&self, id: &str, name: &str, has_arguments: bool) -> bool {
        let has_another_id = !id.is_empty() && !self.id.is_empty() && id != self.id;
        let says_more = has_arguments || name != self.name;
        !name.is_empty() && (has_another_id || (self.arguments.is_complete() && says_more))
    }

    /// Takes an id and a name, which some servers send in pieces.
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

/// How deep in brackets a JSON text is after what came of it, so that its end is known without reading it again.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    in_text: bool,
    is_escaped: bool,
    has_begun: bool,
}

impl Nesting {
    fn read(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_text => self.is_escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => (self.depth, self.has_begun) = (self.depth + 1, true),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.has_begun && self.depth == 0
    }
}

/// The text of arguments: a text's content, or any other value as it is written. `null` is none.
fn argument_text(arguments: &RawValue) -> Result<String, ModelError> {
    match arguments.get() {
        "null" => Ok(String::new()),
        // A text that serde refuses holds half a character of UTF-16.
        raw if raw.starts_with('"') => {
            serde_json::from_str(raw).map_err(|_| failure::error(ModelErrorClass::Malformed))
        }
        raw => Ok(raw.to_owned()),
    }
}
