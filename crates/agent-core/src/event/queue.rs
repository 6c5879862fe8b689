//! The events that a handle's owner has not read yet.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use super::{Event, EventKind};

/// Unread events. Deltas that nobody has read yet are joined, so that the length is bounded by the run's own limits.
#[derive(Debug)]
pub(crate) struct Queue {
    open: AtomicBool,
    unread: Mutex<Unread>,
}

#[derive(Debug, Default)]
struct Unread {
    events: Chunks,
    /// The number of the first of `events`, counted from the run's first.
    first: u64,
    finished: bool,
    reader: Option<Waker>,
}

/// A queue in pieces of a fixed size. A ring that doubles would waste half of itself and leave holes behind; there are many runs.
#[derive(Debug, Default)]
struct Chunks {
    /// All but the first and the last are full.
    chunks: VecDeque<VecDeque<Event>>,
    length: usize,
}

impl Chunks {
    const SIZE: usize = 8;

    fn push_back(&mut self, event: Event) {
        self.length += 1;
        match self.chunks.back_mut() {
            Some(last) if last.len() < last.capacity() => last.push_back(event),
            _ => {
                let mut chunk = VecDeque::with_capacity(Self::SIZE);
                chunk.push_back(event);
                self.chunks.push_back(chunk);
            }
        }
    }

    fn pop_front(&mut self) -> Option<Event> {
        let first = self.chunks.front_mut()?;
        let event = first.pop_front()?;
        self.length -= 1;
        if first.is_empty() {
            self.chunks.pop_front();
        }
        Some(event)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Event> {
        // What is asked for is mostly among the last.
        let mut from_back = self.length.checked_sub(index)?;
        for chunk in self.chunks.iter_mut().rev() {
            match chunk.len().checked_sub(from_back) {
                Some(place) => return chunk.get_mut(place),
                None => from_back -= chunk.len(),
            }
        }
        None
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { open: AtomicBool::new(true), unread: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody reads, or may yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, event: Event) {
        self.lock().push(event);
    }

    /// Adds a delta: to the one numbered `last`, if that is still unread, or as `event`. Gives the number of where it went.
    pub(super) fn push_delta(&self, last: Option<u64>, more: &str, event: impl FnOnce() -> Event) -> Option<u64> {
        let mut unread = self.lock();
        if let Some(text) = last.and_then(|last| unread.delta_text(last)) {
            text.push_str(more);
            return last;
        }
        let number = unread.first + unread.events.length as u64;
        unread.push(event());
        Some(number)
    }

    /// No event follows.
    pub(crate) fn finish(&self) {
        let mut unread = self.lock();
        unread.finished = true;
        unread.wake();
    }
}

impl Unread {
    fn push(&mut self, event: Event) {
        // Somebody who goes on after the run's end is not heard.
        if !self.finished {
            self.events.push_back(event);
            self.wake();
        }
    }

    fn delta_text(&mut self, number: u64) -> Option<&mut String> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        match &mut self.events.get_mut(index)?.kind {
            EventKind::Delta { text, .. } => Some(text),
            _ => None,
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The events of a run, from its first to its last.
///
/// Dropping it costs the run nothing from then on; the run goes on. Deltas that are not read at once are joined.
#[derive(Debug)]
pub struct EventStream(Arc<Queue>);

impl EventStream {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// The next event, or `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|task| self.poll_event(task)).await
    }

    fn poll_event(&self, task: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut unread = self.0.lock();
        match unread.events.pop_front() {
            Some(event) => {
                unread.first += 1;
                Poll::Ready(Some(event))
            }
            None if unread.finished => Poll::Ready(None),
            None => {
                unread.reader = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(task)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::Relaxed);
        self.0.lock().events.clear();
    }
}
