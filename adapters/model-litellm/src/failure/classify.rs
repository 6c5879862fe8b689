//! The class of a failure: from the exception that LiteLLM names, the error's code and type, its words, and its status, in this
//! order. What is general (a "bad request", an "API error") decides only when nothing after it does.

use agent_core::ModelErrorClass;
use agent_core::ModelErrorClass::{
    Auth, BadRequest, ContentPolicy, ContextOverflow, FirstTokenTimeout, Malformed, NotFound, Overloaded, Permission,
    QuotaExhausted, RateLimited, Redirected, Unavailable,
};

use super::said::Said;

/// Exceptions that LiteLLM names at the start of its messages, where they say enough.
const EXCEPTIONS: &[(&str, ModelErrorClass)] = &[
    ("ContextWindowExceededError", ContextOverflow),
    ("ContentPolicyViolationError", ContentPolicy),
    ("RateLimitError", RateLimited),
    ("BudgetExceededError", QuotaExhausted),
    ("AuthenticationError", Auth),
    ("PermissionDeniedError", Permission),
    ("NotFoundError", NotFound),
    ("Timeout", FirstTokenTimeout),
    ("APITimeoutError", FirstTokenTimeout),
    ("ServiceUnavailableError", Overloaded),
    ("UnsupportedParamsError", BadRequest),
    ("UnprocessableEntityError", BadRequest),
    ("JSONSchemaValidationError", Malformed),
];

/// Codes and types of errors, in lower case, where they say enough.
const CODES: &[(&str, ModelErrorClass)] = &[
    ("rate_limit_exceeded", RateLimited),
    ("rate_limit_error", RateLimited),
    ("rate_limited", RateLimited),
    ("too_many_requests", RateLimited),
    ("toomanyrequests", RateLimited),
    ("throttling_error", RateLimited),
    ("resource_exhausted", RateLimited),
    ("insufficient_quota", QuotaExhausted),
    ("insufficient_credits", QuotaExhausted),
    ("insufficient_balance", QuotaExhausted),
    ("billing_hard_limit_reached", QuotaExhausted),
    ("billing_not_active", QuotaExhausted),
    ("budget_exceeded", QuotaExhausted),
    ("payment_required", QuotaExhausted),
    ("invalid_api_key", Auth),
    ("invalid_authentication", Auth),
    ("authentication_error", Auth),
    ("auth_error", Auth),
    ("unauthorized", Auth),
    ("unauthenticated", Auth),
    ("expired_key", Auth),
    ("account_deactivated", Auth),
    // A LiteLLM without a database says this of a key that is not its master key.
    ("no_db_connection", Auth),
    ("token_not_found_in_db", Auth),
    ("permission_error", Permission),
    ("permission_denied", Permission),
    ("insufficient_permissions", Permission),
    ("key_model_access_denied", Permission),
    ("team_model_access_denied", Permission),
    ("user_model_access_denied", Permission),
    ("org_model_access_denied", Permission),
    ("unsupported_country_region_territory", Permission),
    ("model_not_found", NotFound),
    ("deploymentnotfound", NotFound),
    ("not_found_error", NotFound),
    ("notfounderror", NotFound),
    ("context_length_exceeded", ContextOverflow),
    ("context_window_exceeded", ContextOverflow),
    ("exceed_context_size_error", ContextOverflow),
    ("request_too_large", ContextOverflow),
    ("content_policy_violation", ContentPolicy),
    ("content_filter", ContentPolicy),
    ("responsibleaipolicyviolation", ContentPolicy),
    ("data_inspection_failed", ContentPolicy),
    ("overloaded_error", Overloaded),
    ("engine_overloaded", Overloaded),
    ("capacity_exceeded", Overloaded),
    ("service_unavailable", Overloaded),
    ("slow_down", Overloaded),
    ("timeout", FirstTokenTimeout),
    ("timeout_error", FirstTokenTimeout),
    ("request_timeout", FirstTokenTimeout),
];

