//! Whose call this is, as the gateway is told.

use std::fmt::{self, Display, Write};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::{CallPath, Identity, RunContext};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use uuid::{Builder, Uuid};

use crate::config::{Dialect, Identification};
use crate::gateway::Gateway;

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const END_USER: HeaderName = HeaderName::from_static("x-litellm-end-user-id");
const TIMEOUT: HeaderName = HeaderName::from_static("x-litellm-timeout");

/// One call of a gateway: what identifies it there.
#[derive(Debug)]
pub(crate) struct CallIdentity<'a> {
    pub(crate) call_id: Uuid,
    /// Those of every request, and the call's own.
    pub(crate) headers: HeaderMap,
    /// For the body of a request to LiteLLM.
    pub(crate) metadata: Option<Metadata<'a>>,
}

impl<'a> CallIdentity<'a> {
    /// The identity of a call of `gateway` in `cx` that has so much time.
    pub(crate) fn new(gateway: &Gateway, cx: &'a RunContext, time: Duration) -> Self {
        let config = gateway.config();
        let call_id = call_id();
        let mut headers = gateway.headers().clone();
        let mut text = String::with_capacity(64);
        let mut put = |name: HeaderName, write: &dyn Fn(&mut String) -> fmt::Result| {
            text.clear();
            if let (Ok(()), Ok(value)) = (write(&mut text), HeaderValue::from_str(&text)) {
                headers.insert(name, value);
            }
        };
        put(TRACE_PARENT, &|text| write_trace_parent(text, cx, call_id));
        let is_litellm = config.dialect == Dialect::LiteLlm;
        if is_litellm {
            put(CALL_ID, &|text| write!(text, "{call_id}"));
            // It gives up a little earlier, so that its word on what happened arrives. It takes fractions, and zero for none.
            let time = (time - (time / 20).min(Duration::from_secs(1))).max(Duration::from_millis(1));
            put(TIMEOUT, &|text| write!(text, "{}.{:03}", time.as_secs(), time.subsec_millis()));
        }
        let tells = is_litellm && config.identification == Identification::Gateway;
        if tells {
            put(END_USER, &|text| write_end_user(text, cx));
        }
        Self { call_id, headers, metadata: tells.then(|| Metadata { identity: cx.identity(), path: cx.path() }) }
    }
}

/// An id that no other call has, of version 7. Its randomness is drawn once for the process: asking the system for more with every
/// call takes longer than all else here.
fn call_id() -> Uuid {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 10];
    let (head, tail) = random.split_at_mut(8);
    head.copy_from_slice(&RANDOM.hash_one(number).to_ne_bytes());
    tail.copy_from_slice(&RANDOM.hash_one((number, tail.len())).to_ne_bytes()[..2]);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Builder::from_unix_timestamp_millis(u64::try_from(since.as_millis()).unwrap_or_default(), &random).into_uuid()
}

/// W3C's header: the run's trace, and a span of this call.
fn write_trace_parent(text: &mut String, cx: &RunContext, call_id: Uuid) -> fmt::Result {
    // The second half of a UUID of version 7 is random, and its variant bits keep it from being zero.
    let (_, span) = call_id.as_u64_pair();
    write!(text, "00-{}-{span:016x}-01", cx.identity().trace_id)
}

/// The user within the tenant, since users of two tenants may have one name. A header takes ASCII only, and the stroke between the
/// two is the only one.
fn write_end_user(text: &mut String, cx: &RunContext) -> fmt::Result {
    let caller = cx.caller();
    for (part, end) in [(caller.tenant.as_str(), "/"), (caller.user.as_str(), "")] {
        for byte in part.bytes() {
            match byte {
                b'!'..=b'~' if !matches!(byte, b'%' | b'/') => text.push(char::from(byte)),
                byte => write!(text, "%{byte:02X}")?,
            }
        }
        text.push_str(end);
    }
    Ok(())
}

/// What LiteLLM logs with the call, and finds it by. It does not go to the model's provider.
#[derive(Debug)]
pub(crate) struct Metadata<'a> {
    identity: &'a Identity,
    path: &'a CallPath,
}

/// A text as something shows itself, which is not put together before it is sent.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            /// Tenant, user, task, run, agents, trace, and the versions of the prompt, the memory and the knowledge.
            #[serde(flatten)]
            identity: &'a Identity,
            session_id: agent_core::TaskId,
            path: Shown<&'a CallPath>,
            tags: [Shown<fmt::Arguments<'a>>; 2],
        }
        let identity = self.identity;
        let agent = identity.sub_agent_id.as_ref().unwrap_or(&identity.main_agent_id);
        let tags = [Shown(format_args!("tenant:{}", identity.tenant_id)), Shown(format_args!("agent:{agent}"))];
        Fields { identity, session_id: identity.task_id, path: Shown(self.path), tags }.serialize(serializer)
    }
}
