//! Halves of characters of UTF-16 in JSON: servers that cut texts into pieces leave them, and no parser takes them.

/// `json` with the sign for what is no character in the place of every half of one, or `None` when there is none.
pub(super) fn mend(json: &str) -> Option<String> {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = escape.get(6..)?;
                continue;
            }
            _ => 2,
        };
        let (sound, after) = escape.split_at_checked(length)?;
        mended.push_str(sound);
        rest = after;
    }
    mended.push_str(rest);
    (mended != json).then_some(mended)
}

/// The unit of UTF-16 that an escape stands for.
fn unit(escape: &str) -> Option<u32> {
    u32::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_replaced() {
        for (json, expected) in [
            (r#""\ud83d""#, Some(r#""\ufffd""#)),
            (r#""\uDE00\uD83D x""#, Some(r#""\ufffd\ufffd x""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#""\ud83d\ude00 \\ud83d \n""#, None),
            (r#""\u00e9 \u+12a \u12"#, None),
            (r#""\ud83d\"#, None),
            ("7é", None),
        ] {
            assert_eq!(mend(json).as_deref(), expected, "{json}");
        }
    }
}
