//! One connection: requests read as HTTP/1.1, answers written as they are.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use super::answer::{Answer, Framing, Piece};
use super::request::UpstreamRequest;

/// What the head of a request may take.
const MAX_HEAD: usize = 64 << 10;

/// What happens to a connection after an answer.
enum After {
    Keep,
    Close,
    Reset,
}

pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let answer = shared.answer(&request);
        shared.requests.lock().unwrap().push(request);
        match write_answer(&mut stream, answer).await? {
            After::Keep => {}
            After::Close => return stream.shutdown().await,
            // Closing at once with unsent data sends a reset.
            After::Reset => return stream.set_zero_linger(),
        }
    }
    Ok(())
}

/// The next request, or `None` when the client is done.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<UpstreamRequest>> {
    let (mut request, head, body) = loop {
        if let Some(parsed) = parse_head(buffer)? {
            break parsed;
        }
        if buffer.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    buffer.drain(..head);
    request.body = match body {
        Body::Length(length) => {
            fill(stream, buffer, length).await?;
            buffer.drain(..length).collect()
        }
        Body::Chunked => read_chunks(stream, buffer).await?,
    };
    Ok(Some(request))
}

enum Body {
    Length(usize),
    Chunked,
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<(UpstreamRequest, usize, Body)>> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(buffer).map_err(invalid)? else { return Ok(None) };
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body = match value("transfer-encoding") {
        Some("chunked") => Body::Chunked,
        _ => Body::Length(value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)),
    };
    let method = head.method.unwrap_or_default().to_owned();
    let path = head.path.unwrap_or_default().to_owned();
    Ok(Some((UpstreamRequest { method, path, headers, body: Vec::new() }, length, body)))
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (start, length) = loop {
            match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete((start, length))) => {
                    break (start, usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?);
                }
                Ok(httparse::Status::Partial) => fill(stream, buffer, buffer.len() + 1).await?,
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        fill(stream, buffer, start + length + 2).await?;
        body.extend_from_slice(&buffer[start..start + length]);
        buffer.drain(..start + length + 2);
        if length == 0 {
            return Ok(body);
        }
    }
}

/// Reads until `buffer` holds at least so many bytes.
async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn write_answer(stream: &mut TcpStream, answer: Answer) -> io::Result<After> {
    let Answer { head, pieces } = answer;
    let framing = head.as_ref().map(|head| head.framing);
    if let Some(head) = head {
        let length = match head.framing {
            Framing::Length => {
                let sizes = pieces.iter().map(|piece| if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 });
                format!("content-length: {}\r\n", sizes.sum::<usize>())
            }
            Framing::WrongLength(length) => format!("content-length: {length}\r\n"),
            Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        };
        let headers: String = head.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {} Scripted\r\n{headers}{length}\r\n", head.status);
        stream.write_all(text.as_bytes()).await?;
    }
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) if framing == Some(Framing::Chunked) => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend(bytes);
                chunk.extend(b"\r\n");
                stream.write_all(&chunk).await?;
            }
            Piece::Bytes(bytes) => stream.write_all(&bytes).await?,
            Piece::Wait(pause) => {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = gone(stream) => return Ok(After::Close),
                }
            }
            Piece::Close => return Ok(After::Close),
            Piece::Reset => return Ok(After::Reset),
            Piece::Hang => {
                gone(stream).await;
                return Ok(After::Close);
            }
        }
    }
    match framing {
        Some(Framing::Chunked) => stream.write_all(b"0\r\n\r\n").await.map(|()| After::Keep),
        Some(Framing::Length) => Ok(After::Keep),
        Some(Framing::WrongLength(_)) | None => Ok(After::Close),
    }
}

/// Waits until the client has closed the connection.
async fn gone(stream: &TcpStream) {
    // More bytes would be a next request, which nobody sends before the answer.
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}
