//! Who runs and who waits at a target, behind one mutex that is never held across an await.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use agent_core::{TenantId, Tokens};
use tokio::time::Instant;

use super::Busy;
use super::bucket::Bucket;
use super::limits::StepLimits;
use super::queue::{Queue, Waiter, WaiterId};

#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
}

impl Shared {
    pub(super) fn new(limits: StepLimits) -> Self {
        Self { table: Mutex::new(Table::new(limits)) }
    }

    /// Changes the table, lets waiters in, and wakes whom that concerns.
    ///
    /// There is no other way to the table, so nobody can free a place, or leave the queue, and forget to wake the next. Wakers run
    /// foreign code when they wake or are dropped, which may come back here: that happens once the mutex is free.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        // The table's methods do not panic, and if one did, its sums would still be better than no limit at all.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.advance(Instant::now());
        let result = change(&mut table);
        table.serve();
        let (woken, discarded) = (std::mem::take(&mut table.woken), std::mem::take(&mut table.discarded));
        drop(table);
        woken.into_iter().for_each(Waker::wake);
        drop(discarded);
        result
    }
}

#[derive(Debug)]
pub(super) struct Table {
    limits: StepLimits,
    /// Up to when the buckets are refilled.
    now: Instant,
    running: u32,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    queue: Queue,
    next_waiter: WaiterId,
    /// Waiters that have a place and do not know it yet.
    granted: HashSet<WaiterId>,
    woken: Vec<Waker>,
    discarded: Vec<Waker>,
}

/// What a call is told that asks for a place.
pub(super) enum Asked {
    Granted,
    Queued(WaiterId),
}

/// What a waiter is told that asks how it stands.
pub(super) enum Verdict {
    Granted,
    Refused(Busy),
    /// It is to ask again at this time, or when it is woken.
    WaitUntil(Instant),
}

