//! Sound answers of an OpenAI-compatible server.

use serde_json::{Value, json};

use super::answer::Answer;
use super::request::UpstreamRequest;

/// A sound answer, which comes as a stream or whole, as it is asked for.
#[derive(Debug, Clone, Default)]
pub struct Completion {
    text: String,
    reasoning: String,
    refusal: String,
    calls: Vec<Value>,
    finish: Option<String>,
    usage: Option<Value>,
}

impl Completion {
    /// An answer of this text, with a usage.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17});
        Self { text: text.to_owned(), usage: Some(usage), ..Self::default() }
    }

    /// The same with reasoning before the text.
    #[must_use]
    pub fn with_reasoning(mut self, text: &str) -> Self {
        text.clone_into(&mut self.reasoning);
        self
    }

    /// The same with a refusal.
    #[must_use]
    pub fn with_refusal(mut self, text: &str) -> Self {
        text.clone_into(&mut self.refusal);
        self
    }

    /// The same with one more call.
    #[must_use]
    pub fn with_call(mut self, id: &str, name: &str, arguments: &str) -> Self {
        let index = self.calls.len();
        let function = json!({"name": name, "arguments": arguments});
        self.calls.push(json!({"index": index, "id": id, "type": "function", "function": function}));
        self
    }

    /// The same with another finish reason.
    #[must_use]
    pub fn with_finish(mut self, reason: &str) -> Self {
        self.finish = Some(reason.to_owned());
        self
    }

    /// The same with another usage, or none.
    #[must_use]
    pub fn with_usage(mut self, usage: Option<Value>) -> Self {
        self.usage = usage;
        self
    }

    /// The answer in the form that `request` asks for.
    #[must_use]
    pub fn answer(&self, request: &UpstreamRequest) -> Answer {
        let model = request.model();
        if !request.wants_stream() {
            return Answer::json(200, &self.whole(&model));
        }
        self.events(&model).iter().fold(Answer::stream(), Answer::then_event).then_done()
    }

    /// The whole answer as one document.
    #[must_use]
    pub fn whole(&self, model: &str) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        for (field, text) in [("reasoning_content", &self.reasoning), ("refusal", &self.refusal)] {
            if !text.is_empty() {
                message[field] = text.as_str().into();
            }
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.clone().into();
            message["content"] = Value::Null;
        }
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": self.reason()});
        let mut document = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": model, "choices": [choice],
        });
        if let Some(usage) = &self.usage {
            document["usage"] = usage.clone();
        }
        document
    }

    /// The answer as the events of a stream: text word by word, calls first with their names, then with pieces of arguments.
    #[must_use]
    pub fn events(&self, model: &str) -> Vec<Value> {
        let mut events = vec![chunk(model, json!({"role": "assistant", "content": ""}), Value::Null)];
        for (field, text) in
            [("reasoning_content", &self.reasoning), ("refusal", &self.refusal), ("content", &self.text)]
        {
            events.extend(text.split_inclusive(' ').map(|word| chunk(model, json!({ field: word }), Value::Null)));
        }
        for call in &self.calls {
            let mut start = call.clone();
            start["function"]["arguments"] = "".into();
            events.push(chunk(model, json!({"tool_calls": [start]}), Value::Null));
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let characters: Vec<char> = arguments.chars().collect();
            for piece in characters.chunks(7) {
                let function = json!({"arguments": piece.iter().collect::<String>()});
                let delta = json!({"tool_calls": [{"index": call["index"], "function": function}]});
                events.push(chunk(model, delta, Value::Null));
            }
        }
        events.push(chunk(model, json!({}), self.reason().into()));
        if let Some(usage) = &self.usage {
            let mut last = chunk(model, json!({}), Value::Null);
            last["choices"] = json!([]);
            last["usage"] = usage.clone();
            events.push(last);
        }
        events
    }

    fn reason(&self) -> &str {
        let usual = if self.calls.is_empty() { "stop" } else { "tool_calls" };
        self.finish.as_deref().unwrap_or(usual)
    }
}

/// One event of a stream.
pub(super) fn chunk(model: &str, delta: Value, finish: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
    })
}
