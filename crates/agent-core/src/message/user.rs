//! What a user, or the host on his behalf, says to an agent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A message to an agent: text and attachments, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserMessage {
    /// The parts, in the order in which they are read.
    pub parts: Vec<UserPart>,
}

/// One part of a [`UserMessage`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserPart {
    /// Text.
    Text {
        /// The text itself.
        text: Arc<str>,
    },
    /// A picture, a document, a recording.
    Attachment(Attachment),
}

/// Something that is not text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attachment {
    /// Its media type: `image/png`, `application/pdf`.
    pub media_type: Arc<str>,
    /// A name to show, such as a file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Where its bytes are.
    pub source: AttachmentSource,
}

/// Where the bytes of an [`Attachment`] are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttachmentSource {
    /// Here.
    Bytes(#[serde(with = "crate::wire::base64")] Arc<[u8]>),
    /// At an address that the model's provider can read.
    Uri(Arc<str>),
}

impl UserMessage {
    /// A message of one text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self { parts: vec![UserPart::Text { text: text.into() }] }
    }

    /// The same message with one more attachment.
    #[must_use]
    pub fn with_attachment(mut self, attachment: Attachment) -> Self {
        self.parts.push(UserPart::Attachment(attachment));
        self
    }

    /// All text, its parts joined by line breaks.
    #[must_use]
    pub fn joined_text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                UserPart::Text { text } => Some(&**text),
                UserPart::Attachment(_) => None,
            })
            .collect();
        texts.join("\n")
    }

    /// Whether it says nothing: no attachment, and no text but white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, UserPart::Text { text } if text.trim().is_empty()))
    }

    /// Its size in bytes, for estimates.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts.iter().map(UserPart::size).sum()
    }
}

impl UserPart {
    fn size(&self) -> usize {
        match self {
            Self::Text { text } => text.len(),
            Self::Attachment(attachment) => attachment.size(),
        }
    }
}

impl Attachment {
    /// Bytes of this media type.
    pub fn bytes(media_type: impl Into<Arc<str>>, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { media_type: media_type.into(), name: None, source: AttachmentSource::Bytes(bytes.into()) }
    }

    /// An address whose content has this media type.
    pub fn uri(media_type: impl Into<Arc<str>>, uri: impl Into<Arc<str>>) -> Self {
        Self { media_type: media_type.into(), name: None, source: AttachmentSource::Uri(uri.into()) }
    }

    /// The same attachment under a name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(crate) fn size(&self) -> usize {
        match &self.source {
            AttachmentSource::Bytes(bytes) => bytes.len(),
            AttachmentSource::Uri(uri) => uri.len(),
        }
    }
}

impl From<&str> for UserMessage {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Arc<str>> for UserMessage {
    fn from(text: Arc<str>) -> Self {
        Self::text(text)
    }
}

impl From<String> for UserMessage {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}
