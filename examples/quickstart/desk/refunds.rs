//! The Sub-Agent `refund`: an effect, which a person has to approve.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use adjutant::{CallError, RunContext};
use schemars::JsonSchema;
use serde::Deserialize;

use super::orders::{Answer, Orders};

/// Refunds orders, and notes each in a ledger.
pub(crate) struct Refunds {
    pub(crate) orders: Arc<Orders>,
    pub(crate) ledger: PathBuf,
}

/// What is to be refunded.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Refund {
    /// The order's number, such as A-1042.
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
    /// Why the customer wants it.
    reason: Option<String>,
}

impl Refunds {
    /// Refunds an order, once for each idempotency key.
    pub(crate) async fn refund(self: Arc<Self>, refund: Refund, cx: RunContext) -> Result<Answer, CallError> {
        let order = self.orders.find(&refund.order)?;
        let answer = format!("{} EUR for order {} go back to {}.", order.total_eur, order.order, order.customer);
        let reason = refund.reason.unwrap_or_default();
        let line = format!("{},{},{},{reason:?}", cx.idempotency_key(), order.order, order.total_eur);
        let source = self.ledger.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tokio::task::spawn_blocking(move || self.note(&line)).await??;
        Ok(Answer { answer, source })
    }

    /// Adds a line to the ledger, unless one with the same key is there.
    fn note(&self, line: &str) -> io::Result<()> {
        let key = line.split(',').next();
        let known = match fs::read_to_string(&self.ledger) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            known => known?,
        };
        if known.lines().any(|known| known.split(',').next() == key) {
            return Ok(());
        }
        writeln!(OpenOptions::new().create(true).append(true).open(&self.ledger)?, "{line}")
    }
}
