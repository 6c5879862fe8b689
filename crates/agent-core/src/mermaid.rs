//! Mermaid's way of writing.

/// A name as a node of Mermaid, which takes only some characters in ids.
pub(crate) fn node(name: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.chars().all(is_plain) {
        return name.to_owned();
    }
    let id = name.replace(|character| !is_plain(character), "_");
    format!("{id}[\"{}\"]", name.replace('"', "'"))
}
