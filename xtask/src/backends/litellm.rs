//! LiteLLM in front of a real model and of upstreams that the tests start.

use std::error::Error;
use std::fs;
use std::process::Command;

use super::service::Service;
use super::{Running, folder, free_address, venv};

const KEY: &str = "sk-integration-4711";

/// What keeps LiteLLM from asking servers elsewhere when it starts.
const OFFLINE: &[(&str, &str)] = &[
    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
    ("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True"),
    ("LITELLM_LOCAL_BLOG_POSTS", "True"),
    ("LITELLM_LOCAL_POLICY_TEMPLATES", "True"),
    ("LITELLM_LOCAL_AUTOROUTER_PRESETS", "True"),
    ("LITELLM_TELEMETRY", "False"),
    ("DISABLE_ADMIN_UI", "True"),
];

/// LiteLLM with a real model and the tests' faults behind it.
pub(super) fn start() -> Result<Running, Box<dyn Error>> {
    // Another environment than the proxy's: what the model's server brings is too new for LiteLLM.
    let model = venv::install("smollm2", include_str!("../../backends/smollm2.txt"))?;
    let [model_at, faults_at, closed_at] = [free_address()?, free_address()?, free_address()?];

    let script = folder().join("smollm2.py");
    fs::write(&script, include_str!("../../backends/smollm2.py"))?;
    let mut model = Service::start("smollm2", Command::new(model.join("python")).arg(script).arg(port(&model_at)))?;

    let config = include_str!("../../backends/litellm.yaml");
    let config = config.replace("FAULTS/", &format!("{faults_at}/")).replace("CLOSED/", &format!("{closed_at}/"));
    let (proxy, proxy_at) = proxy(&config.replace("MODEL/", &format!("{model_at}/")))?;
    model.wait_for(&model_at, "/health")?;
    Ok(running(proxy_at, [("ADJUTANT_FAULT_UPSTREAM", faults_at)], vec![proxy, model]))
}

/// LiteLLM with a fallback of its own from one server of the tests to another.
pub(super) fn start_with_fallbacks() -> Result<Running, Box<dyn Error>> {
    let [primary_at, secondary_at] = [free_address()?, free_address()?];
    let config = include_str!("../../backends/litellm-fallbacks.yaml");
    let config =
        config.replace("PRIMARY/", &format!("{primary_at}/")).replace("SECONDARY/", &format!("{secondary_at}/"));
    let (proxy, proxy_at) = proxy(&config)?;
    let servers = [("ADJUTANT_PRIMARY", primary_at), ("ADJUTANT_SECONDARY", secondary_at)];
    Ok(running(proxy_at, servers, vec![proxy]))
}

/// Starts LiteLLM with this configuration. Returns where it listens, too.
fn proxy(config: &str) -> Result<(Service, String), Box<dyn Error>> {
    let programs = venv::install("litellm-1.106.2", include_str!("../../backends/litellm.txt"))?;
    let address = free_address()?;
    let file = folder().join("litellm.yaml");
    fs::write(&file, config)?;
    let mut command = Command::new(programs.join("litellm"));
    command.arg("--config").arg(file).args(["--host", "127.0.0.1", "--num_workers", "1", "--port", port(&address)]);
    let mut proxy = Service::start("litellm", command.envs(OFFLINE.iter().copied()))?;
    proxy.wait_for(&address, "/health/readiness")?;
    Ok((proxy, address))
}

fn running<const N: usize>(proxy_at: String, others: [(&'static str, String); N], services: Vec<Service>) -> Running {
    let proxy = [("ADJUTANT_LITELLM_URL", format!("http://{proxy_at}/v1")), ("ADJUTANT_LITELLM_KEY", KEY.to_owned())];
    Running { environment: proxy.into_iter().chain(others).collect(), _services: services }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}
