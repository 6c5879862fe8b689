//! A part of a tree's budget, and reservations on it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, NodeId, WaiterId};
use super::limits::{Exceeded, Limits, Resource};
use crate::amount::Spend;

/// A ceiling on what a call and everything below it may spend, within the ceilings above it.
///
/// All leases of a run share one ledger. Spending at a lease is spending at every lease above it, so that a parent always knows
/// what its children cost. A child's ceiling strands nothing: what it does not use stays with its parent.
///
/// Nothing is admitted over a ceiling. Real spend is recorded in full, so a ceiling can be passed by at most the error of the
/// estimates of the calls in flight.
///
/// ```
/// use agent_core::{Lease, Limits, Spend, Tokens};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let run = Lease::root(Limits::none().with_tokens(Tokens(1_000)));
/// let child = run.child(Limits::none().with_tokens(Tokens(400)));
/// let reservation = child.reserve(Spend::model_call(Tokens(300))).await?;
/// reservation.settle(Spend::model_call(Tokens(120)));
/// assert_eq!(run.spent().tokens, Tokens(120));
/// assert!(child.reserve(Spend::of_tokens(Tokens(300))).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lease {
    node: Arc<LeasedNode>,
}

/// A node of a ledger; its place is free again when the last lease on it is gone.
#[derive(Debug)]
struct LeasedNode {
    ledger: Arc<Ledger>,
    id: NodeId,
    /// Keeps the ceilings above alive.
    _parent: Option<Lease>,
}

impl Drop for LeasedNode {
    fn drop(&mut self) {
        self.ledger.lock().remove_node(self.id);
    }
}

/// What a lease allows and what is spent of it, in the form in which a suspended run keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SavedLease {
    /// The ceilings.
    pub limits: Limits,
    /// What is spent.
    pub spent: Spend,
}

impl Lease {
    /// The lease of a whole run, with a ledger of its own.
    #[must_use]
    pub fn root(limits: Limits) -> Self {
        Self::restore(SavedLease { limits, spent: Spend::ZERO })
    }

    /// The lease of a whole run that has spent something already.
    #[must_use]
    pub fn restore(saved: SavedLease) -> Self {
        let ledger = Arc::new(Ledger::default());
        let id = ledger.lock().add_node(None, saved.limits, saved.spent);
        Self { node: Arc::new(LeasedNode { ledger, id, _parent: None }) }
    }

    /// A lease below this one with ceilings of its own.
    #[must_use]
    pub fn child(&self, limits: Limits) -> Self {
        self.restore_child(SavedLease { limits, spent: Spend::ZERO })
    }

    /// A lease below this one that has spent something already, which this one knows of: it is not added again.
    #[must_use]
    pub fn restore_child(&self, saved: SavedLease) -> Self {
        let ledger = self.node.ledger.clone();
        let id = ledger.lock().add_node(Some(self.node.id), saved.limits, saved.spent);
        Self { node: Arc::new(LeasedNode { ledger, id, _parent: Some(self.clone()) }) }
    }

    /// Reserves `amount` here and at every lease above.
    ///
    /// An amount that would fit if others settled below their reservations waits for that, in order of arrival.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when it cannot fit, whatever others settle at.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the queue and reserves nothing.
    pub async fn reserve(&self, amount: Spend) -> Result<Reservation, Exceeded> {
        let waiting = self.node.ledger.lock().reserve_or_wait(self.node.id, amount)?;
        if let Some(id) = waiting {
            let mut place = QueuePlace { ledger: &self.node.ledger, id: Some(id) };
            place.verdict().await?;
        }
        Ok(self.reservation(amount))
    }

    /// Counts `amount` as spent if it fits beside what is spent and reserved.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when it does not fit; nothing is counted then.
    pub fn charge(&self, amount: Spend) -> Result<(), Exceeded> {
        self.node.ledger.lock().charge(self.node.id, amount)
    }

    /// Counts `amount` as spent, whatever the ceilings: it happened.
    pub fn record(&self, amount: Spend) {
        self.node.ledger.lock().settle(self.node.id, Spend::ZERO, amount);
    }

