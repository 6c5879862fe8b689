//! Spans: OpenTelemetry's GenAI conventions, with every identity of the task on each.

/// Opens a span of this name with the identities of a context, and further fields.
///
/// An absent identity is an absent field. Fields hold identities, names and sizes, never payloads.
macro_rules! task_span {
    ($name:literal, $cx:expr, $($fields:tt)*) => {{
        let identity = $cx.identity();
        let knowledge = (!identity.profile.knowledge_space_ids.is_empty())
            .then(|| tracing::field::debug(&identity.profile.knowledge_space_ids));
        tracing::info_span!(
            $name,
            trace_id = %identity.trace_id,
            tenant_id = %identity.tenant_id,
            task_id = %identity.task_id,
            run_id = %identity.run_id,
            main_agent_id = &*identity.main_agent_id,
            sub_agent_id = identity.sub_agent_id.as_deref(),
            sub_agent_version = identity.sub_agent_version.as_ref().map(|version| version.as_str()),
            prompt_version = identity.profile.prompt_version.as_deref(),
            memory_profile_id = identity.profile.memory_profile_id.as_deref(),
            knowledge_space_ids = knowledge,
            path = %$cx.path(),
            "error.type" = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
            $($fields)*
        )
    }};
}

pub(crate) use task_span;

use tracing::Span;

use crate::error::ErrorCode;

/// Marks `span` as failed.
pub(crate) fn record_error(span: &Span, code: &ErrorCode) {
    span.record("error.type", code.as_str());
    span.record("otel.status_code", "ERROR");
}
