//! stub
use agent_core::{TenantId, Tokens};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
/// stub
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLimits {}
#[derive(Debug, Clone)]
pub(super) struct Limiter;
#[derive(Debug)]
pub(super) struct Place;
pub(super) struct Busy {
    pub(super) ready_in: Option<Duration>,
}
impl Limiter {
    pub(super) fn new(_: StepLimits) -> Self {
        Self
    }
    pub(super) async fn admit(&self, _: &TenantId, _: Tokens, _: Option<Instant>) -> Result<Place, Busy> {
        Ok(Place)
    }
}
impl Place {
    pub(super) fn settle(self, _: Tokens) {}
}
