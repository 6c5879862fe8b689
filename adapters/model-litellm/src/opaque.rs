//! What a server has to see again of its own answers, in the form in which a conversation keeps it.
//!
//! Reasoning, its signatures and signatures of calls mean something to the model that made them, and to no other. They are kept
//! with its name, and go back to it alone.

use std::collections::BTreeMap;

use agent_core::Opaque;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the format, which conversations keep for as long as hosts keep them.
const FORMAT: u32 = 1;

/// What goes back with the message that it came with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Which format this is, and whose.
    #[serde(rename = "openai_compatible")]
    format: u32,
    /// The name under which the model was asked for.
    model: String,
    /// In which field of the message the text of the reasoning came, and goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
    /// Fields of the message.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) fields: Map<String, Value>,
    /// Fields of its calls, by their places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) calls: BTreeMap<u32, Map<String, Value>>,
}

impl Kept {
    /// As opaque bytes of an answer of `model`, or `None` when there is nothing to keep.
    pub(crate) fn seal(&mut self, model: &str) -> Option<Opaque> {
        if self.reasoning.is_none() && self.fields.is_empty() && self.calls.is_empty() {
            return None;
        }
        let kept = Self { format: FORMAT, model: model.to_owned(), ..std::mem::take(self) };
        serde_json::to_vec(&kept).ok().map(Opaque::new)
    }

    /// What is in opaque bytes, if an answer of `model` left it there.
    pub(crate) fn open(opaque: &Opaque, model: &str) -> Option<Self> {
        let kept: Self = serde_json::from_slice(opaque.as_bytes()).ok()?;
        (kept.format == FORMAT && kept.model == model).then_some(kept)
    }

    /// Adds pieces of a list of blocks, as `thinking_blocks` and `reasoning_details` are sent: a piece goes on with the block before
    /// it when it is of the same kind and that one has no end yet.
    pub(crate) fn add_blocks(&mut self, field: &str, pieces: Vec<Value>) {
        if pieces.is_empty() {
            return;
        }
        let blocks = self.fields.entry(field).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(blocks) = blocks else { return };
        for piece in pieces {
            match (blocks.last_mut(), piece) {
                (Some(Value::Object(block)), Value::Object(piece)) if goes_on(block, &piece) => extend(block, piece),
                (_, piece) => blocks.push(piece),
            }
        }
    }
}

/// Fields of blocks whose text comes in pieces.
const TEXTS: [&str; 4] = ["thinking", "text", "summary", "data"];

/// Whether `piece` is more of `block`.
fn goes_on(block: &Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let same = |field: &str| block.get(field) == piece.get(field);
    let is_signed = block.get("signature").and_then(Value::as_str).is_some_and(|signature| !signature.is_empty());
    let comes_whole = block.get("type").and_then(Value::as_str) == Some("redacted_thinking");
    same("type") && same("index") && !is_signed && !comes_whole
}

fn extend(block: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (field, value) in piece {
        match (block.get_mut(&field), value) {
            (Some(Value::String(text)), Value::String(more)) if TEXTS.contains(&field.as_str()) => text.push_str(&more),
            // An empty signature stands for one that comes later.
            (Some(_), Value::String(empty)) if empty.is_empty() => {}
            (Some(_), Value::Null) => {}
            (_, value) => drop(block.insert(field, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pieces: &[Value], expected: &Value) {
        let mut kept = Kept::default();
        pieces.iter().for_each(|piece| kept.add_blocks("thinking_blocks", vec![piece.clone()]));
        assert_eq!(kept.fields.get("thinking_blocks"), Some(expected));
    }

    #[test]
    fn pieces_become_blocks() {
        check(
            &[
                json!({"type": "thinking", "thinking": "They ", "signature": ""}),
                json!({"type": "thinking", "thinking": "ask.", "signature": ""}),
                json!({"type": "thinking", "thinking": "", "signature": "c2ln"}),
                json!({"type": "thinking", "thinking": "Again."}),
                json!({"type": "redacted_thinking", "data": "eA=="}),
                json!({"type": "redacted_thinking", "data": "eQ=="}),
            ],
            &json!([
                {"type": "thinking", "thinking": "They ask.", "signature": "c2ln"},
                {"type": "thinking", "thinking": "Again."},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "redacted_thinking", "data": "eQ=="},
            ]),
        );
        check(
            &[
                json!({"type": "reasoning.text", "index": 0, "text": "a", "format": "x"}),
                json!({"type": "reasoning.text", "index": 0, "text": "b", "format": null}),
                json!({"type": "reasoning.encrypted", "index": 1, "data": "zz"}),
                json!("odd"),
            ],
            &json!([
                {"type": "reasoning.text", "index": 0, "text": "ab", "format": "x"},
                {"type": "reasoning.encrypted", "index": 1, "data": "zz"},
                "odd",
            ]),
        );
    }

    #[test]
    fn what_is_kept_is_for_its_model() {
        let mut kept = Kept { reasoning: Some("reasoning".to_owned()), ..Kept::default() };
        let sealed = kept.seal("r1").unwrap();
        assert_eq!(sealed.as_bytes(), br#"{"openai_compatible":1,"model":"r1","reasoning":"reasoning"}"#);
        assert_eq!(Kept::open(&sealed, "r1").unwrap().reasoning.as_deref(), Some("reasoning"));
        assert_eq!(Kept::open(&sealed, "r2"), None);
        assert_eq!(Kept::open(&Opaque::new(*b"\x00signature\xff"), "r1"), None);
        assert_eq!(kept.seal("r1"), None);
    }
}
