//! Sizes of JSON values without writing them out.

use std::io;

use serde_json::Value;

/// Counts bytes, and fails as soon as there are more than `limit`.
struct Counter {
    bytes: usize,
    limit: usize,
}

impl io::Write for Counter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(buffer.len());
        if self.bytes > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The length of `value` as compact JSON, or `None` as soon as it is over `limit`.
pub(crate) fn json_size_within(value: &Value, limit: usize) -> Option<usize> {
    let mut counter = Counter { bytes: 0, limit };
    serde_json::to_writer(&mut counter, value).ok().map(|()| counter.bytes)
}

/// The length of `value` as compact JSON.
pub(crate) fn json_size(value: &Value) -> usize {
    json_size_within(value, usize::MAX).unwrap_or(usize::MAX)
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
