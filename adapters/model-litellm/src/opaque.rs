//! What a server has to see again of its own answers, in the form in which a conversation keeps it.
//!
//! Reasoning, its signatures, and the ids and signatures of calls mean something to the model that made them, and to no other. They
//! are kept with its name, and go back to it alone. Ids are kept with their calls: that something is kept says whose they are.

use std::collections::BTreeMap;

use agent_core::Opaque;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::decode::Elements;

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
    pub(crate) fn is_empty(&self) -> bool {
        self.reasoning.is_none() && self.fields.is_empty() && self.calls.is_empty()
    }

    /// As opaque bytes of an answer of `model`.
    pub(crate) fn seal(&mut self, model: &str) -> Option<Opaque> {
        let kept = Self { format: FORMAT, model: model.to_owned(), ..std::mem::take(self) };
        serde_json::to_vec(&kept).ok().map(Opaque::new)
    }

    /// What is in opaque bytes, if an answer of `model` left it there.
    pub(crate) fn open(opaque: &Opaque, model: &str) -> Option<Self> {
        let kept: Self = serde_json::from_slice(opaque.as_bytes()).ok()?;
        (kept.format == FORMAT && kept.model == model).then_some(kept)
    }

    /// Adds a list of blocks, as `thinking_blocks` and `reasoning_details` are sent. Where they come in pieces, one with a number goes
    /// on with the block of that number, and one without, if it is the first of its list, with the block before it.
    pub(crate) fn add_blocks(&mut self, field: &str, list: Vec<Value>, elements: Elements) {
        let Value::Array(blocks) = self.fields.entry(field).or_insert_with(|| Value::Array(Vec::new())) else { return };
        let before = blocks.len();
        for (place, element) in list.into_iter().enumerate() {
            let begun = match &element {
                _ if elements == Elements::Whole => None,
                element if !element["index"].is_null() => blocks
                    .iter_mut()
                    .rfind(|block| block["index"] == element["index"] && block["type"] == element["type"]),
                _ if place == 0 => blocks.get_mut(..before).and_then(<[Value]>::last_mut),
                _ => None,
            };
            match (begun, element) {
                (Some(Value::Object(block)), Value::Object(piece)) if goes_on(block, &piece) => extend(block, piece),
                (_, element) => blocks.push(element),
            }
        }
        if blocks.is_empty() {
            self.fields.remove(field);
        }
    }

    /// Adds signatures of thoughts that are not there yet.
    pub(crate) fn add_signatures(&mut self, signatures: Vec<Value>) {
        if signatures.is_empty() {
            return;
        }
        let fields = self.fields.entry("provider_specific_fields").or_insert_with(|| json!({"thought_signatures": []}));
        if let Some(known) = fields["thought_signatures"].as_array_mut() {
            signatures.into_iter().for_each(|signature| {
                if !known.contains(&signature) {
                    known.push(signature);
                }
            });
        }
    }
}

/// Fields of blocks whose text comes in pieces.
const TEXTS: [&str; 4] = ["thinking", "text", "summary", "data"];

/// Whether `piece` is more of `block`.
fn goes_on(block: &Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let same = |field: &str| block.get(field) == piece.get(field);
    let id = |fields: &Map<String, Value>| fields.get("id").filter(|id| !id.is_null()).cloned();
    let is_another = id(block).zip(id(piece)).is_some_and(|(id, other)| id != other);
    let is_signed = block.get("signature").and_then(Value::as_str).is_some_and(|signature| !signature.is_empty());
    let comes_whole = block.get("type").and_then(Value::as_str) == Some("redacted_thinking");
    same("type") && same("index") && !is_another && !is_signed && !comes_whole
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
    use super::*;

    #[track_caller]
    fn check(pieces: &[Value], expected: &Value) {
        let mut kept = Kept::default();
        pieces.iter().for_each(|piece| kept.add_blocks("thinking_blocks", vec![piece.clone()], Elements::Pieces));
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
    fn elements_of_one_list_are_blocks_of_their_own() {
        let text = |text: &str| json!({"type": "reasoning.text", "text": text});
        let list = |list: &[Value], elements| {
            let mut kept = Kept::default();
            list.iter().for_each(|list| kept.add_blocks("details", list.as_array().unwrap().clone(), elements));
            kept.fields.remove("details").unwrap_or_default()
        };
        let blocks = json!([text("a"), text("b")]);
        assert_eq!(list(&[blocks.clone(), json!([])], Elements::Whole), blocks);
        assert_eq!(
            list(&[blocks.clone(), json!([text("c"), text("d")])], Elements::Pieces),
            json!([text("a"), text("bc"), text("d")])
        );
        assert_eq!(list(&[json!([])], Elements::Pieces), Value::Null);
        let numbered = |index: u32, text: &str| json!({"type": "reasoning.text", "index": index, "text": text});
        let interleaved =
            [json!([numbered(0, "a"), numbered(1, "b")]), json!([numbered(0, "c")]), json!([numbered(1, "d")])];
        assert_eq!(list(&interleaved, Elements::Pieces), json!([numbered(0, "ac"), numbered(1, "bd")]));
        let with_id = |id: Value| json!({"type": "reasoning.encrypted", "id": id, "data": "x"});
        let others = [json!([with_id(json!("r1"))]), json!([with_id(json!("r2"))])];
        assert_eq!(list(&others, Elements::Pieces), json!([with_id(json!("r1")), with_id(json!("r2"))]));
    }

    #[test]
    fn signatures_are_kept_once_each() {
        let mut kept = Kept::default();
        for list in [json!(["a"]), json!([]), json!(["a", "b"]), json!(["c"])] {
            kept.add_signatures(list.as_array().unwrap().clone());
        }
        assert_eq!(kept.fields["provider_specific_fields"], json!({"thought_signatures": ["a", "b", "c"]}));
    }

    #[test]
    fn what_is_kept_is_for_its_model() {
        let mut kept = Kept { reasoning: Some("reasoning".to_owned()), ..Kept::default() };
        let sealed = kept.seal("r1").unwrap();
        assert_eq!(sealed.as_bytes(), br#"{"openai_compatible":1,"model":"r1","reasoning":"reasoning"}"#);
        assert_eq!(Kept::open(&sealed, "r1").unwrap().reasoning.as_deref(), Some("reasoning"));
        assert_eq!(Kept::open(&sealed, "r2"), None);
        assert_eq!(Kept::open(&Opaque::new(*b"\x00signature\xff"), "r1"), None);
        assert!(kept.is_empty());
    }
}
