//! Sealing: a state in other hands cannot be changed unnoticed.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::RunState;
use crate::error::{BoxError, ErrorCode};

/// A secret key for sealing run states, 32 random bytes. `Debug` does not show it.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// The key of these bytes, which come from the host's secret store.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, document: &[u8]) -> Hmac<Sha256> {
        // The block size of SHA-256 is 64 bytes, so that a key of 32 always fits; `new` takes exactly one block.
        let mut block = [0; 64];
        let (key, _) = block.split_at_mut(32);
        key.copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(document);
        mac
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// A sealed state was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It is no sealed state at all.
    #[error("this is no sealed run state")]
    Malformed,
    /// It was changed, or sealed with another key.
    #[error("the seal is broken")]
    Forged,
    /// The seal is right, but the state is of an unknown format.
    #[error("the sealed run state cannot be read")]
    Unreadable(#[source] BoxError),
}

impl SealError {
    /// `seal.malformed`, `seal.forged` or `seal.unreadable`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::new(match self {
            Self::Malformed => "seal.malformed",
            Self::Forged => "seal.forged",
            Self::Unreadable(_) => "seal.unreadable",
        })
    }

    /// Whether the same may succeed later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl RunState {
    /// The state as a token that can pass through a caller's hands: readable there, but not changeable (HMAC-SHA256).
    ///
    /// The token is `SEAL.STATE`, both in URL-safe base64.
    ///
    /// # Errors
    ///
    /// [`SealError::Unreadable`] when the state does not serialise.
    pub fn seal(&self, key: &SealKey) -> Result<String, SealError> {
        let document = serde_json::to_vec(self).map_err(|error| SealError::Unreadable(error.into()))?;
        let seal = key.mac(&document).finalize().into_bytes();
        Ok(format!("{}.{}", BASE64URL_NOPAD.encode(&seal), BASE64URL_NOPAD.encode(&document)))
    }

    /// The state in a token that was sealed with `key`.
    ///
    /// # Errors
    ///
    /// [`SealError`] unless the token is exactly as it was sealed.
    pub fn open(token: &str, key: &SealKey) -> Result<Self, SealError> {
        let (seal, document) = token.split_once('.').ok_or(SealError::Malformed)?;
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| SealError::Malformed);
        let (seal, document) = (decode(seal)?, decode(document)?);
        key.mac(&document).verify_slice(&seal).map_err(|_| SealError::Forged)?;
        serde_json::from_slice(&document).map_err(|error| SealError::Unreadable(error.into()))
    }
}
