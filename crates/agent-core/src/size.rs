//! Sizes of JSON values without writing them out.

use std::io;

use serde_json::{Number, Value};

/// The length of `value` as compact JSON, or `None` as soon as it is over `limit`.
pub(crate) fn json_size_within(value: &Value, limit: usize) -> Option<usize> {
    let mut room = Room { left: limit };
    room.take(value)?;
    Some(limit - room.left)
}

/// The length of `value` as compact JSON.
pub(crate) fn json_size(value: &Value) -> usize {
    json_size_within(value, usize::MAX).unwrap_or(usize::MAX)
}

/// How many bytes there may be yet.
struct Room {
    left: usize,
}

impl Room {
    fn bytes(&mut self, count: usize) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        Some(())
    }

    fn take(&mut self, value: &Value) -> Option<()> {
        match value {
            Value::Null | Value::Bool(true) => self.bytes(4),
            Value::Bool(false) => self.bytes(5),
            Value::Number(number) => self.bytes(written(number)),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.bytes(2 + items.len().saturating_sub(1))?;
                items.iter().try_for_each(|item| self.take(item))
            }
            Value::Object(fields) => {
                self.bytes(2 + fields.len() + fields.len().saturating_sub(1))?;
                fields.iter().try_for_each(|(name, field)| {
                    self.text(name)?;
                    self.take(field)
                })
            }
        }
    }

    fn text(&mut self, text: &str) -> Option<()> {
        self.bytes(2 + text.len())?;
        let escaped = count(text, |byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        if escaped == 0 {
            return Some(());
        }
        let is_long = |byte| byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t' | 0x08 | 0x0C);
        self.bytes(escaped + 4 * count(text, is_long))
    }
}

/// How many bytes of a text are such. Counted in bytes first, so that many are looked at in one instruction.
fn count(text: &str, is_one: impl Fn(u8) -> bool) -> usize {
    let in_chunk = |chunk: &[u8]| chunk.iter().fold(0, |count, byte| count + u8::from(is_one(*byte)));
    text.as_bytes().chunks(128).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// How many bytes a number takes.
fn written(number: &Number) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0 += buffer.len();
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting does not fail.
    let _ = serde_json::to_writer(&mut counter, number);
    counter.0
}

/// How many levels arguments and results may nest. Saved states hold them some sixty levels down, and readers of JSON stop at 128.
pub(crate) const MAX_LEVELS: usize = 32;

/// Whether `value` nests deeper than [`MAX_LEVELS`].
pub(crate) fn is_too_deep(value: &Value) -> bool {
    fn deeper_than(levels: usize, value: &Value) -> bool {
        let Some(below) = levels.checked_sub(1) else { return true };
        match value {
            Value::Array(items) => items.iter().any(|item| deeper_than(below, item)),
            Value::Object(fields) => fields.values().any(|field| deeper_than(below, field)),
            _ => false,
        }
    }
    deeper_than(MAX_LEVELS, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![".{0,12}", "[ -~\u{0}-\u{1f}\"\\\\]{0,40}", Just("注文 🦀".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((text.clone(), inner), 0..6)
                    .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_size_is_the_length_of_what_would_be_written(value in value()) {
            let length = value.to_string().len();
            prop_assert_eq!(json_size(&value), length);
            prop_assert_eq!(json_size_within(&value, length), Some(length));
            prop_assert_eq!(json_size_within(&value, length - 1), None);
        }
    }

    #[test]
    fn nothing_is_counted_beyond_the_limit() {
        assert_eq!(json_size_within(&json!({"a": ["b", 1.5]}), 5), None);
        assert_eq!(json_size_within(&json!(null), 0), None);
    }
}
