//! A model behind a gateway.

use std::fmt;
use std::num::NonZeroUsize;

use agent_core::{
    ChatModel, ChatRequest, Entry, MicroUsd, ModelError, ModelErrorClass, ModelInfo, ModelStream, RunContext, UserPart,
    async_trait,
};
use reqwest::Response;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};

use crate::clock::Clock;
use crate::decode::{AnswerDecoder, StreamDecoder, micro_usd};
use crate::failure;
use crate::gateway::Gateway;
use crate::identity::CallIdentity;
use crate::request::{self, Plan};
use crate::settings::{ModelSettings, Transport};
use crate::streaming;

/// A model behind a [`Gateway`].
///
/// Each call is one request: nothing is repeated here, whatever fails. What a fallback chain does with a failure is decided by its
/// [`class`](ModelError::class); what the server said about it is its `source`, an [`UpstreamError`](crate::UpstreamError).
///
/// Dropping a call or its stream closes the connection, which is how servers learn that nobody listens any more.
#[derive(Clone)]
pub struct GatewayModel {
    gateway: Gateway,
    info: ModelInfo,
    settings: ModelSettings,
}

impl GatewayModel {
    pub(crate) fn new(gateway: Gateway, info: ModelInfo) -> Self {
        Self { gateway, info, settings: ModelSettings::default() }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }

    /// The same, talked to like this.
    #[must_use]
    pub fn with_settings(mut self, settings: ModelSettings) -> Self {
        self.settings = settings;
        self
    }

    /// What the model can be asked of `request`.
    ///
    /// # Errors
    ///
    /// [`ModelErrorClass::BadRequest`] for what it is known not to do, which would otherwise be left out in silence.
    fn ensure_can(&self, request: &ChatRequest) -> Result<(), ModelError> {
        let capabilities = &self.info.capabilities;
        let cannot = |what: &'static str| Err(ModelError::new(ModelErrorClass::BadRequest, what));
        if capabilities.functions == Some(false) && !request.functions.is_empty() {
            return cannot("the model is known not to call functions");
        }
        if capabilities.images == Some(false) && request.conversation.entries().iter().any(shows_picture) {
            return cannot("the model is known not to read pictures");
        }
        Ok(())
    }
}

#[async_trait]
impl ChatModel for GatewayModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        self.ensure_can(&request)?;
        let config = self.gateway.config();
        let clock = Clock::start(config.timeouts, cx)?;
        let identity = CallIdentity::new(&self.gateway, cx, clock.left());
        let plan = Plan {
            model: &self.info.name,
            dialect: config.dialect,
            retries: config.retries,
            settings: &self.settings,
            metadata: identity.metadata.as_ref(),
        };
        let body = request::body(&request, plan)?;
        drop(request);
        tracing::debug!(call_id = %identity.call_id, model = &*self.info.name, "asking the gateway");
        let mut headers = identity.headers;
        let clock = match self.settings.transport {
            Transport::Stream => {
                headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
                // A proxy that compresses a stream holds it back.
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
                clock
            }
            Transport::Whole => {
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                clock.for_whole_answers()
            }
        };
        let post = Gateway::post(&self.gateway.urls().chat_completions, headers, body);
        let response = self.gateway.send(post, &clock).await?;
        let mut answer = AnswerDecoder::new(self.info.name.clone(), self.gateway.secrets().clone());
        answer.set_cost(cost(response.headers()));
        Ok(streaming::stream(response, StreamDecoder::within(answer, config.sizes), clock))
    }
}

impl fmt::Debug for GatewayModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayModel")
            .field("info", &self.info)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn shows_picture(entry: &Entry) -> bool {
    let is_picture = |kind: &str| kind.get(..6).is_some_and(|family| family.eq_ignore_ascii_case("image/"));
    let shows = |part: &UserPart| matches!(part, UserPart::Attachment(file) if is_picture(&file.media_type));
    matches!(entry, Entry::User(message) if message.parts.iter().any(shows))
}

/// LiteLLM says in a header what a whole answer cost. For one whose price it does not know it says nothing, or zero.
pub(crate) fn cost(headers: &HeaderMap) -> Option<MicroUsd> {
    let dollars = headers.get("x-litellm-response-cost")?.to_str().ok()?.parse().ok()?;
    micro_usd(dollars).filter(|cost| *cost > MicroUsd::ZERO)
}

/// A body of at most so many bytes.
pub(crate) async fn whole_body(mut response: Response, limit: NonZeroUsize) -> Result<Vec<u8>, ModelError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failure::broken)? {
        if body.len() + piece.len() > limit.get() {
            return Err(failure::error(ModelErrorClass::TooLarge));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
