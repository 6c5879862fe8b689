//! Identities: who asks, what for, and which agent acts. Each is a type of its own, checked when it is made.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::InvalidValue;

/// Declares a validated string identity: cheap to clone, ordered, serialised as its text.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, field: $field:literal, check: $check:path, expected: $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value` and makes an identity of it.
            ///
            /// # Errors
            ///
            #[doc = concat!("[`InvalidValue`] unless `value` is ", $expected, ".")]
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidValue> {
                let value = value.as_ref();
                if $check(value) {
                    return Ok(Self(value.into()));
                }
                Err(InvalidValue::new($field, value, $expected))
            }

            /// The identity as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(value: &str) -> Result<Self, InvalidValue> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(value: String) -> Result<Self, InvalidValue> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidValue;

            fn try_from(value: &str) -> Result<Self, InvalidValue> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }
    };
}

text_id! {
    /// The isolation boundary: identity, data, quotas, configuration and audit belong to one tenant.
    TenantId, field: "tenant_id", check: is_label,
    expected: "1 to 128 bytes without control characters or outer blanks"
}
text_id! {
    /// A person or service of a tenant.
    UserId, field: "user_id", check: is_label,
    expected: "1 to 128 bytes without control characters or outer blanks"
}
text_id! {
    /// What a caller may do, in the host's own words: `"supervisor"`, `"refunds:write"`.
    Role, field: "role", check: is_label,
    expected: "1 to 128 bytes without control characters or outer blanks"
}
text_id! {
    /// The name under which a model calls a tool or a Sub-Agent, and under which an agent is known.
    ///
    /// The alphabet is what every model provider accepts for a function name.
    FunctionName, field: "name", check: is_function_name,
    expected: "1 to 64 letters, digits, `_` or `-`"
}
text_id! {
    /// The version of an agent: compared for equality only, so any scheme works.
    AgentVersion, field: "version", check: is_label,
    expected: "1 to 128 bytes without control characters or outer blanks"
}

impl Default for AgentVersion {
    /// Version `0`, of agents whose author gave none.
    fn default() -> Self {
        Self("0".into())
    }
}

fn is_label(value: &str) -> bool {
    (1..=128).contains(&value.len()) && value.trim() == value && !value.chars().any(char::is_control)
}

fn is_function_name(value: &str) -> bool {
    (1..=64).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Declares an identity that is a UUID.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, time-ordered identity (UUID version 7).
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::now_v7())
            }

            /// The identity that a host already has for this.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The identity as a UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(value: &str) -> Result<Self, InvalidValue> {
                Uuid::parse_str(value).map(Self).map_err(|_| InvalidValue::new(stringify!($name), value, "a UUID"))
            }
        }
    };
}

uuid_id! {
    /// One request to a Main Agent, as the host counts it; it may be suspended and resumed.
    TaskId
}
uuid_id! {
    /// One lineage of states: a run and everything that resumes it.
    RunId
}
uuid_id! {
    /// One claim to a dead letter, which tells its holder from whoever claims the letter later.
    ClaimToken
}
