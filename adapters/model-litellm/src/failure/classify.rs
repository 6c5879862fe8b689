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
    ("rate_limit_reached_error", RateLimited),
    ("rate_limit_error", RateLimited),
    ("rate_limited", RateLimited),
    ("too_many_requests", RateLimited),
    ("toomanyrequests", RateLimited),
    ("throttling_error", RateLimited),
    ("resource_exhausted", RateLimited),
    ("insufficient_quota", QuotaExhausted),
    ("exceeded_current_quota_error", QuotaExhausted),
    ("insufficient_credits", QuotaExhausted),
    ("insufficient_balance", QuotaExhausted),
    ("arrearage", QuotaExhausted),
    ("billing_hard_limit_reached", QuotaExhausted),
    ("billing_not_active", QuotaExhausted),
    ("budget_exceeded", QuotaExhausted),
    ("payment_required", QuotaExhausted),
    ("invalid_api_key", Auth),
    ("api_key_invalid", Auth),
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
    ("invalid_model", NotFound),
    ("model_decommissioned", NotFound),
    ("deploymentnotfound", NotFound),
    ("not_found_error", NotFound),
    ("notfounderror", NotFound),
    ("context_length_exceeded", ContextOverflow),
    ("context_window_exceeded", ContextOverflow),
    ("exceed_context_size_error", ContextOverflow),
    ("request_too_large", ContextOverflow),
    ("tokens_limit_reached", ContextOverflow),
    ("content_policy_violation", ContentPolicy),
    ("content_filter", ContentPolicy),
    ("responsibleaipolicyviolation", ContentPolicy),
    ("data_inspection_failed", ContentPolicy),
    ("overloaded_error", Overloaded),
    ("overloaded", Overloaded),
    ("engine_overloaded", Overloaded),
    ("engine_overloaded_error", Overloaded),
    ("capacity_exceeded", Overloaded),
    ("service_tier_capacity_exceeded", Overloaded),
    ("service_unavailable", Overloaded),
    ("slow_down", Overloaded),
    ("timeout", FirstTokenTimeout),
    ("timeout_error", FirstTokenTimeout),
    ("request_timeout", FirstTokenTimeout),
    // Groq, of a call that the model wrote wrongly.
    ("tool_use_failed", Malformed),
    ("json_validate_failed", Malformed),
];

/// Phrases of messages, in lower case, for failures that say no more than that the request was bad, refused or one too many.
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
    ("context limit", ContextOverflow),
    ("greater than the context length", ContextOverflow),
    ("model's context length", ContextOverflow),
    ("max context length", ContextOverflow),
    ("prompt token count of", ContextOverflow),
    ("`inputs` must have less than", ContextOverflow),
    ("with context length of", ContextOverflow),
    ("maximum prompt length", ContextOverflow),
    ("prompt exceeds max length", ContextOverflow),
    ("exceeded model token limit", ContextOverflow),
    ("too many tokens", ContextOverflow),
    ("range of input length", ContextOverflow),
    ("content management policy", ContentPolicy),
    ("content policy", ContentPolicy),
    ("content filtering policy", ContentPolicy),
    ("safety system", ContentPolicy),
    ("usage policy", ContentPolicy),
    ("usage policies", ContentPolicy),
    ("usage guidelines", ContentPolicy),
    ("requires moderation", ContentPolicy),
    ("content exists risk", ContentPolicy),
    ("guardrail policy", ContentPolicy),
    ("responsible ai", ContentPolicy),
    ("invalid model name passed", NotFound),
    ("no healthy deployments for this model", NotFound),
    ("model not found", NotFound),
    ("unknown model", NotFound),
    ("model not exist", NotFound),
    ("is not a valid model id", NotFound),
    ("incorrect api key", Auth),
    ("invalid api key", Auth),
    ("api key not valid", Auth),
    ("api key expired", Auth),
    ("exceeded your current quota", QuotaExhausted),
    ("insufficient_quota", QuotaExhausted),
    ("insufficient balance", QuotaExhausted),
    ("budget has been exceeded", QuotaExhausted),
    ("credit balance", QuotaExhausted),
    ("all available credits", QuotaExhausted),
    ("account is suspended", QuotaExhausted),
    ("reached your specified api usage limits", QuotaExhausted),
    ("rate limit reached", RateLimited),
    ("rate limit exceeded", RateLimited),
    ("too many requests", RateLimited),
];

/// What one request is too large for, however long one waits: OpenAI and Groq call that a limit of rates.
const TOO_LARGE: &str = "request too large";

/// Phrases that tell when to come back.
const COMES_BACK: &[&str] = &["try again in", "retry in", "per minute", "per second"];

/// Where the words of a server end and those of a request begin, which it repeats.
const REPEATS: &[&str] = &["'input':", "\"input\":", "input_value="];

pub(super) fn class(said: &Said) -> ModelErrorClass {
    let own = REPEATS.iter().filter_map(|word| said.message.find(word)).min();
    let words = said.message.get(..own.unwrap_or(said.message.len())).unwrap_or_default().to_lowercase();
    if words.contains(TOO_LARGE) {
        return ContextOverflow;
    }
    let class = exception(&said.message)
        .or_else(|| [&said.inner_code, &said.code, &said.kind].into_iter().find_map(|code| by_code(code.as_deref()?)))
        .or_else(|| by_words(status(said), &words))
        .unwrap_or_else(|| by_status(status(said)));
    let comes_back = || COMES_BACK.iter().any(|phrase| words.contains(phrase)) || said.retry_after().is_some();
    match class {
        // Google says of a limit by the minute, too, that the quota is exceeded.
        RateLimited if phrase(&words, |class| class == QuotaExhausted).is_some() && !comes_back() => QuotaExhausted,
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

/// What the words of a failure tell, where its status tells little or there is none.
fn by_words(status: Option<u16>, words: &str) -> Option<ModelErrorClass> {
    match status {
        None | Some(400 | 412 | 413 | 422 | 500) => phrase(words, |_| true),
        Some(403) => phrase(words, |class| class == ContentPolicy),
        _ => None,
    }
}

/// The class of the first phrase in `words` whose class counts.
fn phrase(words: &str, counts: impl Fn(ModelErrorClass) -> bool) -> Option<ModelErrorClass> {
    let mut classes = PHRASES.iter().filter(|(phrase, _)| words.contains(phrase)).map(|(_, class)| *class);
    classes.find(|class| counts(*class))
}

/// The HTTP status; within an answer the code, which is often one.
fn status(said: &Said) -> Option<u16> {
    let code = || said.code.as_deref()?.parse().ok();
    said.status.or_else(code).filter(|status| *status >= 300 && *status < 600)
}

fn by_status(status: Option<u16>) -> ModelErrorClass {
    match status.unwrap_or(500) {
        300..=399 => Redirected,
        // The second is a proxy's word.
        401 | 407 => Auth,
        402 => QuotaExhausted,
        403 => Permission,
        404 | 405 | 410 => NotFound,
        408 => FirstTokenTimeout,
        // What is too large to be taken is so by the conversation.
        413 => ContextOverflow,
        // None is about this request: another one was in the way, it came too early, or the model behind the server failed.
        409 | 424 | 425 => Unavailable,
        429 => RateLimited,
        498 | 503 | 529 => Overloaded,
        // What the server was not built to do, it will not do later.
        501 => BadRequest,
        500..=599 => Unavailable,
        _ => BadRequest,
    }
}
