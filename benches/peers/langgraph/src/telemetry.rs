//! The subscriber both sides run under. It keeps nothing, but it is enabled
//! and visits every field, so spans and events cost what the frameworks make
//! them cost and not the price of an exporter.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static SPANS: AtomicU64 = AtomicU64::new(0);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static FIELDS: AtomicU64 = AtomicU64::new(0);

struct Counter;

struct CountFields;

impl Visit for CountFields {
    // The other `record_*` methods forward here.
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        std::hint::black_box(value);
        FIELDS.fetch_add(1, Relaxed);
    }
}

impl<S: Subscriber> Layer<S> for Counter {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        SPANS.fetch_add(1, Relaxed);
        attributes.record(&mut CountFields);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut CountFields);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        EVENTS.fetch_add(1, Relaxed);
        event.record(&mut CountFields);
    }
}

/// Installs the subscriber. Without a level nothing is filtered, TRACE included.
pub fn install(level: Option<LevelFilter>) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::registry().with(level.unwrap_or(LevelFilter::TRACE)).with(Counter);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

/// What the layer saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub spans: u64,
    pub events: u64,
    pub fields: u64,
}

impl Seen {
    /// Everything seen since the last call.
    pub fn take() -> Self {
        Self { spans: SPANS.swap(0, Relaxed), events: EVENTS.swap(0, Relaxed), fields: FIELDS.swap(0, Relaxed) }
    }
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.spans += other.spans;
        self.events += other.events;
        self.fields += other.fields;
    }
}
