//! Numbers as text that is short and quick to read: little-endian bytes in base64.

use std::fmt;
use std::marker::PhantomData;

use data_encoding::BASE64;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of a fixed size.
pub(super) trait Number: Copy {
    /// Its little-endian bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// The numbers in these bytes, and how many bytes are left over.
    fn take_all(bytes: &[u8]) -> (Vec<Self>, usize);
}

macro_rules! number {
    ($($kind:ty)*) => {$(
        impl Number for $kind {
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn take_all(bytes: &[u8]) -> (Vec<Self>, usize) {
                let (numbers, rest) = bytes.as_chunks();
                (numbers.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect(), rest.len())
            }
        }
    )*};
}

number!(f32 u32 u64);

/// Numbers that are written as text.
#[derive(Clone, Debug)]
pub(super) struct Packed<T>(pub(super) Vec<T>);

impl<T: Number> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * size_of::<T>());
        self.0.iter().for_each(|number| number.put(&mut bytes));
        serializer.serialize_str(&BASE64.encode(&bytes))
    }
}

impl<'de, T: Number> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reading(PhantomData))
    }
}

/// Reads the text where it lies: it may have hundreds of megabytes.
struct Reading<T>(PhantomData<T>);

impl<T: Number> Visitor<'_> for Reading<T> {
    type Value = Packed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numbers of {} bytes in base64", size_of::<T>())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Packed<T>, E> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(E::custom)?;
        match T::take_all(&bytes) {
            (numbers, 0) => Ok(Packed(numbers)),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }
}
