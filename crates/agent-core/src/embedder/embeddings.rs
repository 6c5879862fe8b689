//! Vectors of texts.

use crate::amount::MicroUsd;
use crate::error::InvalidValue;
use crate::message::Usage;

/// One vector for each of several texts, in the texts' order: all of one length, all finite.
///
/// ```
/// use agent_core::Embeddings;
///
/// let embeddings = Embeddings::from_vectors([vec![1.0, 0.0], vec![0.6, 0.8]])?;
/// assert_eq!((embeddings.len(), embeddings.dimensions()), (2, 2));
/// assert_eq!(embeddings.get(1), Some(&[0.6, 0.8][..]));
/// assert!(Embeddings::from_vectors([vec![1.0], vec![0.6, 0.8]]).is_err());
/// # Ok::<(), agent_core::InvalidValue>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Embeddings {
    /// All vectors, one after the other.
    values: Vec<f32>,
    dimensions: usize,
    /// What the provider says was used.
    pub usage: Option<Usage>,
    /// What the provider charged, where it says so. Otherwise the price list decides.
    pub cost: Option<MicroUsd>,
}

impl Embeddings {
    /// These vectors.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when they differ in length, one is empty, or one holds a value that is not finite.
    pub fn from_vectors(vectors: impl IntoIterator<Item = Vec<f32>>) -> Result<Self, InvalidValue> {
        let mut vectors = vectors.into_iter();
        let Some(first) = vectors.next() else { return Ok(Self::default()) };
        let dimensions = first.len();
        let mut values = Vec::with_capacity(dimensions * (1 + vectors.size_hint().0));
        for vector in std::iter::once(first).chain(vectors) {
            if vector.len() != dimensions || vector.is_empty() {
                let expected = format!("as many values as the first vector, {dimensions}, and at least one");
                return Err(InvalidValue::new("embedding length", vector.len(), expected));
            }
            if let Some(value) = vector.iter().find(|value| !value.is_finite()) {
                return Err(InvalidValue::new("embedding value", value, "a finite number"));
            }
            values.extend_from_slice(&vector);
        }
        Ok(Self { values, dimensions, usage: None, cost: None })
    }

    /// The same with what the provider says was used.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// The same with the cost that the provider charged.
    #[must_use]
    pub fn with_cost(mut self, cost: MicroUsd) -> Self {
        self.cost = Some(cost);
        self
    }

    /// How many vectors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How long each vector is; zero when there are none.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of the text at this place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        let start = index.checked_mul(self.dimensions)?;
        self.values.get(start..start.checked_add(self.dimensions)?).filter(|vector| !vector.is_empty())
    }

    /// The vectors, in the texts' order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions.max(1))
    }
}
