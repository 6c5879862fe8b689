//! Which model answers: rules, unless the environment names a model behind a gateway.

use std::error::Error;
use std::sync::Arc;

use adjutant::RuleModel;
use adjutant::agent_core::ChatModel;

use super::policies;

/// Where the gateway is, which of its models answers, and the key. Servers that want no key take any.
const VARIABLES: [&str; 3] = ["LITELLM_BASE_URL", "LITELLM_MODEL", "LITELLM_API_KEY"];

pub(crate) fn model() -> Result<Arc<dyn ChatModel>, Box<dyn Error>> {
    let values = VARIABLES.map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    match values {
        [Some(base_url), Some(model), Some(key)] => behind_gateway(&base_url, &model, &key),
        [None, None, None] => Ok(Arc::new(rules())),
        values => {
            let missing = VARIABLES.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name);
            Err(format!("{} is not set", missing.collect::<Vec<_>>().join(", ")).into())
        }
    }
}

/// The embedded default: rules, with the words of this shop.
fn rules() -> RuleModel {
    policies::SYNONYMS.into_iter().fold(RuleModel::new(), |model, (words, meaning)| model.with_synonym(words, meaning))
}

#[cfg(feature = "litellm")]
fn behind_gateway(base_url: &str, model: &str, key: &str) -> Result<Arc<dyn ChatModel>, Box<dyn Error>> {
    use adjutant::model_litellm::{Gateway, GatewayConfig};

    let gateway = Gateway::new(GatewayConfig::litellm(base_url).with_api_key(key))?;
    Ok(Arc::new(gateway.model(model)))
}

#[cfg(not(feature = "litellm"))]
fn behind_gateway(_: &str, _: &str, _: &str) -> Result<Arc<dyn ChatModel>, Box<dyn Error>> {
    Err(format!("{} are set, but this was built without `--features litellm`", VARIABLES.join(", ")).into())
}
