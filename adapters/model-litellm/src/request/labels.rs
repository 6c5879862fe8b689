//! Ids of calls on the wire: the provider's own for the model that gave them, and others that every server takes for all others.

use std::borrow::Cow;
use std::collections::HashSet;

/// Gives every call of a conversation an id that no other has.
#[derive(Debug, Default)]
pub(super) struct Labels {
    used: HashSet<String>,
    made: u32,
}

impl Labels {
    /// The id of the next call, which the model that is asked called `label`, perhaps.
    pub(super) fn next<'a>(&mut self, label: Option<&'a str>) -> Cow<'a, str> {
        let own = label.filter(|label| !label.is_empty());
        if let Some(label) = own.filter(|label| self.used.insert((*label).to_owned())) {
            return label.into();
        }
        loop {
            self.made += 1;
            let label = made(self.made);
            if self.used.insert(label.clone()) {
                return label.into();
            }
        }
    }
}

/// Nine letters and digits, the only form that Mistral takes. The same conversation gives the same ids, which prompt caches need.
fn made(number: u32) -> String {
    format!("call{number:05x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own() {
        let mut labels = Labels::default();
        let calls = [Some("a"), Some(""), Some("a"), Some("call00002"), None, Some("b")];
        let ids: Vec<String> = calls.into_iter().map(|label| labels.next(label).into_owned()).collect();
        assert_eq!(ids, ["a", "call00001", "call00002", "call00003", "call00004", "b"]);
    }
}
