//! The decoder of streams: what servers send in odd ways, and its invariants over any bytes.
#![allow(clippy::unwrap_used)]

use agent_core::{Chunk, Collector, ModelError, Reply};
use model_litellm::{SizeLimits, StreamDecoder};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use std::num::NonZeroUsize;

/// Chunks, and the code of the failure after them, if there is one.
type Decoded = (Vec<Chunk>, Option<String>);

fn sizes(response: usize, event: usize) -> SizeLimits {
    let bytes = |count| NonZeroUsize::new(count).unwrap();
    SizeLimits::default().with_response(bytes(response)).with_event(bytes(event))
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, sizes: SizeLimits) -> Decoded {
    let mut decoder = StreamDecoder::new("m", sizes);
    let mut decoded = (Vec::new(), None);
    let mut take = |decoder: &mut StreamDecoder| {
        while let Some(next) = decoder.next_chunk() {
            assert!(decoded.1.is_none(), "nothing comes after a failure");
            match next {
                Ok(chunk) => {
                    assert!(!matches!(decoded.0.last(), Some(Chunk::Finish(_))), "nothing comes after the end");
                    decoded.0.push(chunk);
                }
                Err(error) => decoded.1 = Some(error.code().to_string()),
            }
        }
    };
    for piece in pieces {
        decoder.push(piece.to_vec());
        take(&mut decoder);
    }
    decoder.end();
    take(&mut decoder);
    let ends = matches!(decoded.0.last(), Some(Chunk::Finish(_))) != decoded.1.is_some();
    assert!(ends, "it ends, and in one way: {decoded:?}");
    decoded
}

fn event(delta: &Value, finish: Option<&str>) -> Vec<u8> {
    let document = json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {document}\n\n").into_bytes()
}

fn reply(stream: &[u8]) -> Result<Reply, ModelError> {
    let (chunks, failed) = decode([stream], SizeLimits::default());
    assert_eq!(failed, None, "{chunks:?}");
    let mut collector = Collector::default();
    chunks.into_iter().try_for_each(|chunk| collector.push(chunk))?;
    Ok(collector.finish()?.0)
}

/// The calls that come of these pieces of them, each as `name(arguments)#id`.
#[track_caller]
fn check_calls(pieces: &[Value], expected: &[&str]) {
    let mut stream: Vec<u8> = pieces.iter().flat_map(|piece| event(&json!({"tool_calls": [piece]}), None)).collect();
    stream.extend(event(&json!({}), Some("tool_calls")));
    let reply = reply(&stream).unwrap();
    let calls: Vec<String> =
        reply.each_call().map(|call| format!("{}({})#{}", call.name, call.arguments.as_text(), call.label)).collect();
    assert_eq!(calls, expected);
}