impl Table {
    fn new(limits: StepLimits) -> Self {
        Self {
            limits,
            now: Instant::now(),
            running: 0,
            requests: limits.requests_per_minute.map(|rate| Bucket::new(rate.get().into())),
            tokens: limits.tokens_per_minute.map(|rate| Bucket::new(rate.get())),
            queue: Queue::default(),
            next_waiter: 0,
            granted: HashSet::new(),
            woken: Vec::new(),
            discarded: Vec::new(),
        }
    }

    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.now);
        self.now += elapsed;
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.refill(elapsed);
        }
    }

    /// Gives a place at once, or queues, or refuses.
    pub(super) fn ask(&mut self, tenant: &TenantId, tokens: Tokens, deadline: Instant) -> Result<Asked, Busy> {
        self.serve();
        if self.queue.is_empty() && self.fits(tokens) {
            self.take(tokens);
            return Ok(Asked::Granted);
        }
        let wait = self.ready_in(tenant, tokens);
        let left = deadline.saturating_duration_since(self.now);
        if left.is_zero() || wait > left || !self.has_room_for(tenant) {
            return Err(Busy::for_at_least(wait));
        }
        let id = self.next_waiter;
        self.next_waiter += 1;
        self.queue.push(tenant, Waiter { id, tokens, deadline, wakes_at: deadline, waker: None });
        Ok(Asked::Queued(id))
    }

    /// Whether a call of `tenant` may wait. In a full queue each tenant has one place, or those that were just served would fill it again
    /// before the others; for more, the newest call of the tenant that waits with most is refused.
    fn has_room_for(&mut self, tenant: &TenantId) -> bool {
        let is_full = self.queue.len() >= self.limits.queue as usize;
        if !is_full || (self.limits.queue > 0 && !self.queue.has(tenant)) {
            return true;
        }
        let refused = self.queue.drop_newest_of_most(tenant);
        let has_room = refused.is_some();
        self.woken.extend(refused.and_then(|waiter| waiter.waker));
        has_room
    }

    /// Tells a waiter how it stands: it leaves the table with a place or a refusal, or `waker` is woken when that changes.
    pub(super) fn poll(&mut self, tenant: &TenantId, id: WaiterId, tokens: Tokens, waker: &Waker) -> Verdict {
        self.serve();
        if self.granted.remove(&id) {
            return Verdict::Granted;
        }
        let is_head = self.queue.head().is_some_and(|head| head.id == id);
        let refilled_at = if is_head { self.refilled_at(tokens) } else { None };
        match self.queue.find_mut(tenant, id) {
            Some(waiter) if self.now < waiter.deadline => {
                waiter.wakes_at = refilled_at.map_or(waiter.deadline, |at| at.min(waiter.deadline));
                self.discarded.extend(waiter.waker.replace(waker.clone()));
                Verdict::WaitUntil(waiter.wakes_at)
            }
            // Its time is over, and maybe it was thrown out of the queue for that.
            _ => {
                self.discard(tenant, id);
                Verdict::Refused(Busy::for_at_least(self.ready_in(tenant, tokens)))
            }
        }
    }

    /// Takes a waiter out whose future was dropped; a place that it was given goes back, as if it had not been.
    pub(super) fn forget(&mut self, tenant: &TenantId, id: WaiterId, tokens: Tokens) {
        if !self.granted.remove(&id) {
            return self.discard(tenant, id);
        }
        self.give_back(tokens);
    }

    /// Takes a place back as if it had not been given.
    pub(super) fn give_back(&mut self, tokens: Tokens) {
        if let Some(requests) = &mut self.requests {
            requests.give_back(1);
        }
        self.leave(tokens, Tokens::ZERO);
    }

    /// Ends a call that was thought to take `estimated` tokens and took `used`.
    pub(super) fn leave(&mut self, estimated: Tokens, used: Tokens) {
        self.running = self.running.saturating_sub(1);
        if let Some(bucket) = &mut self.tokens {
            bucket.give_back(estimated.minus(used).0);
            bucket.take(used.minus(estimated).0);
        }
    }

    /// Gives places to waiters as long as there are any. If the next one waits for a refill, it will wake in time for it.
    fn serve(&mut self) {
        while let Some(head) = self.queue.head() {
            // Nobody may poll it any more, nor drop it.
            let waiter = if head.deadline < self.now {
                self.queue.drop_head()
            } else if self.fits(head.tokens) {
                self.take(head.tokens);
                let waiter = self.queue.serve_head();
                self.granted.extend(waiter.as_ref().map(|waiter| waiter.id));
                waiter
            } else {
                break;
            };
            self.woken.extend(waiter.and_then(|waiter| waiter.waker));
        }
        let refilled_at = self.queue.head().and_then(|head| self.refilled_at(head.tokens));
        if let (Some(at), Some(head)) = (refilled_at, self.queue.head_mut())
            && at < head.wakes_at
        {
            // When it is polled it sets its timer anew. Without a waker it is about to be polled already.
            self.woken.extend(head.waker.take());
        }
    }

    fn discard(&mut self, tenant: &TenantId, id: WaiterId) {
        let waiter = self.queue.remove(tenant, id);
        self.discarded.extend(waiter.and_then(|waiter| waiter.waker));
    }

    fn fits(&self, tokens: Tokens) -> bool {
        self.has_place()
            && self.requests.as_ref().is_none_or(|bucket| bucket.covers(1))
            && self.tokens.as_ref().is_none_or(|bucket| bucket.covers(tokens.0))
    }

    fn has_place(&self) -> bool {
        self.limits.concurrency.is_none_or(|most| self.running < most.get())
    }

    fn take(&mut self, tokens: Tokens) {
        self.running = self.running.saturating_add(1);
        if let Some(bucket) = &mut self.requests {
            bucket.take(1);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens.0);
        }
    }

    /// When the rates let the head of the queue in, if nothing but them holds it back.
    fn refilled_at(&self, tokens: Tokens) -> Option<Instant> {
        if !self.has_place() {
            return None;
        }
        self.now.checked_add(self.rates_ready_in(tokens, 0, 0))
    }

    /// How long the rates alone keep a new call of `tenant` waiting, if those stay that are served before it.
    fn ready_in(&self, tenant: &TenantId, tokens: Tokens) -> Duration {
        if self.requests.is_none() && self.tokens.is_none() {
            return Duration::ZERO;
        }
        let ahead = self.queue.ahead_of(tenant);
        let (requests_ahead, tokens_ahead) =
            ahead.fold((0, 0), |(requests, tokens), waiter| (requests + 1, tokens + u128::from(waiter.tokens.0)));
        self.rates_ready_in(tokens, requests_ahead, tokens_ahead)
    }

    fn rates_ready_in(&self, tokens: Tokens, requests_ahead: u128, tokens_ahead: u128) -> Duration {
        let requests = self.requests.as_ref().map(|bucket| bucket.ready_in(1, requests_ahead));
        let tokens = self.tokens.as_ref().map(|bucket| bucket.ready_in(tokens.0, tokens_ahead));
        requests.max(tokens).unwrap_or_default()
    }
}

/// What tests look at. Looking serves nobody, so that it hides no lost wake-up.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) running: u32,
    pub(super) waiting: usize,
    /// Places that were given to waiters that do not know it yet.
    pub(super) granted: usize,
    pub(super) buckets_full: bool,
    /// Whether the head of the queue could go ahead, or wakes too late for a refill, and was not woken for it.
    pub(super) head_forgotten: bool,
}

#[cfg(test)]
impl Shared {
    pub(super) fn look(&self) -> Seen {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.advance(Instant::now());
        let refilled_at = table.queue.head().and_then(|head| table.refilled_at(head.tokens));
        Seen {
            running: table.running,
            waiting: table.queue.len(),
            granted: table.granted.len(),
            buckets_full: [&table.requests, &table.tokens].into_iter().flatten().all(Bucket::is_full),
            head_forgotten: table.queue.head().is_some_and(|head| {
                head.waker.is_some() && (table.fits(head.tokens) || refilled_at.is_some_and(|at| at < head.wakes_at))
            }),
        }
    }
}
