//! What an answer used and cost, wherever and however the server says it.

use agent_core::{MicroUsd, Tokens, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::lenient::{Count, OrDefault};

/// What a server says about usage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reported {
    /// `None` when it does not tell both what was read and what was written, or says zero of everything.
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<MicroUsd>,
}

/// The fields in which servers say it, some by OpenAI's names and some by others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UsageFields<'a> {
    prompt_tokens: Count,
    input_tokens: Count,
    completion_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    prompt_tokens_details: OrDefault<Details>,
    input_tokens_details: OrDefault<Details>,
    completion_tokens_details: OrDefault<Details>,
    output_tokens_details: OrDefault<Details>,
    prompt_cache_hit_tokens: Count,
    cache_read_input_tokens: Count,
    reasoning_tokens: Count,
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    reasoning_tokens: Count,
}

impl UsageFields<'_> {
    /// What they say.
    ///
    /// Input counts what was read from a cache and output what was reasoned, as OpenAI has it. Servers that leave reasoning out of
    /// `completion_tokens` (Gemini's, xAI's) have it in `total_tokens`: what that is more than the sum is output.
    pub(crate) fn report(&self) -> Reported {
        let first = |counts: &[Count]| counts.iter().find_map(|count| count.0);
        let input = first(&[self.prompt_tokens, self.input_tokens]);
        let written = first(&[self.completion_tokens, self.output_tokens]);
        let total = self.total_tokens.0;
        let is_known = input.is_some() && (written.is_some() || total.is_some());
        let input = input.unwrap_or(0);
        let output = total.unwrap_or(0).saturating_sub(input).max(written.unwrap_or(0));
        let cached = first(&[
            self.prompt_tokens_details.0.cached_tokens,
            self.input_tokens_details.0.cached_tokens,
            self.prompt_cache_hit_tokens,
            self.cache_read_input_tokens,
        ]);
        let reasoning = first(&[
            self.completion_tokens_details.0.reasoning_tokens,
            self.output_tokens_details.0.reasoning_tokens,
            self.reasoning_tokens,
        ]);
        let mut usage = Usage::new(Tokens(input), Tokens(output));
        usage.cached_input = Tokens(cached.unwrap_or(0).min(input));
        usage.reasoning = Tokens(reasoning.unwrap_or(0).min(output));
        Reported { usage: (is_known && (input > 0 || output > 0)).then_some(usage), cost: self.cost() }
    }

    fn cost(&self) -> Option<MicroUsd> {
        let cost: Value = serde_json::from_str(self.cost?.get()).ok()?;
        let cost = match &cost {
            Value::Object(parts) => parts.get("total_cost").and_then(dollars),
            cost => dollars(cost),
        };
        cost.filter(|cost| *cost > MicroUsd::ZERO)
    }
}

/// A cost in US dollars, as a number or as text, in millionths, rounded up. What is none, or negative, is unknown.
fn dollars(value: &Value) -> Option<MicroUsd> {
    let dollars = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    micro_usd(dollars)
}

/// Dollars in millionths, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be finite and positive; `as` saturates"
)]
pub(crate) fn micro_usd(dollars: f64) -> Option<MicroUsd> {
    if !dollars.is_finite() || dollars < 0.0 {
        return None;
    }
    // Billionths first: 0.000011 is 11.000000000000002 millionths.
    Some(MicroUsd(((dollars * 1e9).round() / 1e3).ceil() as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(usage: &Value, expected: Option<[u64; 4]>, cost: Option<u64>) {
        let expected = expected.map(|[input, output, cached, reasoning]| {
            let mut usage = Usage::new(Tokens(input), Tokens(output));
            (usage.cached_input, usage.reasoning) = (Tokens(cached), Tokens(reasoning));
            usage
        });
        let text = usage.to_string();
        let fields: OrDefault<UsageFields<'_>> = serde_json::from_str(&text).unwrap();
        assert_eq!(fields.0.report(), Reported { usage: expected, cost: cost.map(MicroUsd) }, "{text}");
    }

    #[test]
    fn every_servers_usage_is_read() {
        let openai = json!({
            "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 4},
        });
        check(&openai, Some([19, 10, 8, 4]), None);
        let litellm = json!({"completion_tokens": 2, "prompt_tokens": 9, "total_tokens": 11, "cost": 2.55e-6});
        check(&litellm, Some([9, 2, 0, 0]), Some(3));
        let deepseek =
            json!({"prompt_tokens": 16, "completion_tokens": 10, "total_tokens": 26, "prompt_cache_hit_tokens": 6});
        check(&deepseek, Some([16, 10, 6, 0]), None);
        let gemini = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40});
        check(&gemini, Some([10, 30, 0, 0]), None);
        let anthropic = json!({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4});
        check(&anthropic, Some([10, 5, 4, 0]), None);
        check(
            &json!({"prompt_tokens": 3, "total_tokens": 3, "cost": {"total_cost": 0.006}}),
            Some([3, 0, 0, 0]),
            Some(6_000),
        );
    }

    #[test]
    fn nonsense_is_unknown() {
        check(&json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0}), None, None);
        check(&json!({"prompt_tokens": null, "completion_tokens": "7"}), None, None);
        check(&json!({"prompt_tokens": 12.0, "completion_tokens": -4, "cost": -1.0}), None, None);
        let cached = json!({"cached_tokens": 9});
        let more_cached_than_read =
            json!({"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": cached});
        check(&more_cached_than_read, Some([3, 1, 3, 0]), None);
        for other in [json!(null), json!([]), json!("much"), json!({"cost": "unknown"})] {
            check(&other, None, None);
        }
    }

    #[test]
    fn dollars_are_rounded_up() {
        for (dollars, expected) in [(0.000_011, 11), (0.000_000_1, 1), (1.0, 1_000_000), (0.1 + 0.2, 300_000)] {
            assert_eq!(micro_usd(dollars), Some(MicroUsd(expected)), "{dollars}");
        }
        assert_eq!(micro_usd(f64::NAN), None);
    }
}
