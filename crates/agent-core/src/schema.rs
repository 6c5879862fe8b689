//! JSON Schemas: derived from Rust types or given as values, checked once, used on every call.

use std::fmt;
use std::sync::Arc;

use jsonschema::Validator;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Value, json};

use crate::error::{ErrorCode, InvalidValue, shorten};
use crate::size::json_size;

/// How many problems of one value are told; a model mends the first ones first.
const TOLD_PROBLEMS: usize = 5;

/// A valid JSON Schema (draft 2020-12) with its compiled form. Cheap to clone.
///
/// ```
/// use agent_core::Schema;
/// use serde_json::json;
///
/// #[derive(schemars::JsonSchema)]
/// struct Order {
///     /// The number on the invoice.
///     order: String,
/// }
///
/// let schema = Schema::of::<Order>();
/// assert!(schema.check(&json!({"order": "A-1042"})).is_ok());
/// assert_eq!(schema.check(&json!({"order": 7})).unwrap_err().to_string(), "at /order: 7 is not of type \"string\"");
/// ```
#[derive(Clone)]
pub struct Schema {
    json: Arc<Value>,
    /// Its length as JSON, which counts in every request.
    size: usize,
    /// A type can derive a schema that is none (a wrong `pattern`); builders ask [`Schema::ensure_valid`] before they take it.
    validator: Arc<Result<Validator, InvalidValue>>,
}

/// A value that does not fit a [`Schema`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
#[non_exhaustive]
pub struct SchemaViolation {
    /// What is wrong, each with the place in the value; the first five.
    pub problems: Vec<String>,
}

impl SchemaViolation {
    /// Always `invalid.schema`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new("invalid.schema")
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl Schema {
    /// The schema of a Rust type, as models read it best: sub-schemas inline, without titles.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        RecursiveTransform(|schema: &mut schemars::Schema| {
            schema.remove("title");
        })
        .transform(&mut schema);
        // A unit input is no input; models know only objects.
        if schema.get("type").and_then(Value::as_str) == Some("null") {
            return Self::object();
        }
        Self::compile(schema.to_value())
    }

    /// The schema of any object.
    #[must_use]
    pub fn object() -> Self {
        Self::compile(json!({"type": "object", "properties": {}}))
    }

    /// A schema given as a value. References outside of it are not followed.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when it is no valid schema.
    pub fn from_value(json: Value) -> Result<Self, InvalidValue> {
        let schema = Self::compile(json);
        schema.ensure_valid()?;
        Ok(schema)
    }

    pub(crate) fn compile(json: Value) -> Self {
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&json)
            .map_err(|error| InvalidValue::new("schema", &json, format!("a valid JSON Schema ({error})")));
        Self { size: json_size(&json), json: Arc::new(json), validator: Arc::new(validator) }
    }

    /// Whether this is a valid schema: one that was derived from a type may hold a wrong pattern.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when it is not. [`check`](Self::check) refuses every value then.
    pub fn ensure_valid(&self) -> Result<(), InvalidValue> {
        self.validator.as_ref().as_ref().map(drop).map_err(Clone::clone)
    }

    /// The schema as a value.
    #[must_use]
    pub fn as_value(&self) -> &Arc<Value> {
        &self.json
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Checks `value`.
    ///
    /// # Errors
    ///
    /// [`SchemaViolation`] that tells what is wrong and where.
    pub fn check(&self, value: &Value) -> Result<(), SchemaViolation> {
        let validator = match self.validator.as_ref() {
            Ok(validator) if validator.is_valid(value) => return Ok(()),
            Ok(validator) => validator,
            Err(invalid) => return Err(SchemaViolation { problems: vec![invalid.to_string()] }),
        };
        let problem = |error: jsonschema::ValidationError<'_>| match error.instance_path().as_str() {
            "" => shorten(&error.to_string(), 400),
            path => format!("at {path}: {}", shorten(&error.to_string(), 400)),
        };
        Err(SchemaViolation { problems: validator.iter_errors(value).take(TOLD_PROBLEMS).map(problem).collect() })
    }

    /// Whether every valid value is an object, which function inputs have to be.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.json.get("type").and_then(Value::as_str) == Some("object")
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.json)
    }
}