#[test]
fn calls_are_put_together_of_any_pieces() {
    let piece = |index: Value, id: Value, name: Value, arguments: Value| json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
    let none = || Value::Null;
    // As OpenAI sends them.
    check_calls(
        &[
            piece(0.into(), "a".into(), "f".into(), "".into()),
            piece(0.into(), none(), none(), "{\"x\":".into()),
            piece(0.into(), none(), none(), "1}".into()),
            piece(1.into(), "b".into(), "g".into(), "{}".into()),
        ],
        &["f({\"x\":1})#a", "g({})#b"],
    );
    // Interleaved, with gaps.
    check_calls(
        &[
            piece(3.into(), "a".into(), "f".into(), "{\"x\":".into()),
            piece(9.into(), "b".into(), "g".into(), "{\"y\":".into()),
            piece(3.into(), none(), none(), "1}".into()),
            piece(9.into(), none(), none(), "2}".into()),
        ],
        &["f({\"x\":1})#a", "g({\"y\":2})#b"],
    );
    // Id and name with every piece.
    check_calls(
        &[
            piece(0.into(), "a".into(), "f".into(), "{\"x\":".into()),
            piece(0.into(), "a".into(), "f".into(), "1}".into()),
            piece(0.into(), "a".into(), "f".into(), "".into()),
        ],
        &["f({\"x\":1})#a"],
    );
    // All with the number 0, or none, whole.
    for index in [json!(0), none()] {
        check_calls(
            &[
                piece(index.clone(), "a".into(), "f".into(), "{}".into()),
                piece(index.clone(), "b".into(), "f".into(), "{\"x\":1}".into()),
            ],
            &["f({})#a", "f({\"x\":1})#b"],
        );
    }
    // Without ids.
    check_calls(
        &[
            piece(0.into(), none(), "f".into(), "{\"x\":1}".into()),
            piece(0.into(), "".into(), "f".into(), "{\"x\":2}".into()),
            piece(1.into(), none(), "g".into(), "{}".into()),
        ],
        &["f({\"x\":1})#", "f({\"x\":2})#", "g({})#"],
    );
    // Without numbers, in pieces.
    check_calls(
        &[
            piece(none(), "a".into(), "f".into(), "{\"x\"".into()),
            piece(none(), none(), none(), ":1}".into()),
            piece(none(), "b".into(), "g".into(), none()),
        ],
        &["f({\"x\":1})#a", "g()#b"],
    );
    // A name in pieces, numbers as text, arguments as a value.
    check_calls(
        &[
            piece("0".into(), "a".into(), "look".into(), none()),
            piece("0".into(), none(), "up".into(), none()),
            piece("0".into(), none(), none(), json!({"x": [1]})),
        ],
        &["lookup({\"x\":[1]})#a"],
    );
    // The name with every piece, and a line break after the end.
    check_calls(
        &[
            piece(0.into(), "a".into(), "f".into(), "{\"x\":1}".into()),
            piece(0.into(), "a".into(), "f".into(), "\n".into()),
        ],
        &["f({\"x\":1}\n)#a"],
    );
    // One id for all, and one number.
    check_calls(
        &[
            piece(0.into(), "a".into(), "f".into(), "{\"x\":1}".into()),
            piece(0.into(), "a".into(), "f".into(), "{\"x\":2}".into()),
            piece(0.into(), "a".into(), "g".into(), none()),
        ],
        &["f({\"x\":1})#a", "f({\"x\":2})#a", "g()#a"],
    );
    // Brackets and quotes within texts.
    check_calls(
        &[
            piece(0.into(), "a".into(), "f".into(), r#"{"x":"}\""#.into()),
            piece(0.into(), "a".into(), "f".into(), r#"]"}"#.into()),
        ],
        &[r#"f({"x":"}\"]"})#a"#],
    );
    // Names alone.
    check_calls(
        &[piece(0.into(), "a".into(), "f".into(), none()), piece(1.into(), "b".into(), "g".into(), none())],
        &["f()#a", "g()#b"],
    );
}

/// What comes of one document.
fn document(document: &Value) -> String {
    shown(decode([document.to_string().as_bytes()], SizeLimits::default()))
}

/// An answer as its calls, its text and why it ended, or the code of its failure.
fn shown((chunks, failed): Decoded) -> String {
    if let Some(code) = failed {
        return code;
    }
    let mut collector = Collector::default();
    chunks.into_iter().for_each(|chunk| collector.push(chunk).unwrap());
    let reply = collector.finish().unwrap().0;
    let calls = reply.each_call().map(|call| format!("{}({})", call.name, call.arguments.as_text()));
    calls.chain([reply.joined_text(), format!("[{}]", reply.finish.as_str())]).collect::<Vec<_>>().join(" ")
}

/// The answer that these choices make, each an event of its own, and `[DONE]` after them.
fn streamed(choices: &[Value]) -> String {
    let events = choices.iter().map(|choice| format!("data: {}\n\n", json!({ "choices": [choice] })));
    let stream: String = events.chain(["data: [DONE]\n\n".to_owned()]).collect();
    shown(decode([stream.as_bytes()], SizeLimits::default()))
}

#[test]
fn what_was_said_in_pieces_is_not_said_again_as_a_whole() {
    // Perplexity: each event has a piece, and everything so far.
    let piece = |text: &str, so_far: &str, reason: Value| json!({"delta": {"content": text}, "message": {"content": so_far}, "finish_reason": reason});
    let last = json!({"delta": {"content": ""}, "message": {"content": "Hello."}, "finish_reason": "stop"});
    assert_eq!(
        streamed(&[piece("Hel", "Hel", json!(null)), piece("lo.", "Hello.", json!(null)), last]),
        "Hello. [stop]"
    );
    // MiniMax: the last event has the whole answer.
    let whole = json!({"message": {"content": "Hello."}, "finish_reason": "stop"});
    assert_eq!(streamed(&[json!({"delta": {"content": "Hello."}}), whole.clone()]), "Hello. [stop]");
    let call = json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}});
    let calls = json!({"tool_calls": [call]});
    let repeated = json!({"message": calls, "finish_reason": "tool_calls"});
    assert_eq!(streamed(&[json!({"delta": calls}), repeated]), "f({})  [tool_calls]");
    // A stream in which nothing else is, and one of such pieces.
    assert_eq!(streamed(&[json!({"delta": {"role": "assistant", "content": ""}}), whole.clone()]), "Hello. [stop]");
    let said = |text: &str, reason: Value| json!({"message": {"content": text}, "finish_reason": reason});
    assert_eq!(streamed(&[said("Hel", json!(null)), said("lo.", json!("stop"))]), "Hello. [stop]");
    // What did not come in pieces comes with the whole.
    let thought = json!({"delta": {"reasoning_content": "Hm."}});
    assert_eq!(streamed(&[thought, whole]), "Hello. [stop]");
    let both = json!({"content": "Looking.", "tool_calls": [call]});
    let last = json!({"message": both, "finish_reason": "tool_calls"});
    assert_eq!(streamed(&[json!({"delta": {"content": "Looking."}}), last]), "f({}) Looking. [tool_calls]");
    let ahead = json!({"delta": {"content": ""}, "message": {"content": "Hel"}});
    assert_eq!(streamed(&[ahead, piece("lo.", "Hello.", json!("stop"))]), "Hello. [stop]");
    // A call in its old form beside the same one in its new form.
    let both = json!({"tool_calls": [call], "function_call": {"name": "f", "arguments": "{}"}});
    assert_eq!(streamed(&[json!({"delta": both, "finish_reason": "tool_calls"})]), "f({})  [tool_calls]");
}

