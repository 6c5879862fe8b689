//! Bounds that keep every run finite, whatever its model does.

use std::time::Duration;

use crate::error::InvalidValue;

/// Bounds that keep every run finite, whatever its model does. What passes one becomes a result that the model sees, or a typed
/// failure. [`Limits`](crate::Limits) bound what is spent; these bound the shape.
///
/// ```
/// use agent_core::Bounds;
///
/// let bounds = Bounds::default().with_turns(8).with_result_bytes(64 * 1024);
/// assert_eq!(bounds.depth, 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// How often the model is asked to go on, repairs not counted. Default 16.
    pub turns: u32,
    /// How many calls deep agents may nest below the Main Agent, at most 8. The Main Agent's holds for the whole tree. Default 4.
    pub depth: u32,
    /// How often one agent may stand in a path of calls. Default 2.
    pub same_agent_in_path: u32,
    /// How many calls of one turn are made; further ones fail. Default 64.
    pub fan_out: u32,
    /// How many calls of one turn are worked on at once. Default 16.
    pub in_flight: u32,
    /// How often the same function may be called with the same arguments in one run. Default 3.
    pub identical_calls: u32,
    /// How often a model is asked for one turn's answer, the first time and repairs included. Default 3.
    pub attempts: u32,
    /// How many Sub-Agents the model sees where a router chooses among more. Default 8.
    pub shortlist: u32,
    /// How many Sub-Agents may hand one request back before none is shown to the model any more. Default 3.
    pub hand_backs: u32,
    /// The largest result of a call, in bytes of JSON. Default 256 KiB.
    pub result_bytes: usize,
    /// How long one call of a tool may take, unless the tool says otherwise. Default 60 seconds.
    pub tool_timeout: Duration,
    /// How long one call of a Sub-Agent may take, unless its card says otherwise. Default 5 minutes.
    pub agent_timeout: Duration,
}

/// Saved states nest like agents do, and readers of JSON stop at 128 levels.
const MAX_DEPTH: u32 = 8;

impl Default for Bounds {
    fn default() -> Self {
        Self {
            turns: 16,
            depth: 4,
            same_agent_in_path: 2,
            fan_out: 64,
            in_flight: 16,
            identical_calls: 3,
            attempts: 3,
            shortlist: 8,
            hand_backs: 3,
            result_bytes: 256 * 1024,
            tool_timeout: Duration::from_secs(60),
            agent_timeout: Duration::from_secs(300),
        }
    }
}

/// Declares `with_` methods, which all look alike.
macro_rules! with {
    ($($(#[$doc:meta])* $method:ident $field:ident: $kind:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub const fn $method(mut self, $field: $kind) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

impl Bounds {
    with! {
        /// The same with this many turns.
        with_turns turns: u32;
        /// The same with agents nesting this deep.
        with_depth depth: u32;
        /// The same with one agent at most this often in a path.
        with_same_agent_in_path same_agent_in_path: u32;
        /// The same with this many calls a turn.
        with_fan_out fan_out: u32;
        /// The same with this many calls at once.
        with_in_flight in_flight: u32;
        /// The same with this many identical calls.
        with_identical_calls identical_calls: u32;
        /// The same with this many attempts a turn.
        with_attempts attempts: u32;
        /// The same with this many Sub-Agents for the model to see.
        with_shortlist shortlist: u32;
        /// The same with this many hand-backs.
        with_hand_backs hand_backs: u32;
        /// The same with results of at most this many bytes.
        with_result_bytes result_bytes: usize;
        /// The same with this much time for a tool.
        with_tool_timeout tool_timeout: Duration;
        /// The same with this much time for a Sub-Agent.
        with_agent_timeout agent_timeout: Duration;
    }

    /// Whether a run under these bounds can do anything at all.
    pub(super) fn ensure_valid(&self) -> Result<(), InvalidValue> {
        let needed = [
            ("turns", self.turns),
            ("same_agent_in_path", self.same_agent_in_path),
            ("fan_out", self.fan_out),
            ("in_flight", self.in_flight),
            ("identical_calls", self.identical_calls),
            ("attempts", self.attempts),
            ("shortlist", self.shortlist),
            ("hand_backs", self.hand_backs),
        ];
        if let Some((field, value)) = needed.into_iter().find(|(_, value)| *value == 0) {
            return Err(InvalidValue::new(format!("bounds.{field}"), value, "at least 1"));
        }
        if self.depth > MAX_DEPTH {
            return Err(InvalidValue::new("bounds.depth", self.depth, format!("at most {MAX_DEPTH}")));
        }
        Ok(())
    }
}
