//! LiteLLM in front of a real model and of the upstream that the tests start.

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

pub(super) fn start() -> Result<Running, Box<dyn Error>> {
    // Two environments: what the model's server brings is too new for LiteLLM.
    let proxy = venv::install("litellm-1.106.2", include_str!("../../backends/litellm.txt"))?;
    let model = venv::install("smollm2", include_str!("../../backends/smollm2.txt"))?;
    let [proxy_at, model_at, faults_at, closed_at] =
        [free_address()?, free_address()?, free_address()?, free_address()?];

    let script = folder().join("smollm2.py");
    fs::write(&script, include_str!("../../backends/smollm2.py"))?;
    let mut model = Service::start("smollm2", Command::new(model.join("python")).arg(script).arg(port(&model_at)))?;

    let config = folder().join("litellm.yaml");
    let text = include_str!("../../backends/litellm.yaml");
    fs::write(
        &config,
        text.replace("FAULTS/", &format!("{faults_at}/"))
            .replace("CLOSED/", &format!("{closed_at}/"))
            .replace("MODEL/", &format!("{model_at}/")),
    )?;
    let mut command = Command::new(proxy.join("litellm"));
    command.arg("--config").arg(config).args(["--host", "127.0.0.1", "--num_workers", "1", "--port", port(&proxy_at)]);
    let mut proxy = Service::start("litellm", command.envs(OFFLINE.iter().copied()))?;

    model.wait_for(&model_at, "/health")?;
    proxy.wait_for(&proxy_at, "/health/readiness")?;
    let environment = [
        ("ADJUTANT_LITELLM_URL", format!("http://{proxy_at}/v1")),
        ("ADJUTANT_LITELLM_KEY", KEY.to_owned()),
        ("ADJUTANT_FAULT_UPSTREAM", faults_at),
    ];
    Ok(Running { environment: environment.into(), _services: vec![proxy, model] })
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}
