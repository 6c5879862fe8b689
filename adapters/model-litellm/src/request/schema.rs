//! Schemas in the form in which servers take them, and which of them a server can be asked to keep to strictly.

use std::borrow::Cow;

use serde_json::{Value, json};

/// The schema of a function's arguments: that of an object, which has to name its properties even if there are none.
pub(super) fn of_arguments(schema: &Value) -> Cow<'_, Value> {
    let Value::Object(keywords) = schema else { return Cow::Owned(json!({"type": "object", "properties": {}})) };
    let says_otherwise =
        ["$ref", "allOf", "anyOf", "oneOf", "enum", "const"].iter().any(|keyword| keywords.contains_key(*keyword));
    let is_typed = keywords.contains_key("type");
    let is_object = keywords.get("type").map_or(!says_otherwise, |kind| kind == "object");
    if !is_object || (is_typed && keywords.contains_key("properties")) {
        return Cow::Borrowed(schema);
    }
    let mut keywords = keywords.clone();
    keywords.insert("type".to_owned(), "object".into());
    keywords.entry("properties").or_insert_with(|| json!({}));
    Cow::Owned(keywords.into())
}

/// Keywords that OpenAI's strict mode knows, with nothing more to check about them.
const PLAIN: [&str; 14] = [
    "type",
    "description",
    "title",
    "enum",
    "const",
    "$ref",
    "required",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];

/// Whether strict mode takes this schema as it is: every object is closed and needs all its properties, and no keyword is used that
/// the mode does not know.
///
/// Source: OpenAI, "Structured model outputs", supported schemas. The list here is narrower than theirs, on purpose: a schema that is
/// wrongly sent as strict is refused, one that is wrongly not sent so is still checked by the run.
pub(super) fn is_strict(schema: &Value) -> bool {
    schema["type"] == "object" && is_strict_part(schema)
}

fn is_strict_part(schema: &Value) -> bool {
    let Value::Object(keywords) = schema else { return false };
    let each_is_strict = |schemas: &Value| match schemas {
        Value::Array(schemas) => schemas.iter().all(is_strict_part),
        Value::Object(schemas) => schemas.values().all(is_strict_part),
        _ => false,
    };
    let are_known = keywords.iter().all(|(keyword, value)| match keyword.as_str() {
        "additionalProperties" => *value == false,
        "properties" | "$defs" | "anyOf" => each_is_strict(value),
        "items" => is_strict_part(value),
        plain => PLAIN.contains(&plain),
    });
    let is_object = match &schema["type"] {
        Value::Array(types) => types.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    };
    are_known && (!is_object || is_closed(schema))
}

/// Whether an object has the properties it names, all of them, and no others.
fn is_closed(schema: &Value) -> bool {
    let properties = schema["properties"].as_object().map_or(0, serde_json::Map::len);
    schema["additionalProperties"] == false && schema["required"].as_array().map_or(0, Vec::len) == properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_their_properties() {
        let none = json!({"type": "object", "properties": {}});
        let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
        for (schema, expected) in [
            (json!({"type": "object"}), none.clone()),
            (json!({"type": "object", "additionalProperties": false}), closed),
            (json!({}), none.clone()),
            (json!(true), none.clone()),
            (json!({"properties": {"a": {}}}), json!({"properties": {"a": {}}, "type": "object"})),
            (json!({"$ref": "#/$defs/a"}), json!({"$ref": "#/$defs/a"})),
            (none.clone(), none),
            (json!({"anyOf": [{"type": "object"}]}), json!({"anyOf": [{"type": "object"}]})),
        ] {
            assert_eq!(*of_arguments(&schema), expected, "{schema}");
        }
    }

    #[track_caller]
    fn check(expected: bool, schema: &Value) {
        assert_eq!(is_strict(schema), expected, "{schema}");
    }

    #[test]
    fn only_closed_objects_are_strict() {
        let text = json!({"type": "string"});
        let closed = |properties: Value| {
            let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        };
        check(true, &closed(json!({"city": text, "sizes": {"type": "array", "items": {"enum": ["S", "M"]}}})));
        check(true, &closed(json!({"place": closed(json!({"city": {"anyOf": [text, {"type": "null"}]}}))})));
        check(false, &json!({"type": "object", "properties": {"city": text}, "required": ["city"]}));
        check(false, &json!({"type": "object", "properties": {"city": text}, "additionalProperties": false}));
        check(false, &closed(json!({"place": {"type": "object", "properties": {"city": text}}})));
        check(false, &closed(json!({"city": {"type": "string", "minLength": 3}})));
        check(false, &closed(json!({"city": {"oneOf": [text]}})));
        check(
            false,
            &closed(json!({"counts": {"type": ["object", "null"], "additionalProperties": {"type": "integer"}}})),
        );
        check(false, &text);
        check(false, &json!(true));
    }
}