#[test]
fn the_last_reason_counts() {
    let said = |text: &str, reason: &str| json!({"delta": {"content": text}, "finish_reason": reason});
    assert_eq!(streamed(&[said("Hel", "stop"), said("lo", "length")]), "Hello [length]");
    // `stop` is what is said when nothing else is.
    assert_eq!(streamed(&[said("Hello", "length"), said("", "stop")]), "Hello [length]");
    assert_eq!(streamed(&[said("Hello", "stop"), said("", "content_filter")]), "Hello [content_filter]");
}

#[test]
fn a_reason_is_the_end_when_nothing_comes_after_it() {
    let ends = |choices: &[Value]| {
        let mut decoder = StreamDecoder::new("m", SizeLimits::default());
        let ends = choices.iter().map(|choice| {
            decoder.push(format!("data: {}\n\n", json!({ "choices": [choice] })));
            while decoder.next_chunk().is_some() {}
            decoder.has_finish()
        });
        ends.collect::<Vec<_>>()
    };
    let said = |text: &str, reason: Value| json!({"delta": {"content": text}, "finish_reason": reason});
    let none = || Value::Null;
    assert_eq!(ends(&[said("Hel", none()), said("lo", none()), said("", json!("stop"))]), [false, false, true]);
    assert_eq!(ends(&[said("Hel", none()), said("lo", json!("stop"))]), [false, true]);
    assert_eq!(ends(&[said("Hel", none()), said("", json!("stop")), said("", none())]), [false, true, true]);
    // An answer in one event ends where its reason, or usage after it, can mean nothing else.
    let call = json!({"delta": {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"});
    assert_eq!(ends(&[call]), [true]);
    let mut decoder = StreamDecoder::new("m", SizeLimits::default());
    let one = json!({"choices": [said("Hello.", json!("stop"))]});
    decoder.push(format!(
        "data: {one}\n\ndata: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":1}}}}\n\n"
    ));
    while decoder.next_chunk().is_some() {}
    assert!(decoder.has_finish());
    // Gemini behind proxies: each event has a reason, so that none says anything.
    assert_eq!(ends(&[said("", json!("stop")), said("Hel", json!("stop")), said("", json!("stop"))]), [false; 3]);
    assert_eq!(ends(&[said("Hel", none()), said("", json!("stop")), said("lo", none())]), [false, true, false]);
}

