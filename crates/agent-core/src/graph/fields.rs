//! The fields of a graph's state, and how what nodes write of them is taken in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::amount::{MicroUsd, Tokens};

/// The state of a graph: made by [`graph_state!`](crate::graph_state), which says for each field how writes to it are taken in.
///
/// A copy is made only where a node keeps a view of the state beyond its own end.
pub trait GraphState: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What a node writes: some of the fields.
    type Update: fmt::Debug + Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The fields, in the order of their declaration. At most 128.
    const FIELDS: &'static [Field];

    /// Which fields `update` writes.
    fn written(update: &Self::Update) -> FieldSet;

    /// Takes `update` in, field by field, each by its reducer.
    fn apply(&mut self, update: Self::Update);
}

/// A field of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The name of its reducer.
    pub reducer: &'static str,
    /// Whether a write takes the place of what was there, so that only one node may write it in one step.
    pub replaces: bool,
}

impl Field {
    /// The field of this name that keeps the last of what is written.
    #[must_use]
    pub const fn replaced(name: &'static str) -> Self {
        Self { name, reducer: "replace", replaces: true }
    }

    /// The field of this name whose writes the reducer of that name takes in.
    #[must_use]
    pub const fn reduced(name: &'static str, reducer: &'static str) -> Self {
        Self { name, reducer, replaces: false }
    }
}

/// Some of the fields of a state, by their index.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldSet(u128);

impl FieldSet {
    /// How many fields a state can have.
    pub const MAX: usize = 128;

    /// Adds the field with this index.
    pub const fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Whether it has the field with this index.
    #[must_use]
    pub const fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    /// The fields in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The fields in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The fields here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The index of the first field.
    #[must_use]
    pub const fn first(self) -> Option<usize> {
        match self.0 {
            0 => None,
            fields => Some(fields.trailing_zeros() as usize),
        }
    }
}

impl FromIterator<usize> for FieldSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let mut fields = Self::default();
        indices.into_iter().for_each(|index| fields.insert(index));
        fields
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..Self::MAX).filter(|index| self.contains(*index))).finish()
    }
}

/// What `append` appends to: lists and texts.
#[diagnostic::on_unimplemented(
    message = "nothing can be appended to `{Self}`",
    label = "`append` needs a list or a text",
    note = "another way to take writes in: `replace`, `merge`, `add`, or `by(function)` with a `fn(&mut {Self}, {Self})`"
)]
pub trait Sequence {
    /// Puts `more` at the end.
    fn append(&mut self, more: Self);
}

impl<T> Sequence for Vec<T> {
    fn append(&mut self, mut more: Self) {
        self.append(&mut more);
    }
}

impl<T> Sequence for VecDeque<T> {
    fn append(&mut self, mut more: Self) {
        self.append(&mut more);
    }
}

impl Sequence for String {
    fn append(&mut self, more: Self) {
        self.push_str(&more);
    }
}

/// What `merge` merges: maps and sets.
#[diagnostic::on_unimplemented(
    message = "nothing can be merged into `{Self}`",
    label = "`merge` needs a map or a set",
    note = "another way to take writes in: `replace`, `append`, `add`, or `by(function)` with a `fn(&mut {Self}, {Self})`"
)]
pub trait Keyed {
    /// Puts `more` in, in place of what had its keys.
    fn merge(&mut self, more: Self);
}

impl<K: Ord, V> Keyed for BTreeMap<K, V> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

impl<K: Eq + Hash, V, H: BuildHasher> Keyed for HashMap<K, V, H> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

impl<T: Ord> Keyed for BTreeSet<T> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

impl<T: Eq + Hash, H: BuildHasher> Keyed for HashSet<T, H> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

impl Keyed for serde_json::Map<String, serde_json::Value> {
    fn merge(&mut self, more: Self) {
        self.extend(more);
    }
}

/// What `add` adds. Whole numbers stop at their largest value.
#[diagnostic::on_unimplemented(
    message = "nothing can be added to `{Self}`",
    label = "`add` needs a number",
    note = "another way to take writes in: `replace`, `append`, `merge`, or `by(function)` with a `fn(&mut {Self}, {Self})`"
)]
pub trait Sum {
    /// Adds `more`.
    fn add(&mut self, more: Self);
}

macro_rules! saturating_sums {
    ($($type:ty),*) => {
        $(impl Sum for $type {
            fn add(&mut self, more: Self) {
                *self = self.saturating_add(more);
            }
        })*
    };
}

saturating_sums!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, Duration);

