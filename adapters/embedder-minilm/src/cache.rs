//! Vectors of texts that came before.

use std::fmt;
use std::sync::Arc;

use lru::LruCache;

/// A text's vector, and how many tokens it was made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedded {
    pub(crate) vector: Arc<[f32]>,
    pub(crate) tokens: u64,
}

/// The vectors of the texts that were asked for last, within a number of bytes.
pub(crate) struct Cache {
    entries: LruCache<Arc<str>, Embedded>,
    bytes: usize,
    most: usize,
}

/// What an entry takes beside its text and its vector: its node, its place in the table of hashes, which may be half empty, the counters
/// of two `Arc`s, and what the allocator adds to three allocations.
const OVERHEAD: usize = 176;

impl Cache {
    /// A cache that holds so many bytes; none at 0.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, most }
    }

    /// What is known of `text`, which is then the last that was asked for.
    pub(crate) fn get(&mut self, text: &str) -> Option<Embedded> {
        self.entries.get(text).cloned()
    }

    /// Keeps the vector of `text`, and gives up those that were not asked for the longest.
    pub(crate) fn keep(&mut self, text: &Arc<str>, embedded: Embedded) {
        let bytes = bytes(text, &embedded);
        if bytes > self.most {
            return;
        }
        self.bytes += bytes;
        if let Some((text, before)) = self.entries.push(text.clone(), embedded) {
            self.bytes -= self::bytes(&text, &before);
        }
        while self.bytes > self.most {
            let Some((text, last)) = self.entries.pop_lru() else { return };
            self.bytes -= self::bytes(&text, &last);
        }
    }
}

fn bytes(text: &str, embedded: &Embedded) -> usize {
    text.len() + size_of_val(&*embedded.vector) + OVERHEAD
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.entries.len())
            .field("bytes", &self.bytes)
            .field("most", &self.most)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(value: f32) -> Embedded {
        Embedded { vector: [value; 4].into(), tokens: 3 }
    }

    /// Keeps these texts, asks for the first again before the last, and compares what is left.
    fn check(most: usize, texts: &[&str], expected: &[&str]) {
        let mut cache = Cache::new(most);
        for (number, text) in texts.iter().enumerate() {
            if number + 1 == texts.len() {
                cache.get(texts[0]);
            }
            cache.keep(&Arc::from(*text), embedded(1.0));
            assert!(cache.bytes <= most);
        }
        let left: Vec<&str> = texts.iter().copied().filter(|text| cache.get(text).is_some()).collect();
        assert_eq!(left, expected);
        assert_eq!(cache.bytes, left.iter().map(|text| bytes(text, &embedded(1.0))).sum::<usize>());
    }

    #[test]
    fn the_least_recently_asked_for_goes_first() {
        let room = |entries| entries * (1 + 16 + OVERHEAD);
        check(room(3), &["a", "b", "c", "d"], &["a", "c", "d"]);
        check(room(4), &["a", "b", "c", "d"], &["a", "b", "c", "d"]);
        check(room(1), &["a", "b"], &["b"]);
        check(
            room(2),
            &[
                "a",
                "b",
                "longer than all the others, and too long for the whole of the cache, by far, as it goes on and on and on, until there is nothing more to say about it, and then some more; for good measure, it goes on",
            ],
            &["a", "b"],
        );
        check(0, &["a", "b"], &[]);
    }

    #[test]
    fn a_text_is_kept_once() {
        let mut cache = Cache::new(10_000);
        cache.keep(&Arc::from("a"), embedded(1.0));
        cache.keep(&Arc::from("a"), embedded(2.0));
        assert_eq!(cache.get("a"), Some(embedded(2.0)));
        assert_eq!((cache.entries.len(), cache.bytes), (1, bytes("a", &embedded(2.0))));
    }
}