#[test]
fn what_comes_after_the_end_takes_no_answer_back() {
    let hello = event(&json!({"content": "Hello."}), None);
    let finish = event(&json!({}), Some("stop"));
    let nan = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"cost\":NaN}}\n\n".to_vec();
    let error = b"data: {\"error\":{\"code\":500,\"message\":\"logging failed\"}}\n\n".to_vec();
    let named = b"event: error\ndata: it broke\n\n".to_vec();
    for after in [&nan, &error, &named] {
        let stream = [&*hello, &*finish, &**after].concat();
        assert_eq!(shown(decode([&*stream], SizeLimits::default())), "Hello. [stop]");
        let in_doubt = [&*event(&json!({"content": "Hel"}), Some("stop")), &**after].concat();
        assert!(shown(decode([&*in_doubt], SizeLimits::default())).starts_with("model."));
    }
}

#[test]
fn half_a_character_of_utf_16_costs_no_answer() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi \\ud83d\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\\uDE00 \\\\ud83d \\ud83d\\ude00.\"},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(shown(decode([stream.as_bytes()], SizeLimits::default())), "Hi \u{fffd}\u{fffd} \\ud83d 😀. [stop]");
}

#[test]
fn white_space_in_small_pieces_takes_no_longer() {
    let mut decoder = StreamDecoder::new("m", SizeLimits::default());
    for _ in 0..1_000_000 {
        decoder.push(&b" "[..]);
        assert!(decoder.next_chunk().is_none());
    }
    decoder.push(&br#"{"choices":[{"message":{"content":"Hello."}}]}"#[..]);
    decoder.end();
    assert_eq!(decoder.next_chunk().unwrap().unwrap(), Chunk::Text("Hello.".to_owned()));
}

#[test]
fn each_element_of_a_whole_answer_is_a_call() {
    let call =
        |id: Value, name: &str, arguments: &str| json!({"id": id, "function": {"name": name, "arguments": arguments}});
    let calls = |calls: Value| document(&json!({"choices": [{"message": {"tool_calls": calls}}]}));
    let same = json!([call("f".into(), "f", "{\"a\":1}"), call("f".into(), "f", "{\"a\":2}")]);
    assert_eq!(calls(same), "f({\"a\":1}) f({\"a\":2})  [tool_calls]");
    let empty = json!([call("x".into(), "del", ""), call("x".into(), "other", "{}")]);
    assert_eq!(calls(empty), "del() other({})  [tool_calls]");
    let null = json!([null, call(Value::Null, "f", "{}")]);
    assert_eq!(calls(null), "f({})  [tool_calls]");
    assert_eq!(calls(json!({})), "model.empty");
}

#[test]
fn half_a_character_of_utf_16_is_no_argument() {
    for arguments in ["\"{\\\"x\\\": \\\"\\ud83d\\\"}\"", "\"\\ud83d\""] {
        let call = format!(r#"{{"index":0,"id":"a","function":{{"name":"f","arguments":{arguments}}}}}"#);
        let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\n");
        let (_, failed) = decode([stream.as_bytes()], SizeLimits::default());
        assert_eq!(failed.as_deref(), Some("model.malformed"), "{stream}");
    }
}

#[test]
fn many_calls_and_texts_take_no_longer_each() {
    let call = |number: usize| json!({"tool_calls": [{"id": format!("c{number}"), "function": {"name": "f", "arguments": "{"}}]});
    let mut stream: Vec<u8> = (0..40_000).flat_map(|number| event(&call(number), None)).collect();
    stream.extend((0..40_000).flat_map(|_| event(&json!({"content": "w"}), None)));
    stream.extend(event(&json!(null), Some("stop")));
    let (chunks, failed) = decode(stream.chunks(64 << 10), SizeLimits::default());
    // Whose the ids are, and the end, come after them.
    assert_eq!((chunks.len(), failed), (3 * 40_000 + 2, None));
}

#[test]
fn reasons_are_read_in_other_servers_words() {
    let ended = |reason: &str, text: &str| {
        document(&json!({"choices": [{"message": {"content": text}, "finish_reason": reason}]}))
    };
    assert_eq!(ended("MAX_TOKENS", "Hel"), "Hel [length]");
    assert_eq!(ended("model_length", ""), " [length]");
    assert_eq!(ended("SAFETY", ""), "model.content_policy");
    assert_eq!(ended("SAFETY", "Hel"), "Hel [content_filter]");
    assert_eq!(ended("eos_token", "Hello."), "Hello. [eos_token]");
    assert_eq!(ended("STOP", "Hello."), "Hello. [stop]");
    assert_eq!(ended("end_turn", "Hello."), "Hello. [stop]");
    assert_eq!(ended("max_new_tokens", "Hel"), "Hel [length]");
    assert_eq!(ended("model_context_window_exceeded", "Hel"), "Hel [length]");
    assert_eq!(ended("refusal", ""), "model.content_policy");
    assert_eq!(ended("IMAGE_SAFETY", ""), "model.content_policy");
    assert_eq!(ended("guardrail_intervened", "Hel"), "Hel [content_filter]");
    assert_eq!(ended("MALFORMED_FUNCTION_CALL", ""), "model.malformed");
    assert_eq!(ended("abort", "Hel"), "model.cut");
    assert_eq!(ended("error", "Hel"), "model.cut");
    assert_eq!(ended("insufficient_system_resource", "Hel"), "model.overloaded");
    let error = json!({"code": 429, "message": "Rate limited"});
    let choice = json!({"message": {"content": "Hel"}, "finish_reason": "error", "error": error});
    assert_eq!(document(&json!({"choices": [choice]})), "model.rate_limited");
}

#[test]
fn the_bytes_tell_what_they_are() {
    let code = |bytes: &str| decode([bytes.as_bytes()], SizeLimits::default()).1.unwrap_or_default();
    let whole = r#"{"choices":[{"message":{"content":"Hello."}}]}"#;
    for sound in [
        whole.to_owned(),
        format!("\u{feff}\r\n {whole}\n"),
        format!("data: {}", whole.replace("}}]}", "},\"finish_reason\":\"stop\"}]}")),
    ] {
        assert_eq!(code(&sound), "", "{sound}");
    }
    assert_eq!(code("\n  "), "model.empty");
    assert_eq!(code(": ping\n\nevent: start\nid: 1\n\n"), "model.empty");
    assert_eq!(code(&"event: ping\n\n".repeat(100)), "model.empty");
    assert_eq!(
        code(
            &whole
                .replace("}}]}", "},\"finish_reason\":\"stop\"}]}")
                .replace("{\"choices", "data: {\"choices")
                .replace("}]}", "}]}\n\ndata: [done]")
        ),
        ""
    );
    assert_eq!(code("OK"), "model.malformed");
    assert_eq!(code("\u{1f}\u{8b}\u{8}"), "model.malformed");
    assert_eq!(code("<!doctype html>"), "model.not_found");
    assert_eq!(code(r#"{"error":{"code":"invalid_api_key"}}"#), "model.auth");
    assert_eq!(code(r#"{"choices":["#), "model.malformed");
    for nothing in ["\"\"", "{}", "[]", "false", "0", "null"] {
        assert_eq!(code(&whole.replace("{\"choices", &format!("{{\"error\":{nothing},\"choices"))), "", "{nothing}");
    }
}

#[test]
fn a_usage_that_came_too_early_is_none() {
    let mut stream = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":0}}\n\n".to_vec();
    stream.extend(event(&json!({"content": "Hello."}), Some("stop")));
    assert_eq!(reply(&stream).unwrap().usage, None);
}

#[test]
fn a_call_in_the_old_form_is_one() {
    let mut stream = event(&json!({"function_call": {"name": "f", "arguments": "{\"x\""}}), None);
    stream.extend(event(&json!({"function_call": {"arguments": ":1}"}}), Some("function_call")));
    let reply = reply(&stream).unwrap();
    let call = reply.each_call().next().unwrap();
    assert_eq!((&*call.name, call.arguments.as_text(), reply.finish.as_str()), ("f", "{\"x\":1}", "tool_calls"));
}

#[test]
fn texts_come_in_any_field() {
    let text = |delta: Value| {
        let mut stream = event(&delta, None);
        stream.extend(event(&json!(null), Some("stop")));
        let reply = reply(&stream).unwrap();
        reply
            .parts
            .iter()
            .map(|part| format!("{part:?}").split_whitespace().take(1).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ")
            + " "
            + &reply.joined_text()
            + reply.refusal().unwrap_or_default()
    };
    assert_eq!(text(json!({"content": "Hello."})), "Text Hello.");
    assert_eq!(text(json!({"content": [{"type": "text", "text": "Hello."}, {"type": "odd"}]})), "Text Hello.");
    assert_eq!(
        text(json!({"reasoning": "Hm.", "reasoning_content": "Hm.", "content": "A"})),
        "Reasoning(Reasoning Text Reasoning(Reasoning A"
    );
    assert_eq!(text(json!({"refusal": "No."})), "Refusal No.");
    assert_eq!(text(json!({"provider_specific_fields": {"refusal": "No."}, "content": 7})), "Refusal No.");
    assert_eq!(text(json!({"audio": {"transcript": "Hello.", "data": "AAAA"}})), "Text Hello.");
    let image = json!({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}]});
    assert_eq!(text(image), "Attachment(Attachment ");
}

#[test]
fn ends_and_usages_come_in_any_order() {
    let hello = event(&json!({"content": "Hello."}), None);
    let finish = event(&json!({}), Some("stop"));
    let usage = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n".to_vec();
    let groq =
        b"data: {\"choices\":[],\"x_groq\":{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}}\n\n".to_vec();
    let done = b"data: [DONE]\n\n".to_vec();
    let bare = b"data:[DONE]".to_vec();
    for order in [
        vec![&hello, &finish, &usage, &done],
        vec![&usage, &hello, &finish, &done],
        vec![&hello, &usage, &finish],
        vec![&hello, &finish, &usage, &bare],
        vec![&hello, &finish, &groq],
        vec![&usage, &hello, &finish, &finish, &done, &hello, &done],
    ] {
        let stream: Vec<u8> = order.into_iter().flatten().copied().collect();
        let reply = reply(&stream).unwrap();
        let usage = reply.usage.unwrap();
        assert_eq!((reply.joined_text().as_str(), usage.input.0, usage.output.0), ("Hello.", 3, 2));
    }
}

#[test]
fn failures_within_a_stream_are_told() {
    let code = |stream: &str| decode([stream.as_bytes()], sizes(2_000, 500)).1.unwrap();
    assert_eq!(code(""), "model.empty");
    assert_eq!(code("data: [DONE]\n\n"), "model.empty");
    assert_eq!(code(": ping\n\n: ping\n\n"), "model.empty");
    assert_eq!(code("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"), "model.empty");
    assert_eq!(code("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: [DONE]\n\n"), "model.cut");
    assert_eq!(code("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choi"), "model.cut");
    assert_eq!(code("data: {\"choi\n\ndata: [DONE]\n\n"), "model.malformed");
    assert_eq!(code("data: hello\n\ndata: [DONE]\n\n"), "model.malformed");
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    for end in ["", "\n\n"] {
        let failed = "data: {\"error\":{\"code\":\"tool_use_failed\",\"message\":\"m\"}}";
        assert_eq!(
            code(&format!("{role}{failed}{end}")),
            "model.malformed",
            "a failure is none that is half of something"
        );
    }
    assert_eq!(code("data: {\"error\":{\"message\":\"x\",\"code\":\"429\"}}\n\n"), "model.rate_limited");
    assert_eq!(
        code("data: {\"error\":{\"message\":\"litellm.Timeout: x\",\"code\":\"408\"}}\n\n"),
        "model.first_token_timeout"
    );
    assert_eq!(code("data: {\"error\":\"overloaded\"}\n\n"), "model.unavailable");
    assert_eq!(code("data: [{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}]\n\n"), "model.overloaded");
    assert_eq!(code("event: error\ndata: {\"message\":\"x\",\"code\":401}\n\n"), "model.auth");
    assert_eq!(code("event: error\ndata: it broke\n\n"), "model.unavailable");
    assert_eq!(code("data: {\"object\":\"error\",\"message\":\"m\",\"code\":404}\n\n"), "model.not_found");
    assert_eq!(code("data: {\"detail\":\"Not Found\"}\n\n"), "model.unavailable");
    assert_eq!(code(&format!("data: {}\n\n", "x".repeat(501))), "model.too_large");
    assert_eq!(code(&": ping\n\n".repeat(300)), "model.too_large");
}

#[test]
fn a_limit_that_ends_in_a_bad_event_hides_it_in_no_split() {
    let stream = b"data: {\"choices\":[7]}\n\ndata: {\"choices\":[]}\n\n";
    let whole = decode([&stream[..]], sizes(23, 500));
    assert_eq!(whole, (vec![], Some("model.malformed".to_owned())));
    assert_eq!(whole, decode(stream.chunks(1), sizes(23, 500)));
}

/// Bytes of streams as servers send them, and of others.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![Just(String::new()), "[a-z ]{1,8}", Just("注文 🦀 \"\\\n".to_owned())];
    let number = prop_oneof![Just(Value::Null), (0..4_u32).prop_map(Value::from), Just(json!("1"))];
    let arguments = prop_oneof![
        Just(json!("{\"x\":")),
        Just(json!("1}")),
        Just(json!("")),
        Just(json!({"x": 1})),
        Just(Value::Null)
    ];
    let call = (number, select(vec![json!(null), json!("a"), json!("b")]), select(vec![json!(null), json!("f"), json!("")]), arguments)
        .prop_map(|(index, id, name, arguments)| {
            json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]})
        });
    let field = select(vec!["content", "reasoning_content", "reasoning", "refusal"]);
    let delta = prop_oneof![(field, text).prop_map(|(field, text)| json!({ field: text })), call, Just(json!(null))];
    let finish = prop_oneof![8 => Just(Value::Null), 1 => Just(json!("stop")), 1 => Just(json!(""))];
    let field = select(vec!["delta", "delta", "delta", "message"]);
    let document = (delta, field, finish)
        .prop_map(|(delta, field, finish)| json!({"choices": [{field: delta, "finish_reason": finish}]}).to_string());
    let odd = select(vec![
        "[DONE]",
        "",
        "{}",
        "{\"choices\":[]}",
        "{\"choices\":null,\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}",
        "{\"error\":{\"code\":500}}",
        "null",
        "7",
        "[]",
        "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}}]}",
        "{\"choices\":[{\"message\":{\"content\":\"whole\"}}]}",
        "{\"choices\":[7]}",
        "{\"choices\":[{\"delta\":{\"content\":\"",
        "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"},\"finish_reason\":\"length\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"message\":{\"content\":\"a\"}}],\"usage\":NaN}",
    ])
    .prop_map(str::to_owned);
    let line_end = || select(vec!["\n", "\r\n", "\r"]);
    let data = (prop_oneof![6 => document, 1 => odd], line_end())
        .prop_map(|(data, end)| format!("data: {data}{end}{end}").into_bytes());
    let line = (
        select(vec![
            ": ping",
            "event: error",
            "event: message",
            "id: 7",
            "retry: 10",
            "data",
            "nonsense",
            "\u{feff}",
            "",
        ]),
        line_end(),
    )
        .prop_map(|(line, end)| format!("{line}{end}").into_bytes());
    let bytes = vec(any::<u8>(), 0..12);
    let whole = select(vec![
        "{\"choices\":[{\"message\":{\"content\":\"Hello.\"}}]}",
        " \n{\"error\":{\"code\":401}}",
        "<html>",
        "\u{feff}[7]",
        "OK\n",
    ]);
    let pieces = vec(prop_oneof![8 => data, 2 => line, 1 => bytes], 0..10).prop_map(|pieces| pieces.concat());
    (prop_oneof![8 => Just(""), 1 => whole], pieces).prop_map(|(whole, pieces)| [whole.as_bytes(), &pieces].concat())
}

fn cases() -> u32 {
    std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_any_stream_gives_the_same(
        stream in stream(),
        cuts in vec(any::<Index>(), 0..12),
        limit in prop_oneof![Just(usize::MAX >> 1), 1..600_usize],
        event in prop_oneof![Just(usize::MAX >> 1), 1..200_usize],
    ) {
        let whole = decode([stream.as_slice()], sizes(limit, event));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        prop_assert_eq!(&whole, &decode(pieces, sizes(limit, event)));
        prop_assert_eq!(&whole, &decode(stream.chunks(1), sizes(limit, event)));
        // What came makes a reply, or the failure says why there is none.
        let mut collector = Collector::default();
        for chunk in whole.0 {
            prop_assert!(collector.push(chunk).is_ok());
        }
        prop_assert_eq!(collector.finish().is_ok(), whole.1.is_none());
    }
}
