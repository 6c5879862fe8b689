//! Whose call this is, as the gateway is told.

use std::fmt::Write;
use std::time::Duration;

use agent_core::RunContext;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::{Dialect, GatewayConfig, Identification};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const END_USER: HeaderName = HeaderName::from_static("x-litellm-end-user-id");
const TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-timeout");

/// One call of a gateway: what identifies it there.
#[derive(Debug)]
pub(crate) struct CallIdentity {
    pub(crate) call_id: Uuid,
    pub(crate) headers: HeaderMap,
    /// For the body of a request to LiteLLM.
    pub(crate) metadata: Option<Value>,
}

impl CallIdentity {
    /// The identity of a call in `cx` that has so much time.
    pub(crate) fn new(config: &GatewayConfig, cx: &RunContext, time: Duration) -> Self {
        let call_id = Uuid::now_v7();
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        put(TRACE_PARENT, trace_parent(cx, call_id));
        let is_litellm = config.dialect == Dialect::LiteLlm;
        if is_litellm {
            put(CALL_ID, call_id.to_string());
            // It gives up a little earlier, so that its word on what happened arrives. It takes fractions, and zero for none.
            let earlier = (time / 20).min(Duration::from_secs(1));
            put(TIMEOUT, format!("{:.3}", (time - earlier).as_secs_f64().max(0.001)));
        }
        let tells = is_litellm && config.identification == Identification::Gateway;
        if tells {
            put(END_USER, end_user(cx));
        }
        Self { call_id, headers, metadata: tells.then(|| metadata(cx)) }
    }
}

/// W3C's header: the run's trace, and a span of this call.
fn trace_parent(cx: &RunContext, call_id: Uuid) -> String {
    // The second half of a UUID of version 7 is random, and its variant bits keep it from being zero.
    let (_, span) = call_id.as_u64_pair();
    format!("00-{}-{span:016x}-01", cx.identity().trace_id)
}

/// The user within the tenant, since users of two tenants may have one name. A header takes ASCII only.
fn end_user(cx: &RunContext) -> String {
    let caller = cx.caller();
    let mut encoded = String::new();
    for byte in format!("{}/{}", caller.tenant, caller.user).bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a text does not fail.
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// What LiteLLM logs with the call, and finds it by. It does not go to the model's provider.
fn metadata(cx: &RunContext) -> Value {
    let identity = cx.identity();
    let agent = identity.sub_agent_id.as_ref().unwrap_or(&identity.main_agent_id);
    let mut metadata = json!({
        "tenant_id": identity.tenant_id,
        "user_id": identity.user_id,
        "task_id": identity.task_id,
        "run_id": identity.run_id,
        "main_agent_id": &*identity.main_agent_id,
        "trace_id": identity.trace_id,
        "session_id": identity.task_id,
        "path": cx.path().to_string(),
        "tags": [format!("tenant:{}", identity.tenant_id), format!("agent:{agent}")],
    });
    let known = [
        ("sub_agent_id", identity.sub_agent_id.as_deref()),
        ("sub_agent_version", identity.sub_agent_version.as_ref().map(|version| version.as_str())),
        ("prompt_version", identity.profile.prompt_version.as_deref()),
        ("memory_profile_id", identity.profile.memory_profile_id.as_deref()),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            metadata[name] = value.into();
        }
    }
    metadata
}
