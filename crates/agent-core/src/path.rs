//! Where in a run something happens: deterministic positions, ours and not a provider's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::InvalidValue;
use crate::id::RunId;

/// One call within an agent's run: the turn that made it, and its place among that turn's calls. Both count from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallPosition {
    /// The turn.
    pub turn: u32,
    /// The call's index in the turn.
    pub slot: u32,
}

/// The way from the Main Agent to a call: empty for the Main Agent itself, one [`CallPosition`] a level below it.
///
/// Written `/` for the root and `/0.1/2.0` for the first call of the third turn of the agent that was the second call of the
/// first turn.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallPath(Option<Arc<[CallPosition]>>);

impl CallPath {
    /// The path of the Main Agent.
    #[must_use]
    pub const fn root() -> Self {
        Self(None)
    }

    /// The path of a call made by the agent at this path.
    #[must_use]
    pub fn child(&self, position: CallPosition) -> Self {
        Self(Some(self.positions().iter().copied().chain([position]).collect()))
    }

    /// The positions from the root down.
    #[must_use]
    pub fn positions(&self) -> &[CallPosition] {
        self.0.as_deref().unwrap_or_default()
    }

    /// How many calls lie between the Main Agent and this.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.positions().len()
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.positions().starts_with(other.positions())
    }
}

impl fmt::Display for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.positions().is_empty() {
            return f.write_str("/");
        }
        self.positions().iter().try_for_each(|at| write!(f, "/{}.{}", at.turn, at.slot))
    }
}

impl fmt::Debug for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallPath({self})")
    }
}

impl FromStr for CallPath {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "/" {
            return Ok(Self::root());
        }
        let position = |part: &str| {
            let (turn, slot) = part.split_once('.')?;
            Some(CallPosition { turn: turn.parse().ok()?, slot: slot.parse().ok()? })
        };
        let positions =
            text.strip_prefix('/').and_then(|rest| rest.split('/').map(position).collect::<Option<Arc<_>>>());
        positions
            .map(|positions| Self(Some(positions)))
            .ok_or_else(|| InvalidValue::new("call path", text, "`/` or `/TURN.SLOT/..`"))
    }
}

impl TryFrom<String> for CallPath {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<CallPath> for String {
    fn from(path: CallPath) -> Self {
        path.to_string()
    }
}

/// The name of one call for ever: its run, its path, and what was called there.
///
/// A [`Journal`](crate::Journal) files results under `run`, `path` and `attempt`. `fingerprint` tells whether a copy of the run
/// came to the same position with a different call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CallKey {
    /// The run.
    pub run: RunId,
    /// The call's position in it.
    pub path: CallPath,
    /// Zero for the first beginning of the call; other numbers for what follows: a person had it begun anew, or it was suspended
    /// and went on.
    pub attempt: u32,
    /// What was called there.
    pub fingerprint: Fingerprint,
}

/// SHA-256 of a function's name and arguments, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a call of `function` with `arguments`.
    #[must_use]
    pub fn of(function: &str, arguments: &Value) -> Self {
        let mut canonical = Vec::with_capacity(256);
        canonical.extend_from_slice(function.as_bytes());
        canonical.push(0);
        write_canonical(&mut canonical, arguments);
        Self(Sha256::digest(&canonical).into())
    }

    /// The fingerprint that was written as `bytes`.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint as bytes, for a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl CallKey {
    /// The key of the first beginning of the call of `function` with `arguments` at `path` of `run`.
    #[must_use]
    pub fn new(run: RunId, path: CallPath, function: &str, arguments: &Value) -> Self {
        Self { run, path, attempt: 0, fingerprint: Fingerprint::of(function, arguments) }
    }

    /// The key of another beginning of the same call.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

impl fmt::Display for CallKey {
    /// The idempotency key: run and path, the same for every attempt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.run, self.path)
    }
}

/// Writes `value` so that equal values are written equally, whatever the order of an object's keys (a host's build may turn on
/// `serde_json/preserve_order`).
fn write_canonical(text: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Array(items) => {
            text.push(b'[');
            for item in items {
                write_canonical(text, item);
                text.push(b',');
            }
            text.push(b']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push(b'{');
            for (name, field) in fields {
                write_leaf(text, name);
                text.push(b':');
                write_canonical(text, field);
                text.push(b',');
            }
            text.push(b'}');
        }
        leaf => write_leaf(text, leaf),
    }
}

fn write_leaf(text: &mut Vec<u8>, leaf: &impl Serialize) {
    // Texts, numbers and flags always serialise, and a vector takes everything.
    let written = serde_json::to_writer(text, leaf);
    debug_assert!(written.is_ok());
}
