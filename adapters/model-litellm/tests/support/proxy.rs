//! The real proxy that `cargo xtask` starts, and the upstream that it is configured with.

use std::time::Duration;

use model_litellm::{Gateway, GatewayConfig};
use testkit::FaultUpstream;
use tokio::sync::{Mutex, MutexGuard};

pub(crate) fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by `cargo xtask`"))
}

pub(crate) fn config() -> GatewayConfig {
    GatewayConfig::litellm(setting("ADJUTANT_LITELLM_URL")).with_api_key(setting("ADJUTANT_LITELLM_KEY"))
}

pub(crate) fn gateway() -> Gateway {
    Gateway::new(config()).unwrap()
}

/// The upstream that LiteLLM is configured with. There is one address for it, and so one test at a time.
pub(crate) async fn upstream() -> (FaultUpstream, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let address = setting("ADJUTANT_FAULT_UPSTREAM").parse().unwrap();
    for _ in 0..500 {
        // The one of the last test goes when its runtime does.
        match FaultUpstream::listen(address).await {
            Ok(upstream) => return (upstream, turn),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address} is in use");
}