/// Phrases of messages, in lower case, for failures that say no more than that the request was bad.
const PHRASES: &[(&str, ModelErrorClass)] = &[
    ("maximum context length", ContextOverflow),
    ("context length exceeded", ContextOverflow),
    ("context window", ContextOverflow),
    ("context size", ContextOverflow),
    ("input length exceeds", ContextOverflow),
    ("prompt is too long", ContextOverflow),
    ("input is too long", ContextOverflow),
    ("maximum model length", ContextOverflow),
    ("exceeds the maximum number of tokens", ContextOverflow),
    ("reduce the length of the messages", ContextOverflow),
    ("too large for model with", ContextOverflow),
    ("`inputs` tokens + `max_new_tokens`", ContextOverflow),
    ("content management policy", ContentPolicy),
    ("content policy", ContentPolicy),
    ("safety system", ContentPolicy),
    ("usage policies", ContentPolicy),
    ("responsible ai", ContentPolicy),
    ("invalid model name passed", NotFound),
    ("no healthy deployments for this model", NotFound),
    ("model not found", NotFound),
    ("unknown model", NotFound),
    ("incorrect api key", Auth),
    ("invalid api key", Auth),
    ("api key not valid", Auth),
    ("exceeded your current quota", QuotaExhausted),
    ("insufficient balance", QuotaExhausted),
    ("budget has been exceeded", QuotaExhausted),
    ("credit balance is too low", QuotaExhausted),
];

/// Phrases of a refusal that is one for good, though its status is that of one for now.
const QUOTA: &[&str] =
    &["exceeded your current quota", "insufficient_quota", "budget has been exceeded", "credit balance"];

/// Phrases that tell when to come back.
const COMES_BACK: &[&str] = &["try again in", "retry in", "per minute", "per second"];

pub(super) fn class(said: &Said) -> ModelErrorClass {
    let message = said.message.to_lowercase();
    let mentions = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    let class = exception(&said.message)
        .or_else(|| [&said.inner_code, &said.code, &said.kind].into_iter().find_map(|code| by_code(code.as_deref()?)))
        .or_else(|| by_words(said, &message))
        .unwrap_or_else(|| by_status(status(said)));
    match class {
        // Google says of a limit by the minute, too, that the quota is exceeded.
        RateLimited if mentions(QUOTA) && !mentions(COMES_BACK) && said.retry_after().is_none() => QuotaExhausted,
        class => class,
    }
}

/// The class of the exceptions named at the start of a message, such as `litellm.BadRequestError: ContentPolicyViolationError: ..`.
fn exception(message: &str) -> Option<ModelErrorClass> {
    let name = |part: &str| part.trim().trim_start_matches("litellm.").to_owned();
    let is_name = |part: &String| {
        (part.ends_with("Error") || part.ends_with("Timeout")) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let mut names = message.split(':').map(name).take_while(is_name);
    names.find_map(|name| EXCEPTIONS.iter().find(|(known, _)| *known == name).map(|(_, class)| *class))
}

fn by_code(code: &str) -> Option<ModelErrorClass> {
    let code = code.to_lowercase();
    CODES.iter().find(|(known, _)| *known == code).map(|(_, class)| *class)
}

/// What the words of a failure tell whose status is that of a request that is wrong in some way, or which has none.
fn by_words(said: &Said, message: &str) -> Option<ModelErrorClass> {
    let tells_little = matches!(status(said), None | Some(400 | 413 | 422 | 500));
    let phrase = || PHRASES.iter().find(|(phrase, _)| message.contains(phrase)).map(|(_, class)| *class);
    tells_little.then(phrase).flatten()
}

/// The HTTP status; within an answer the code, which is often one.
fn status(said: &Said) -> Option<u16> {
    said.status.or_else(|| said.code.as_deref()?.parse().ok())
}

fn by_status(status: Option<u16>) -> ModelErrorClass {
    match status.unwrap_or(500) {
        300..=399 => Redirected,
        401 => Auth,
        402 => QuotaExhausted,
        403 => Permission,
        404 | 405 | 410 => NotFound,
        408 => FirstTokenTimeout,
        // What is too large to be taken is so by the conversation.
        413 => ContextOverflow,
        // Neither is about this request: another one was in the way, or came too early.
        409 | 425 => Unavailable,
        429 => RateLimited,
        498 | 503 | 529 => Overloaded,
        500..=599 => Unavailable,
        _ => BadRequest,
    }
}