macro_rules! sums {
    ($($type:ty),*) => {
        $(impl Sum for $type {
            fn add(&mut self, more: Self) {
                *self += more;
            }
        })*
    };
}

sums!(f32, f64);

impl Sum for MicroUsd {
    fn add(&mut self, more: Self) {
        *self = self.plus(more);
    }
}

impl Sum for Tokens {
    fn add(&mut self, more: Self) {
        *self = self.plus(more);
    }
}

/// Declares the state of a graph: a struct in which each field says how writes to it are taken in, and the type of what nodes write.
///
/// | `field: Type => ..` | a write | two writes in one step |
/// |---|---|---|
/// | `replace` | takes the place of what was there | an error |
/// | `append` | comes after what was there: [`Sequence`](crate::graph::Sequence) | in the order of nodes |
/// | `merge` | is put in by its keys: [`Keyed`](crate::graph::Keyed) | the later node's win |
/// | `add` | is added: [`Sum`](crate::graph::Sum) | both count |
/// | `by(function)` | goes to a `fn(&mut Type, Type)` | in the order of nodes |
///
/// The state derives `Clone`, `serde::Serialize` and `serde::Deserialize`, so the crate `serde` has to be at hand; other derives and
/// attributes of serde stand where they always do. The update is empty by default and has a method for each field.
///
/// ```
/// use agent_core::graph_state;
///
/// fn longer(kept: &mut String, other: String) {
///     if other.len() > kept.len() {
///         *kept = other;
///     }
/// }
///
/// graph_state! {
///     /// What is known of a folder.
///     #[derive(Debug, Default, PartialEq)]
///     pub struct Folder updated by FolderUpdate {
///         pub path: String => replace,
///         pub summaries: Vec<String> => append,
///         pub words: u64 => add,
///         pub longest: String => by(longer),
///     }
/// }
///
/// use agent_core::graph::GraphState;
///
/// let mut folder = Folder::default();
/// folder.apply(FolderUpdate::default().summaries(vec!["Returns take 30 days.".into()]).words(4));
/// folder.apply(FolderUpdate::default().words(3));
/// assert_eq!((folder.summaries.len(), folder.words), (1, 7));
/// ```
///
/// A field without a reducer does not compile:
///
/// ```compile_fail
/// agent_core::graph_state! {
///     struct Folder updated by FolderUpdate {
///         path: String,
///     }
/// }
/// ```
#[macro_export]
macro_rules! graph_state {
    (
        $(#[$meta:meta])*
        $vis:vis struct $State:ident updated by $Update:ident {
            $(
                $(#[$field_meta:meta])*
                $field_vis:vis $field:ident : $type:ty => $reducer:ident $(($function:expr))?
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(::std::clone::Clone, ::serde::Serialize, ::serde::Deserialize)]
        $vis struct $State {
            $($(#[$field_meta])* $field_vis $field: $type,)+
        }

        #[doc = ::std::concat!("What a node writes of a [`", ::std::stringify!($State), "`].")]
        #[derive(::std::clone::Clone, ::std::default::Default)]
        $vis struct $Update {
            $($field: ::std::option::Option<$type>,)+
        }

        impl $Update {
            $(
                #[doc = ::std::concat!("The same, writing `", ::std::stringify!($field), "`.")]
                #[must_use]
                #[allow(dead_code)]
                $vis fn $field(
                    mut self,
                    value: $type,
                ) -> Self {
                    self.$field = ::std::option::Option::Some(value);
                    self
                }
            )+
        }

        impl $crate::graph::GraphState for $State {
            type Update = $Update;

            const FIELDS: &'static [$crate::graph::Field] = &[
                $($crate::__graph_field!($field, $reducer),)+
            ];

            fn written(update: &$Update) -> $crate::graph::FieldSet {
                const { assert!(<$State as $crate::graph::GraphState>::FIELDS.len() <= $crate::graph::FieldSet::MAX) };
                let is_written = [$(update.$field.is_some(),)+];
                is_written.into_iter().enumerate().filter(|(_, is_written)| *is_written).map(|(index, _)| index).collect()
            }

            fn apply(&mut self, update: $Update) {
                $(
                    if let ::std::option::Option::Some(value) = update.$field {
                        $crate::__graph_reduce!(self.$field, $type, value, $reducer $(($function))?);
                    }
                )+
            }
        }

        impl $crate::graph::IntoNext<$State> for $Update {
            fn into_next(self) -> $crate::graph::Next<$State> {
                $crate::graph::Next::update(self)
            }
        }

        impl $crate::graph::macros::Serialize for $Update {
            fn serialize<S: $crate::graph::macros::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                use $crate::graph::macros::SerializeMap as _;
                let mut fields = serializer.serialize_map(::std::option::Option::None)?;
                $(
                    if let ::std::option::Option::Some(value) = &self.$field {
                        fields.serialize_entry(::std::stringify!($field), value)?;
                    }
                )+
                fields.end()
            }
        }

        impl<'de> $crate::graph::macros::Deserialize<'de> for $Update {
            fn deserialize<D: $crate::graph::macros::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                struct OfUpdate;
                impl<'de> $crate::graph::macros::Visitor<'de> for OfUpdate {
                    type Value = $Update;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("fields of a state")
                    }

                    fn visit_map<A: $crate::graph::macros::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> ::std::result::Result<$Update, A::Error> {
                        let mut update = <$Update as ::std::default::Default>::default();
                        while let ::std::option::Option::Some(name) = map.next_key::<::std::string::String>()? {
                            match &*name {
                                $(::std::stringify!($field) => {
                                    update.$field = ::std::option::Option::Some(map.next_value()?);
                                })+
                                unknown => {
                                    return ::std::result::Result::Err($crate::graph::macros::unknown_field(unknown));
                                }
                            }
                        }
                        ::std::result::Result::Ok(update)
                    }
                }
                deserializer.deserialize_map(OfUpdate)
            }
        }

        impl ::std::fmt::Debug for $Update {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let written = <$State as $crate::graph::GraphState>::written(self);
                $crate::graph::macros::debug::<$State>(::std::stringify!($Update), written, f)
            }
        }
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "expected `struct State updated by Update { field: Type => reducer, .. }`, where each reducer is one of \
             `replace`, `append`, `merge`, `add` and `by(function)`"
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __graph_field {
    ($field:ident, replace) => {
        $crate::graph::Field::replaced(::std::stringify!($field))
    };
    ($field:ident, append) => {
        $crate::graph::Field::reduced(::std::stringify!($field), "append")
    };
    ($field:ident, merge) => {
        $crate::graph::Field::reduced(::std::stringify!($field), "merge")
    };
    ($field:ident, add) => {
        $crate::graph::Field::reduced(::std::stringify!($field), "add")
    };
    ($field:ident, by) => {
        $crate::graph::Field::reduced(::std::stringify!($field), "by")
    };
    ($field:ident, $other:ident) => {
        ::std::compile_error!(::std::concat!(
            "`",
            ::std::stringify!($other),
            "` is no reducer: there are `replace`, `append`, `merge`, `add` and `by(function)`"
        ))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __graph_reduce {
    ($place:expr, $type:ty, $value:expr, replace) => {
        $place = $value
    };
    ($place:expr, $type:ty, $value:expr, append) => {
        <$type as $crate::graph::Sequence>::append(&mut $place, $value)
    };
    ($place:expr, $type:ty, $value:expr, merge) => {
        <$type as $crate::graph::Keyed>::merge(&mut $place, $value)
    };
    ($place:expr, $type:ty, $value:expr, add) => {
        <$type as $crate::graph::Sum>::add(&mut $place, $value)
    };
    ($place:expr, $type:ty, $value:expr, by($function:expr)) => {{
        let reduce: fn(&mut $type, $type) = $function;
        reduce(&mut $place, $value)
    }};
    ($place:expr, $type:ty, $value:expr, by) => {
        ::std::compile_error!("`by` needs its function: `by(function)`")
    };
    ($place:expr, $type:ty, $value:expr, $other:ident) => {
        // The list of fields says what is wrong.
        let _ = $value;
    };
    ($place:expr, $type:ty, $value:expr, $reducer:ident($function:expr)) => {
        ::std::compile_error!("only `by` takes a function")
    };
}

/// What [`graph_state!`](crate::graph_state) writes code with. No part of the API.
#[doc(hidden)]
pub mod macros {
    use std::fmt;

    pub use serde::de::{MapAccess, Visitor};
    pub use serde::ser::SerializeMap;
    pub use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{FieldSet, GraphState};

    pub fn unknown_field<E: serde::de::Error>(name: &str) -> E {
        E::custom(format_args!("the state has no field `{name}`"))
    }

    pub fn debug<S: GraphState>(name: &str, written: FieldSet, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name)?;
        let names = S::FIELDS.iter().enumerate().filter(|(index, _)| written.contains(*index));
        f.debug_set().entries(names.map(|(_, field)| field.name)).finish()
    }
}
