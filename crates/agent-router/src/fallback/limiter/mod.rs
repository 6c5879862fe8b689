//! How much this process uses a target: so many calls at once, so many requests and tokens a minute, and a queue that is fair to
//! tenants.
//!
//! [`Limiter`] is what a call asks, and [`Place`] what it gets. Behind them are a table of who runs and who waits, the buckets of
//! the rates, and a queue in which tenants take turns.
//!
//! Nothing runs in the background. Whoever changes the table gives free places to the head of the queue. If a refill is all that
//! the head lacks, its own timer wakes it for that.

mod bucket;
mod limits;
mod queue;
#[cfg(test)]
mod random_tests;
mod table;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_core::{TenantId, Tokens};
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::limits::StepLimits;
use self::queue::WaiterId;
use self::table::{Asked, Shared, Verdict};

/// Lets calls to one target in. Clones share its limits.
#[derive(Debug, Clone)]
pub(crate) struct Limiter {
    /// `None` when nothing is limited.
    shared: Option<Arc<Shared>>,
    longest_wait: Duration,
}

/// Longer waits are cut to this: no more fits into an [`Instant`] on every platform.
pub(crate) const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Limiter {
    /// A limiter of its own, with nobody running or waiting, and full buckets.
    pub(crate) fn new(limits: StepLimits) -> Self {
        let shared = (!limits.are_none()).then(|| Arc::new(Shared::new(limits)));
        Self { shared, longest_wait: Duration::from_millis(limits.longest_wait_ms).min(A_YEAR) }
    }

    /// Waits for a place for a call that probably takes `tokens`, at most until `until` and at most for the longest wait.
    ///
    /// Tenants take turns, and a tenant's own calls are in order of arrival. A call that can go ahead at once does, even after
    /// `until`.
    ///
    /// # Errors
    ///
    /// [`Busy`]: at once if the queue is full, or if the rates let it in too late, should those stay that are before it; otherwise
    /// when the wait was too long.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers, if it has to wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue, or the place at the target; it costs nothing.
    pub(crate) async fn admit(&self, tenant: &TenantId, tokens: Tokens, until: Option<Instant>) -> Result<Place, Busy> {
        let Some(shared) = &self.shared else { return Ok(Place { held: None }) };
        let longest = Instant::now() + self.longest_wait;
        let deadline = until.map_or(longest, |until| until.min(longest));
        let asked = shared.change(|table| table.ask(tenant, tokens, deadline))?;
        if let Asked::Queued(id) = asked {
            let mut waiting = Waiting { shared, tenant, tokens, id: Some(id) };
            let mut timer = pin!(sleep_until(deadline));
            poll_fn(|task| waiting.poll(timer.as_mut(), task)).await?;
        }
        Ok(Place { held: Some(Held { shared: Arc::clone(shared), estimated: tokens, used: Some(tokens) }) })
    }
}

/// A refusal: the queue is full, or the wait is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// After what time the rates would let the call in, if those stay that are waiting. `None` if something else holds it back.
    pub(crate) ready_in: Option<Duration>,
}

impl Busy {
    fn for_at_least(wait: Duration) -> Self {
        Self { ready_in: (!wait.is_zero()).then_some(wait) }
    }
}

/// A call's place at the target, free again when it is dropped.
#[derive(Debug)]
#[must_use = "a dropped place is free for the next call"]
pub(crate) struct Place {
    /// `None` when nothing is limited.
    held: Option<Held>,
}

impl Place {
    /// Ends the call, which really took `used` tokens. Otherwise the estimate stands.
    pub(crate) fn settle(mut self, used: Tokens) {
        if let Some(held) = &mut self.held {
            held.used = Some(used);
        }
    }

    /// Gives the place back as if it had not been: nothing was sent.
    pub(crate) fn unsent(mut self) {
        if let Some(held) = &mut self.held {
            held.used = None;
        }
    }
}

#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    estimated: Tokens,
    /// `None` when nothing was sent.
    used: Option<Tokens>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.change(|table| match self.used {
            Some(used) => table.leave(self.estimated, used),
            None => table.give_back(self.estimated),
        });
    }
}

/// A place in the queue, given up on drop.
struct Waiting<'a> {
    shared: &'a Shared,
    tenant: &'a TenantId,
    tokens: Tokens,
    /// `None` once the verdict is known.
    id: Option<WaiterId>,
}

impl Waiting<'_> {
    fn poll(&mut self, mut timer: Pin<&mut Sleep>, task: &mut Context<'_>) -> Poll<Result<(), Busy>> {
        let Some(id) = self.id else { return Poll::Ready(Ok(())) };
        loop {
            let verdict = self.shared.change(|table| table.poll(self.tenant, id, self.tokens, task.waker()));
            let at = match verdict {
                Verdict::WaitUntil(at) => at,
                Verdict::Granted => {
                    self.id = None;
                    return Poll::Ready(Ok(()));
                }
                Verdict::Refused(busy) => {
                    self.id = None;
                    return Poll::Ready(Err(busy));
                }
            };
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.change(|table| table.forget(self.tenant, id, self.tokens));
        }
    }
}
