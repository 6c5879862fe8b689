//! Observers that break a rule.

use std::sync::Mutex;
use std::time::Duration;

use agent_core::{Event, EventKind, Observer};
use testkit::conformance;

/// An observer that does this.
struct Observing<F>(F);

impl<F: Fn(&Event) + Send + Sync> Observer for Observing<F> {
    fn observe(&self, event: &Event) {
        (self.0)(event);
    }
}

async fn check(observe: impl Fn(&Event) + Send + Sync + 'static) {
    conformance::observer(Observing(observe)).await;
}

#[tokio::test]
#[should_panic(expected = "observing returns quickly: within 5ms on average")]
async fn is_slow() {
    check(|_| std::thread::sleep(Duration::from_millis(6))).await;
}

#[tokio::test]
#[should_panic(expected = "observing Delta { part: Text, offset: 0, text: \"Grüße 🦀\\n\" } panicked")]
async fn takes_text_for_ascii() {
    let width = Mutex::new(0);
    check(move |event| {
        if let EventKind::Delta { text, part: agent_core::DeltaPart::Text, .. } = &event.kind {
            *width.lock().unwrap() += text[..3].len();
        }
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "observing in several threads at once panicked")]
async fn is_for_one_thread() {
    let busy = Mutex::new(());
    check(move |_| {
        let _alone = busy.try_lock().expect("nobody else observes");
        std::thread::sleep(Duration::from_micros(50));
    })
    .await;
}
