//! The subscriber that our side runs under. It keeps nothing, but it is enabled for everything and visits every field: spans and
//! events cost what the SDK makes them cost, and not the price of an exporter.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static SPANS: AtomicUsize = AtomicUsize::new(0);

struct Counter;

struct VisitFields;

impl Visit for VisitFields {
    // The other `record_*` methods forward here.
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        std::hint::black_box(value);
    }
}

impl<S: Subscriber> Layer<S> for Counter {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        SPANS.fetch_add(1, Relaxed);
        attributes.record(&mut VisitFields);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut VisitFields);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut VisitFields);
    }
}

/// Installs the subscriber. Nothing is filtered, TRACE included.
pub fn install() -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::registry().with(LevelFilter::TRACE).with(Counter);
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

/// How many spans there were since this was last asked.
pub fn take_spans() -> usize {
    SPANS.swap(0, Relaxed)
}
