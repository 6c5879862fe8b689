//! A server that answers at once, byte for byte the same: what is timed is the client.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The model that answers in one document.
pub const SHORT: &str = "short";
/// The model that streams twelve words.
pub const WORDS: &str = "words";
/// The model that streams [`CHUNKS`] words.
pub const STREAM: &str = "stream";
pub const CHUNKS: usize = 1_000;

/// How long a request waits for its answer: long enough for the client's thread to sleep. Whether it does is otherwise a matter of
/// luck, which costs more than what is measured.
const PAUSE: Duration = Duration::from_micros(200);

struct Answers {
    short: Vec<u8>,
    words: Vec<u8>,
    stream: Vec<u8>,
}

/// Serves until the standard input ends. Prints its address.
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let answers = Arc::new(Answers { short: document(), words: events(12), stream: events(CHUNKS) });
    for stream in listener.incoming() {
        let (stream, answers) = (stream?, answers.clone());
        thread::spawn(move || connection(stream, &answers));
    }
    Ok(())
}

fn connection(stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let value = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            if let Some((_, value)) = value {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        thread::sleep(PAUSE);
        let model = |name: &str| body.contains(&format!("\"model\":\"{name}\""));
        writer.write_all(match () {
            () if model(SHORT) => &answers.short,
            () if model(WORDS) => &answers.words,
            () => &answers.stream,
        })?;
    }
}

fn document() -> Vec<u8> {
    let body = r#"{"id":"chatcmpl-7","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"Your order left the warehouse this morning.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_1"}"#;
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// A stream of so many words, each event a chunk of HTTP, as OpenAI sends them.
fn events(words: usize) -> Vec<u8> {
    let event = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-7\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini-2024-07-18\",\
             \"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        )
    };
    let delta = |delta: &str, finish: &str| {
        event(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"logprobs\":null,\"finish_reason\":{finish}}}"), "null")
    };
    let mut all = vec![delta("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null")];
    all.extend((0..words).map(|word| delta(&format!("\"content\":\" word{word}\""), "null")));
    all.push(delta("", "\"stop\""));
    let usage = format!("{{\"prompt_tokens\":19,\"completion_tokens\":{words},\"total_tokens\":{}}}", words + 19);
    all.push(event("", &usage));
    all.push("data: [DONE]\n\n".to_owned());
    let mut answer =
        String::from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    for event in all {
        // Writing to a text does not fail.
        let _ = write!(answer, "{:x}\r\n{event}\r\n", event.len());
    }
    answer.push_str("0\r\n\r\n");
    answer.into_bytes()
}