    /// Reserves `amount` if it fits beside what is spent and reserved, without waiting.
    pub(crate) fn try_reserve(&self, amount: Spend) -> Result<Reservation, Exceeded> {
        self.node.ledger.lock().try_reserve(self.node.id, amount)?;
        Ok(self.reservation(amount))
    }

    /// Carves `amount` out without asking whether it fits: it was admitted before, and its run was suspended since.
    pub fn carve_out(&self, amount: Spend) -> CarveOut {
        self.node.ledger.lock().carve_out(self.node.id, Spend::ZERO, amount);
        CarveOut { lease: self.clone(), amount }
    }

    fn reservation(&self, reserved: Spend) -> Reservation {
        Reservation { lease: self.clone(), reserved, observed: Spend::ZERO }
    }

    /// What this lease and those below it spent.
    #[must_use]
    pub fn spent(&self) -> Spend {
        self.node.ledger.lock().spent(self.node.id)
    }

    /// What is reserved or carved out here and below, and not settled yet.
    #[must_use]
    pub fn reserved(&self) -> Spend {
        self.node.ledger.lock().reserved(self.node.id)
    }

    /// The ceilings of this lease itself.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.node.ledger.lock().limits(self.node.id)
    }

    /// How much of `resource` is neither spent nor carved out, here and above. Reservations of others may still take part of it.
    /// `None` is no ceiling.
    #[must_use]
    pub fn unspent(&self, resource: Resource) -> Option<u64> {
        self.node.ledger.lock().unspent(self.node.id, resource)
    }

    /// An equal share of what is not spent of `resource`, among `parts`, as far as it is not carved out. `None` is no ceiling.
    pub(crate) fn share(&self, resource: Resource, parts: u32) -> Option<u64> {
        self.node.ledger.lock().share(self.node.id, resource, parts.into())
    }

    /// What to save when the run is suspended.
    #[must_use]
    pub fn save(&self) -> SavedLease {
        let table = self.node.ledger.lock();
        SavedLease { limits: table.limits(self.node.id), spent: table.spent(self.node.id) }
    }
}

/// An amount set aside for a call. It settles exactly once: by [`settle`](Self::settle), or at what was observed when it is dropped.
#[derive(Debug)]
#[must_use = "a dropped reservation settles at what was observed"]
pub struct Reservation {
    lease: Lease,
    reserved: Spend,
    observed: Spend,
}

impl Reservation {
    /// Notes what the call is known to have spent so far, all together. A drop settles at this.
    pub fn observe(&mut self, so_far: Spend) {
        self.observed = so_far;
    }

    /// What was observed so far.
    #[must_use]
    pub fn observed(&self) -> Spend {
        self.observed
    }

    /// Ends the reservation: `spent` was really spent, be it less or more than reserved.
    pub fn settle(mut self, spent: Spend) {
        self.observed = spent;
    }

    /// Turns the reservation into a part of the budget that others spend.
    pub fn into_carve_out(mut self) -> CarveOut {
        let (lease, amount) = (self.lease.clone(), std::mem::take(&mut self.reserved));
        lease.node.ledger.lock().carve_out(lease.node.id, amount, amount);
        CarveOut { lease, amount }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.lease.node.ledger.lock().settle(self.lease.node.id, self.reserved, self.observed);
    }
}

/// A part of a budget that others spend, elsewhere: a durable call. Nothing here waits for it to be given back, which happens when
/// it is dropped.
#[derive(Debug)]
#[must_use = "a dropped carve-out is given back"]
pub struct CarveOut {
    lease: Lease,
    amount: Spend,
}

impl Drop for CarveOut {
    fn drop(&mut self) {
        self.lease.node.ledger.lock().give_back(self.lease.node.id, self.amount);
    }
}

/// A place in the queue, given up on drop.
struct QueuePlace<'a> {
    ledger: &'a Ledger,
    /// `None` once the verdict is known.
    id: Option<WaiterId>,
}

impl QueuePlace<'_> {
    async fn verdict(&mut self) -> Result<(), Exceeded> {
        poll_fn(|task| {
            let Some(id) = self.id else { return Poll::Ready(Ok(())) };
            let Some(verdict) = self.ledger.lock().poll_waiter(id, task.waker()) else { return Poll::Pending };
            self.id = None;
            Poll::Ready(verdict)
        })
        .await
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.ledger.lock().forget_waiter(id);
        }
    }
}
