//! The tree's one table of what is spent and reserved, behind one mutex that is never held across an await.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::limits::{Exceeded, Limits, Resource};
use crate::amount::Spend;

/// Index of a node in the table.
pub(super) type NodeId = usize;

/// Number of a waiter, in order of arrival.
pub(super) type WaiterId = u64;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    table: Mutex<Table>,
}

impl Ledger {
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // The table's methods do not panic, and if one did, its sums would still be better than no budget at all.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Indexing by [`NodeId`] cannot fail: ids come from [`Table::add_node`] and live as long as the lease that holds them.
#[derive(Debug, Default)]
pub(super) struct Table {
    nodes: Vec<Node>,
    /// Places in `nodes` whose lease is gone.
    free: Vec<NodeId>,
    waiters: VecDeque<Waiter>,
    next_waiter: WaiterId,
}

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    limits: Limits,
    spent: Spend,
    /// What calls in flight may spend. It is given back while the run goes on.
    reserved: Spend,
    /// What is carved out for work elsewhere, which is not given back while the run goes on. Boxed, since most runs have none.
    carved_out: Option<Box<Spend>>,
}

impl Node {
    /// What nobody here can have any more.
    fn gone(&self) -> Spend {
        self.spent.plus(self.carved_out())
    }

    fn carved_out(&self) -> Spend {
        self.carved_out.as_deref().copied().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    node: NodeId,
    amount: Spend,
    /// `None` while waiting.
    verdict: Option<Result<(), Exceeded>>,
    waker: Option<Waker>,
}

/// Whether an amount fits at every node from one up to the root.
enum Fit {
    Now,
    /// It would, once something of the resource settles at this node.
    Later(NodeId, Resource),
    Never(Exceeded),
}

impl Table {
    pub(super) fn add_node(&mut self, parent: Option<NodeId>, limits: Limits, spent: Spend) -> NodeId {
        let node = Node { parent, limits, spent, reserved: Spend::ZERO, carved_out: None };
        match self.free.pop() {
            Some(id) => {
                self.nodes[id] = node;
                id
            }
            None => {
                // Most runs need one node or two, and there are many runs.
                self.nodes.reserve_exact(1);
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// Gives the node's place away. Its lease is gone, and with it every reservation, which holds the lease.
    pub(super) fn remove_node(&mut self, id: NodeId) {
        self.free.push(id);
    }

    pub(super) fn limits(&self, id: NodeId) -> Limits {
        self.nodes[id].limits
    }

    pub(super) fn spent(&self, id: NodeId) -> Spend {
        self.nodes[id].spent
    }

    pub(super) fn reserved(&self, id: NodeId) -> Spend {
        self.nodes[id].reserved.plus(self.nodes[id].carved_out())
    }

    /// The nodes from `id` up to the root.
    fn chain(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(id), |id| self.nodes[*id].parent)
    }

    /// How much of `resource` is neither spent nor carved out, at every node from `id` up. `None` is no ceiling.
    pub(super) fn unspent(&self, id: NodeId, resource: Resource) -> Option<u64> {
        let left = |id: NodeId| {
            let node = &self.nodes[id];
            node.limits.of(resource).map(|limit| limit.saturating_sub(resource.of(&node.gone())))
        };
        self.chain(id).filter_map(left).min()
    }

    /// An equal share of what is not spent, among `parts`, as far as it is not carved out. `None` is no ceiling.
    pub(super) fn share(&self, id: NodeId, resource: Resource, parts: u64) -> Option<u64> {
        let share = |id: NodeId| {
            let node = &self.nodes[id];
            node.limits.of(resource).map(|limit| limit.saturating_sub(resource.of(&node.spent)) / parts.max(1))
        };
        let share = self.chain(id).filter_map(share).min();
        share.map(|share| share.min(self.unspent(id, resource).unwrap_or(share)))
    }

    fn fits(&self, id: NodeId, amount: &Spend) -> Fit {
        let mut later = None;
        for id in self.chain(id) {
            let node = &self.nodes[id];
            let gone = node.gone().plus(*amount);
            if let Some(resource) = node.limits.exceeded_by(&gone) {
                return Fit::Never(Exceeded::new(resource, &node.limits, &node.gone(), amount));
            }
            if let Some(resource) = node.limits.exceeded_by(&gone.plus(node.reserved)) {
                later = later.or(Some((id, resource)));
            }
        }
        later.map_or(Fit::Now, |(id, resource)| Fit::Later(id, resource))
    }

    /// Records `amount` as spent if it fits beside what is spent and reserved.
    pub(super) fn charge(&mut self, id: NodeId, amount: Spend) -> Result<(), Exceeded> {
        self.try_reserve(id, amount)?;
        self.settle(id, amount, amount);
        Ok(())
    }

    /// Reserves `amount` if it fits beside what is spent and reserved.
    pub(super) fn try_reserve(&mut self, id: NodeId, amount: Spend) -> Result<(), Exceeded> {
        match self.fits(id, &amount) {
            Fit::Now => {
                self.hold(id, amount);
                Ok(())
            }
            Fit::Never(exceeded) => Err(exceeded),
            Fit::Later(at, resource) => {
                let node = &self.nodes[at];
                let taken = node.gone().plus(node.reserved);
                Err(Exceeded::new(resource, &node.limits, &taken, &amount))
            }
        }
    }

    fn hold(&mut self, id: NodeId, amount: Spend) {
        self.each_up(id, |node| node.reserved = node.reserved.plus(amount));
    }

    /// Takes `reserved` back, records `spent`, and lets waiters in.
    pub(super) fn settle(&mut self, id: NodeId, reserved: Spend, spent: Spend) {
        self.each_up(id, |node| {
            node.reserved = node.reserved.minus(reserved);
            node.spent = node.spent.plus(spent);
        });
        self.admit_waiters();
    }

    /// Takes `reserved` back and carves `amount` out instead, without asking whether it fits.
    pub(super) fn carve_out(&mut self, id: NodeId, reserved: Spend, amount: Spend) {
        self.each_up(id, |node| {
            node.reserved = node.reserved.minus(reserved);
            node.carved_out = Some(Box::new(node.carved_out().plus(amount)));
        });
        self.admit_waiters();
    }

    /// Gives back what was carved out.
    pub(super) fn give_back(&mut self, id: NodeId, amount: Spend) {
        self.each_up(id, |node| node.carved_out = Some(Box::new(node.carved_out().minus(amount))));
        self.admit_waiters();
    }

    fn each_up(&mut self, id: NodeId, mut change: impl FnMut(&mut Node)) {
        let mut next = Some(id);
        while let Some(id) = next {
            change(&mut self.nodes[id]);
            next = self.nodes[id].parent;
        }
    }

    /// Reserves at once, or queues and returns the place in the queue.
    pub(super) fn reserve_or_wait(&mut self, node: NodeId, amount: Spend) -> Result<Option<WaiterId>, Exceeded> {
        if self.waiters.is_empty() {
            match self.fits(node, &amount) {
                Fit::Now => {
                    self.hold(node, amount);
                    return Ok(None);
                }
                Fit::Never(exceeded) => return Err(exceeded),
                Fit::Later(..) => {}
            }
        }
        let id = self.next_waiter;
        self.next_waiter += 1;
        self.waiters.push_back(Waiter { id, node, amount, verdict: None, waker: None });
        self.admit_waiters();
        match self.verdict(id) {
            None => Ok(Some(id)),
            Some(verdict) => {
                self.waiters.retain(|waiter| waiter.id != id);
                verdict.map(|()| None)
            }
        }
    }

    /// Decides for every waiter, oldest first, that can be decided. One that has to wait at a node holds back later ones there.
    fn admit_waiters(&mut self) {
        if self.waiters.is_empty() {
            return;
        }
        let mut closed: Vec<NodeId> = Vec::new();
        for index in 0..self.waiters.len() {
            let Waiter { node, amount, verdict, .. } = &self.waiters[index];
            if verdict.is_some() {
                continue;
            }
            let (node, amount) = (*node, *amount);
            let verdict = match self.fits(node, &amount) {
                Fit::Never(exceeded) => Err(exceeded),
                Fit::Later(at, _) => {
                    closed.push(at);
                    continue;
                }
                Fit::Now if self.chain(node).any(|id| closed.contains(&id)) => continue,
                Fit::Now => {
                    self.hold(node, amount);
                    Ok(())
                }
            };
            let waiter = &mut self.waiters[index];
            waiter.verdict = Some(verdict);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    fn verdict(&self, id: WaiterId) -> Option<Result<(), Exceeded>> {
        self.waiters.iter().find(|waiter| waiter.id == id).and_then(|waiter| waiter.verdict)
    }

    /// The verdict on a waiter, which then leaves the queue; or it waits on and wakes `waker`.
    pub(super) fn poll_waiter(&mut self, id: WaiterId, waker: &Waker) -> Option<Result<(), Exceeded>> {
        let index = self.waiters.iter().position(|waiter| waiter.id == id)?;
        if let Some(verdict) = self.waiters[index].verdict {
            self.waiters.remove(index);
            return Some(verdict);
        }
        self.waiters[index].waker = Some(waker.clone());
        None
    }

    /// Takes a waiter out of the queue whose future was dropped; what it was given goes back.
    pub(super) fn forget_waiter(&mut self, id: WaiterId) {
        let Some(index) = self.waiters.iter().position(|waiter| waiter.id == id) else { return };
        let Some(waiter) = self.waiters.remove(index) else { return };
        if let Some(Ok(())) = waiter.verdict {
            self.settle(waiter.node, waiter.amount, Spend::ZERO);
        } else {
            self.admit_waiters();
        }
    }
}
