//! Requests with several intents.

/// Parts of fewer letters are no requests of their own.
const SHORTEST: usize = 8;

/// The parts of a request that may each be for another agent: sentences, and what an "and" joins. One part is the whole.
pub(super) fn parts(message: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for sentence in message.split(['.', '?', '!', ';', '\n', '。', '？', '！', '；']) {
        let mut rest = sentence;
        for joined in [", and ", " and then ", " and also ", " and ", "，然后", "，另外", "，还有", "，并且"]
        {
            while let Some((before, after)) = rest.split_once(joined) {
                parts.push(before);
                rest = after;
            }
        }
        parts.push(rest);
    }
    parts.into_iter().map(str::trim).filter(|part| is_request(part)).collect()
}

/// Whether a message says more than "yes, please", or "and the second one?".
pub(super) fn is_long(message: &str) -> bool {
    letters(message) >= LONG
}

/// Four words or so.
const LONG: usize = 16;

fn is_request(part: &str) -> bool {
    letters(part) >= SHORTEST
}

fn letters(part: &str) -> usize {
    let letters = part.chars().filter(|letter| letter.is_alphanumeric());
    // A Chinese word has one or two letters.
    letters.map(|letter| if letter.is_ascii() { 1 } else { 3 }).sum()
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn requests_have_parts() {
        let check = |message: &str, expected: &[&str]| assert_eq!(parts(message), expected);
        check("Where is my order?", &["Where is my order"]);
        check("Cancel my order and tell me the weather in Bonn.", &["Cancel my order", "tell me the weather in Bonn"]);
        check("Thanks! Where is my order?", &["Where is my order"]);
        check("取消我的订单，然后告诉我天气", &["取消我的订单", "告诉我天气"]);
        check("🙂🙂", &[]);
    }
}
