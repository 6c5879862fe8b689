//! Attachments as parts of a message.

use agent_core::{Attachment, AttachmentSource, ModelError, ModelErrorClass};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// The part that an attachment is.
///
/// # Errors
///
/// [`ModelErrorClass::BadRequest`] for what chat completions have no part for: a recording in another form than wav or mp3, a file
/// that is only an address.
pub(super) fn part(attachment: &Attachment) -> Result<Value, ModelError> {
    let kind = &*attachment.media_type.to_ascii_lowercase();
    match (kind.split_once('/').map_or(kind, |(family, _)| family), &attachment.source) {
        ("image", source) => Ok(json!({"type": "image_url", "image_url": {"url": url(kind, source)}})),
        ("video", source) => Ok(json!({"type": "video_url", "video_url": {"url": url(kind, source)}})),
        ("audio", AttachmentSource::Bytes(bytes)) => match audio_format(kind) {
            Some(format) => {
                Ok(json!({"type": "input_audio", "input_audio": {"data": BASE64.encode(bytes), "format": format}}))
            }
            None => Err(impossible("a recording is neither wav nor mp3")),
        },
        ("text", AttachmentSource::Bytes(bytes)) => text(attachment, bytes),
        (_, AttachmentSource::Bytes(bytes)) if kind == "application/json" => text(attachment, bytes),
        (_, AttachmentSource::Bytes(_)) => {
            let name = attachment.name.as_deref().unwrap_or("file");
            let data = url(kind, &attachment.source);
            Ok(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
        }
        _ => Err(impossible("a file that is no picture and no video is only an address")),
    }
}

/// Text is text, whatever its file was called; the name helps the model to speak of it.
fn text(attachment: &Attachment, bytes: &[u8]) -> Result<Value, ModelError> {
    let text = std::str::from_utf8(bytes).map_err(|_| impossible("a text is no UTF-8"))?;
    let text = attachment.name.as_ref().map_or_else(|| text.to_owned(), |name| format!("{name}:\n{text}"));
    Ok(json!({"type": "text", "text": text}))
}

fn audio_format(kind: &str) -> Option<&'static str> {
    match kind {
        "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
        "audio/mpeg" | "audio/mp3" => Some("mp3"),
        _ => None,
    }
}

fn url(kind: &str, source: &AttachmentSource) -> String {
    match source {
        AttachmentSource::Uri(uri) => uri.to_string(),
        AttachmentSource::Bytes(bytes) => format!("data:{kind};base64,{}", BASE64.encode(bytes)),
        // A source that this version does not know has no address.
        _ => String::new(),
    }
}

fn impossible(problem: &'static str) -> ModelError {
    ModelError::new(ModelErrorClass::BadRequest, format!("{problem}, which chat completions cannot take"))
}
