//! Calls that were in flight when a run was stopped: what is known of them is kept, so that going on later repeats nothing.
//!
//! Futures are dropped from the inside out: a call below leaves its place, the agent around it ([`Working`](super::nested)) takes
//! that up into its own state and leaves it at its own place, [`InFlight`] adds what the caller knows, and so on up to the run.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::builder::Callable;
use super::call_state::{Progress, Slot, SuspendedCall};
use super::slot::Site;
use crate::message::CallResult;
use crate::path::CallPath;
use crate::run_context::RunContext;
use crate::sub_agent::Suspension;

/// Where a call was stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// It goes on from here.
    At(Slot),
    /// A Sub-Agent left this at its own place, for whoever called it.
    Agent(Box<Suspension>),
    /// It had its result, which the journal does not know.
    Made(CallResult),
}

/// The calls that were stopped in a run.
#[derive(Debug, Default)]
pub(crate) struct StoppedCalls(Mutex<Vec<(CallPath, Stop)>>);

impl StoppedCalls {
    pub(super) fn put(&self, path: CallPath, stop: Stop) {
        self.lock().push((path, stop));
    }

    pub(super) fn take(&self, path: &CallPath) -> Option<Stop> {
        let mut calls = self.lock();
        let index = calls.iter().position(|(stopped, _)| stopped == path)?;
        Some(calls.swap_remove(index).1)
    }

    /// Keeps what an agent left behind at its own place, for whoever called it.
    pub(crate) fn put_agent(&self, path: CallPath, left: Suspension) {
        self.put(path, Stop::Agent(Box::new(left)));
    }

    /// What an agent left behind at this place.
    pub(crate) fn take_agent(&self, path: &CallPath) -> Option<Suspension> {
        match self.take(path)? {
            Stop::Agent(left) => Some(*left),
            Stop::At(_) | Stop::Made(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(CallPath, Stop)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in flight. Dropped because the run stops, it leaves behind that it had begun, and the state of a Sub-Agent that knows
/// one.
pub(super) struct InFlight<'a> {
    site: &'a Site<'a>,
    pub(super) progress: &'a mut Progress,
    /// What a Sub-Agent goes on from.
    resumed: Option<&'a SuspendedCall>,
    ended: bool,
}

impl<'a> InFlight<'a> {
    pub(super) fn new(site: &'a Site<'a>, progress: &'a mut Progress, resumed: Option<&'a SuspendedCall>) -> Self {
        Self { site, progress, resumed, ended: false }
    }

    /// The call came to its own end: what stopped below it is of no more interest.
    pub(super) fn end(&mut self) {
        self.ended = true;
        if let Callable::Agent(_) = self.site.callable {
            self.left_below();
        }
    }

    /// What the Sub-Agent itself left.
    fn left_below(&self) -> Option<Box<Suspension>> {
        let cx = &self.site.cx;
        let mut own = None;
        // Others that it ran at its own place are its own business.
        while let Some(stop) = cx.run().stopped().take(cx.path()) {
            match stop {
                Stop::Agent(left) if self.site.is_own(&left.state) => own = Some(left),
                Stop::Agent(_) | Stop::At(_) | Stop::Made(_) => {}
            }
        }
        own
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let cx = &self.site.cx;
        if self.ended {
            return;
        }
        let left = self.left_below();
        if left.is_none() && self.resumed.is_none() && !cx.is_stopping() {
            return;
        }
        let progress = Progress { begun: true, ..mem::take(self.progress) };
        let slot = match (left, self.resumed) {
            (Some(left), _) => Slot::Child(Box::new(self.site.suspended_call(*left, progress))),
            (None, Some(call)) => {
                let stopped = self.site.suspended_call(call.suspension.clone(), progress);
                Slot::Child(Box::new(SuspendedCall { answers: call.answers.clone(), ..stopped }))
            }
            (None, None) => Slot::Ready(progress),
        };
        cx.run().stopped().put(cx.path().clone(), Stop::At(slot));
    }
}

/// What became of a call, until the journal has it: it is not lost when the run stops before, or because the journal fails.
pub(super) struct Unnoted<'a> {
    cx: &'a RunContext,
    stop: Option<Stop>,
}

impl<'a> Unnoted<'a> {
    pub(super) fn new(cx: &'a RunContext, stop: Stop) -> Self {
        Self { cx, stop: Some(stop) }
    }

    pub(super) fn end(mut self) {
        self.stop = None;
    }
}

impl Drop for Unnoted<'_> {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            self.cx.run().stopped().put(self.cx.path().clone(), stop);
        }
    }
}
