//! From what went wrong to a [`ModelError`]: its class decides what can be done, its words are fit for anybody.

mod classify;
mod retry_after;
mod said;
mod secrets;

use std::error::Error;
use std::io;
use std::time::Duration;

use agent_core::{ModelError, ModelErrorClass};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::timeout;

use self::said::Said;
pub use self::said::UpstreamError;
pub(crate) use self::secrets::Secrets;
use crate::clock::Clock;
use crate::config::Dialect;
use crate::gateway::Gateway;

/// How much of a failure's body is read. Beyond that nothing is told that decides its class.
const MAX_BODY: usize = 64 << 10;

/// How long a failure's body is waited for, which is there at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// A failure of this class in this adapter's own words.
pub(crate) fn error(class: ModelErrorClass) -> ModelError {
    ModelError::new(class, words(class))
}

/// A request that could not be sent, or whose answer did not begin.
pub(crate) fn not_sent(problem: reqwest::Error) -> ModelError {
    // Its `Display` would show the address.
    let problem = problem.without_url();
    let class = match () {
        () if source::<rustls::Error>(&problem).is_some() => ModelErrorClass::Untrusted,
        () if problem.is_connect() => ModelErrorClass::Unreachable,
        () if problem.is_builder() => ModelErrorClass::BadRequest,
        () if source::<hyper::Error>(&problem).is_some_and(hyper::Error::is_parse) => ModelErrorClass::Malformed,
        // The connection broke before an answer.
        () => ModelErrorClass::Unavailable,
    };
    error(class).with_source(problem)
}

/// An answer whose body could not be read to its end.
pub(crate) fn broken(problem: reqwest::Error) -> ModelError {
    let is_garbled =
        |problem: &io::Error| matches!(problem.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    let class = match source::<io::Error>(&problem) {
        Some(problem) if is_garbled(problem) => ModelErrorClass::Malformed,
        _ => ModelErrorClass::Cut,
    };
    error(class).with_source(problem.without_url())
}

/// An answer whose status says that there is none.
pub(crate) async fn refused(response: Response, call_id: Option<&str>, gateway: &Gateway, clock: &Clock) -> ModelError {
    let (status, headers) = (response.status(), response.headers().clone());
    let is_text = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let mut body = Vec::new();
    // Who refuses and then goes on for ever, or falls silent, has refused all the same.
    let _ = clock.until_first_token(timeout(PATIENCE, read_some(response, &mut body))).await;
    let said = Said::in_body(&String::from_utf8_lossy(&body)).with_status(status.as_u16());
    let config = gateway.config();
    let has_no_key = config.api_key.is_none() && config.headers.is_empty();
    let class = if has_no_key && is_text && status.as_u16() == 500 && config.dialect == Dialect::LiteLlm {
        // This is how LiteLLM answers who shows no key.
        ModelErrorClass::Auth
    } else {
        said.class()
    };
    let wait = retry_after::in_headers(&headers).or(said.retry_after());
    tracing::debug!(status = status.as_u16(), call_id, code = class.code().as_str(), "the gateway refused");
    told(class, &said, wait).with_source(said.into_error(call_id, gateway.secrets()))
}

/// An error that came in place of an answer, or in the middle of one.
pub(crate) fn in_answer(document: &str, secrets: &Secrets) -> ModelError {
    let said = Said::in_body(document);
    told(said.class(), &said, said.retry_after()).with_source(said.into_error(None, secrets))
}

/// What came with a status of success where a document of another kind was awaited: servers send errors so.
pub(crate) fn instead(document: &str, secrets: &Secrets) -> ModelError {
    match serde_json::from_str::<Value>(document) {
        Ok(known) if !known["error"].is_null() => in_answer(document, secrets),
        _ => unreadable(document, secrets),
    }
}

/// What came where an answer was awaited. A parser's own words would quote it.
pub(crate) fn unreadable(document: &str, secrets: &Secrets) -> ModelError {
    error(ModelErrorClass::Malformed).with_source(Said::in_words(document).into_error(None, secrets))
}

fn told(class: ModelErrorClass, said: &Said, wait: Option<Duration>) -> ModelError {
    let mut told = match said.status {
        Some(status) => ModelError::new(class, format!("{} (status {status})", words(class))),
        None => error(class),
    };
    told.retry_after = wait;
    told
}

/// Reads as much of a body as comes, up to [`MAX_BODY`].
async fn read_some(mut response: Response, body: &mut Vec<u8>) {
    while let Ok(Some(bytes)) = response.chunk().await {
        let room = MAX_BODY.saturating_sub(body.len());
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() == MAX_BODY {
            break;
        }
    }
}

/// The error of type `T` that lies under `error`, in I/O errors too.
fn source<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| source(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn words(class: ModelErrorClass) -> &'static str {
    match class {
        ModelErrorClass::RateLimited => "too many requests for now",
        ModelErrorClass::QuotaExhausted => "the account's quota is used up",
        ModelErrorClass::Auth => "the key is missing or wrong",
        ModelErrorClass::Permission => "the key does not allow this",
        ModelErrorClass::Overloaded => "the server is overloaded",
        ModelErrorClass::Unavailable => "the server failed",
        ModelErrorClass::Unreachable => "nobody answers at the base URL",
        ModelErrorClass::Untrusted => "the server's certificate does not fit, or TLS cannot be agreed on",
        ModelErrorClass::Redirected => "the server points to another address, where nothing is sent",
        ModelErrorClass::FirstTokenTimeout => "the server or its upstream took too long to begin",
        ModelErrorClass::ContextOverflow => "the conversation is too long for the model",
        ModelErrorClass::ContentPolicy => "a content policy stopped the request or the answer",
        ModelErrorClass::BadRequest => "the server refuses the request as wrong",
        ModelErrorClass::NotFound => "there is no such model, or the base URL is not that of an API",
        ModelErrorClass::TooLarge => "the answer is larger than the configuration allows",
        ModelErrorClass::Empty => "the answer is empty",
        ModelErrorClass::Cut => "the answer ended before it was complete",
        _ => "what came is no answer in the protocol",
    }
}
