//! The queue: tenants take turns, and each tenant's own calls are in order of arrival.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use agent_core::{TenantId, Tokens};
use tokio::time::Instant;

/// Number of a waiter, in order of arrival.
pub(super) type WaiterId = u64;

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) tokens: Tokens,
    pub(super) deadline: Instant,
    /// When its own timer wakes it.
    pub(super) wakes_at: Instant,
    /// `None` before it is polled, and once it is woken.
    pub(super) waker: Option<Waker>,
}

/// Every operation but [`ahead_of`](Self::ahead_of) takes logarithmic time, or moves the waiters of one tenant.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The tenants with waiting calls, by when it is their turn.
    lanes: BTreeMap<Turn, Lane>,
    turns: HashMap<TenantId, Turn>,
    next_turn: Turn,
    len: usize,
}

type Turn = u64;

#[derive(Debug)]
struct Lane {
    tenant: TenantId,
    /// Never empty; ids ascend.
    waiters: VecDeque<Waiter>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a call of the tenant waits.
    pub(super) fn has(&self, tenant: &TenantId) -> bool {
        self.turns.contains_key(tenant)
    }

    pub(super) fn push(&mut self, tenant: &TenantId, waiter: Waiter) {
        self.len += 1;
        if let Some(lane) = self.turns.get(tenant).and_then(|turn| self.lanes.get_mut(turn)) {
            lane.waiters.push_back(waiter);
            return;
        }
        self.add_lane(Lane { tenant: tenant.clone(), waiters: VecDeque::from([waiter]) });
    }

    /// The waiter whose turn it is.
    pub(super) fn head(&self) -> Option<&Waiter> {
        self.lanes.first_key_value()?.1.waiters.front()
    }

    /// The waiter whose turn it is.
    pub(super) fn head_mut(&mut self) -> Option<&mut Waiter> {
        self.lanes.first_entry()?.into_mut().waiters.front_mut()
    }

    /// Takes out the waiter whose turn it is. Its tenant has had its turn then.
    pub(super) fn serve_head(&mut self) -> Option<Waiter> {
        let (_, mut lane) = self.lanes.pop_first()?;
        let waiter = lane.waiters.pop_front()?;
        self.len -= 1;
        if lane.waiters.is_empty() {
            self.turns.remove(&lane.tenant);
        } else {
            self.add_lane(lane);
        }
        Some(waiter)
    }

    /// Takes out the waiter whose turn it is. Its tenant still has its turn.
    pub(super) fn drop_head(&mut self) -> Option<Waiter> {
        let lane = self.lanes.first_key_value()?.1;
        let (tenant, id) = (lane.tenant.clone(), lane.waiters.front()?.id);
        self.remove(&tenant, id)
    }

    /// Takes out the newest waiter of the tenant that has most of them, if that is two more than `tenant` has.
    pub(super) fn drop_newest_of_most(&mut self, tenant: &TenantId) -> Option<Waiter> {
        let own = self.turns.get(tenant).and_then(|turn| self.lanes.get(turn)).map_or(0, |lane| lane.waiters.len());
        let most = self.lanes.values_mut().max_by_key(|lane| lane.waiters.len())?;
        if most.waiters.len() < own + 2 {
            return None;
        }
        self.len -= 1;
        most.waiters.pop_back()
    }

    pub(super) fn find_mut(&mut self, tenant: &TenantId, id: WaiterId) -> Option<&mut Waiter> {
        let lane = self.lanes.get_mut(self.turns.get(tenant)?)?;
        let index = lane.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        lane.waiters.get_mut(index)
    }

    pub(super) fn remove(&mut self, tenant: &TenantId, id: WaiterId) -> Option<Waiter> {
        let turn = *self.turns.get(tenant)?;
        let lane = self.lanes.get_mut(&turn)?;
        let index = lane.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        let waiter = lane.waiters.remove(index)?;
        self.len -= 1;
        if lane.waiters.is_empty() {
            self.lanes.remove(&turn);
            self.turns.remove(tenant);
        }
        Some(waiter)
    }

    /// The waiters that are served before a new one of `tenant` is, as things are.
    pub(super) fn ahead_of(&self, tenant: &TenantId) -> impl Iterator<Item = &Waiter> {
        let own = self.turns.get(tenant).and_then(|turn| Some((*turn, self.lanes.get(turn)?.waiters.len())));
        let (own_turn, rounds) = own.unwrap_or((self.next_turn, 0));
        self.lanes.iter().flat_map(move |(turn, lane)| {
            let served = if *turn < own_turn { rounds + 1 } else { rounds };
            lane.waiters.iter().take(served)
        })
    }

    /// Puts a tenant behind all others.
    fn add_lane(&mut self, lane: Lane) {
        self.turns.insert(lane.tenant.clone(), self.next_turn);
        self.lanes.insert(self.next_turn, lane);
        self.next_turn += 1;
    }
}
