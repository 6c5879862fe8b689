//! What a gateway says about the models that it serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_core::{Capabilities, MicroUsd, ModelError, ModelErrorClass, ModelInfo, Price, Tokens};
use reqwest::Url;
use serde_json::Value;

use crate::clock::Clock;
use crate::config::Dialect;
use crate::failure;
use crate::gateway::Gateway;
use crate::model::{GatewayModel, whole_body};

impl Gateway {
    /// What the server says about its models: windows, maximum outputs, capabilities and prices, as far as it knows them. From
    /// LiteLLM's `/model/info`, else from `/models`.
    ///
    /// Where several deployments serve one name, what holds for all of them is told: the smallest window, the highest price.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when the server cannot be asked or has no list.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request.
    pub async fn models(&self) -> Result<Vec<ModelInfo>, ModelError> {
        let listed = match self.config().dialect {
            Dialect::LiteLlm => match self.list(&self.urls().model_info).await {
                // A key may be for calls only, and then there is still the other list.
                Err(error) if !is_final(error.class) => self.list(&self.urls().models).await?,
                listed => listed?,
            },
            _ => self.list(&self.urls().models).await?,
        };
        let entries = listed["data"].as_array().or(listed.as_array());
        let entries = entries.ok_or_else(|| failure::error(ModelErrorClass::Malformed))?;
        let mut models: BTreeMap<Arc<str>, ModelInfo> = BTreeMap::new();
        for info in entries.iter().filter_map(|entry| self.describe(entry)) {
            let known = models.remove(&info.name);
            let info = known.map_or(info.clone(), |known| common(known, &info));
            models.insert(info.name.clone(), info);
        }
        Ok(models.into_values().collect())
    }

    /// The model of this name, with what the server says about it.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::NotFound`] when the server lists no such model: [`model`](Self::model) takes it all the same, since a
    /// gateway may serve names that it does not list. Otherwise as with [`models`](Self::models).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request.
    pub async fn find_model(&self, name: &str) -> Result<GatewayModel, ModelError> {
        let found = self.models().await?.into_iter().find(|info| &*info.name == name);
        match found {
            Some(info) => Ok(GatewayModel::new(self.clone(), info)),
            None => Err(ModelError::new(ModelErrorClass::NotFound, "the server lists no model of this name")),
        }
    }

    async fn list(&self, url: &Url) -> Result<Value, ModelError> {
        let clock = Clock::outside_of_runs(self.config().timeouts)?;
        let response = self.send(self.get(url), &clock).await?;
        let body = clock.until_first_token(whole_body(response, self.config().sizes.response)).await??;
        let text = String::from_utf8_lossy(&body);
        match serde_json::from_str::<Value>(&text) {
            Ok(document) if document["error"].is_null() => Ok(document),
            _ => Err(failure::instead(&text, self.secrets())),
        }
    }

    /// What an entry of a list says. Each server has fields of its own.
    fn describe(&self, entry: &Value) -> Option<ModelInfo> {
        let name = entry["model_name"].as_str().or(entry["id"].as_str())?;
        let info = ModelInfo::new(self.config().dialect.provider(), name);
        let said = match &entry["model_info"] {
            Value::Null => entry,
            said => said,
        };
        let window = first_count(&[
            &said["max_input_tokens"],
            &said["max_model_len"],
            &said["context_length"],
            &said["context_window"],
            &said["max_context_length"],
            &said["meta"]["n_ctx"],
        ]);
        let output = first_count(&[
            &said["max_output_tokens"],
            &said["max_completion_tokens"],
            &said["top_provider"]["max_completion_tokens"],
        ]);
        let info = window.into_iter().fold(info, ModelInfo::with_context_window);
        let info = output.into_iter().fold(info, ModelInfo::with_max_output);
        let own = self.config().prices.get(name).copied();
        let info = own.or_else(|| price(said)).into_iter().fold(info, ModelInfo::with_price);
        Some(info.with_capabilities(capabilities(said)))
    }
}

/// Whether another list would not be there either.
fn is_final(class: ModelErrorClass) -> bool {
    !matches!(
        class,
        ModelErrorClass::NotFound | ModelErrorClass::Permission | ModelErrorClass::Auth | ModelErrorClass::BadRequest
    )
}

fn first_count(values: &[&Value]) -> Option<Tokens> {
    values.iter().find_map(|value| count(value)).map(Tokens)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and counts are no fractions"
)]
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|count| count as u64)).filter(|count| *count > 0)
}

/// Prices by the token, in dollars: LiteLLM's numbers, or OpenRouter's texts. Half a price is none: LiteLLM says zero of tokens for
/// which it was told nothing. Neither is one to which something is added for each request.
fn price(said: &Value) -> Option<Price> {
    let input = per_million(&said["input_cost_per_token"]).or_else(|| per_million(&said["pricing"]["prompt"]))?;
    let output = per_million(&said["output_cost_per_token"]).or_else(|| per_million(&said["pricing"]["completion"]))?;
    let is_half = (input == MicroUsd::ZERO) != (output == MicroUsd::ZERO);
    let is_more = per_million(&said["pricing"]["request"]).is_some_and(|fee| fee > MicroUsd::ZERO);
    if is_half || is_more {
        return None;
    }
    let cached = per_million(&said["cache_read_input_token_cost"])
        .or_else(|| per_million(&said["pricing"]["input_cache_read"]))
        .unwrap_or(input);
    Some(Price::per_million(input, output).with_cached_input(cached))
}

/// Dollars for a token as micro-USD for a million of them.
fn per_million(value: &Value) -> Option<MicroUsd> {
    let dollars = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    crate::decode::micro_usd(dollars * 1e6)
}

/// What LiteLLM knows the model to do. Of a model that is in none of its tables it says `false` to everything, and knows nothing.
fn capabilities(said: &Value) -> Capabilities {
    let is_known = said["mode"].is_string() || !said["max_tokens"].is_null() || !said["max_input_tokens"].is_null();
    let flag = |name: &str| said[name].as_bool().filter(|can| *can || is_known);
    let mut capabilities = Capabilities::default();
    capabilities.functions = flag("supports_function_calling");
    capabilities.parallel_calls = flag("supports_parallel_function_calling");
    capabilities.answer_schema = flag("supports_response_schema");
    capabilities.images = flag("supports_vision");
    capabilities.reasoning = flag("supports_reasoning");
    capabilities
}

/// What holds for both of two deployments. What one of them does not tell is unknown.
fn common(one: ModelInfo, other: &ModelInfo) -> ModelInfo {
    let least = |one: Option<Tokens>, other: Option<Tokens>| one.zip(other).map(|(one, other)| one.min(other));
    let both = |one: Option<bool>, other: Option<bool>| one.zip(other).map(|(one, other)| one && other);
    let dearest = |(one, other): (Price, Price)| {
        let price = Price::per_million(one.input.max(other.input), one.output.max(other.output));
        price.with_cached_input(one.cached_input.max(other.cached_input))
    };
    let mut info = one;
    info.context_window = least(info.context_window, other.context_window);
    info.max_output = least(info.max_output, other.max_output);
    info.price = info.price.zip(other.price).map(dearest);
    let (mine, theirs) = (&mut info.capabilities, &other.capabilities);
    mine.functions = both(mine.functions, theirs.functions);
    mine.parallel_calls = both(mine.parallel_calls, theirs.parallel_calls);
    mine.answer_schema = both(mine.answer_schema, theirs.answer_schema);
    mine.images = both(mine.images, theirs.images);
    mine.reasoning = both(mine.reasoning, theirs.reasoning);
    info
}
