//! The Sub-Agent `orders`: looks orders up in a CSV file.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use adjutant::CallError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All orders, by number.
pub(crate) struct Orders {
    by_number: HashMap<String, Order>,
    file: String,
}

/// A line of the file.
#[derive(Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) quantity: u32,
    pub(crate) total_eur: String,
    pub(crate) status: String,
    pub(crate) ordered_on: String,
    pub(crate) delivered_on: Option<String>,
    pub(crate) carrier: Option<String>,
    pub(crate) tracking: Option<String>,
    #[serde(skip)]
    line: u64,
}

/// What is asked.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Question {
    /// The order's number, such as A-1042.
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
}

/// What is answered, and from where.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub(crate) answer: String,
    pub(crate) source: String,
}

impl Orders {
    /// Reads the orders from a CSV file.
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let name = |error| format!("{}: {error}", path.display());
        let mut reader = csv::Reader::from_path(path).map_err(name)?;
        let headers = reader.headers().map_err(name)?.clone();
        let mut by_number = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(name)?;
            let line = record.position().map_or(0, csv::Position::line);
            let order = Order { line, ..record.deserialize(Some(&headers)).map_err(name)? };
            by_number.insert(order.order.clone(), order);
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { by_number, file })
    }

    /// The order of this number.
    pub(crate) fn find(&self, number: &str) -> Result<&Order, CallError> {
        self.by_number.get(number).ok_or_else(|| CallError::tell(format!("there is no order {number}")))
    }

    /// Answers what is known about an order.
    pub(crate) async fn look_up(self: Arc<Self>, question: Question) -> Result<Answer, CallError> {
        let order = self.find(&question.order)?;
        Ok(Answer { answer: order.to_sentence(), source: format!("{}, line {}", self.file, order.line) })
    }
}

impl Order {
    fn to_sentence(&self) -> String {
        let Self { order, item, quantity, total_eur, status, ordered_on, .. } = self;
        let by =
            |carrier: &Option<String>| carrier.as_ref().map(|carrier| format!(" by {carrier}")).unwrap_or_default();
        let tracking = self.tracking.as_ref().map(|code| format!(", tracking {code}")).unwrap_or_default();
        let state = match (&self.delivered_on, status.as_str()) {
            (Some(day), _) => format!("was delivered on {day}{}", by(&self.carrier)),
            (None, "shipped") => format!("is on its way{}{tracking}", by(&self.carrier)),
            (None, "processing") => "is being processed and has not left the warehouse".to_owned(),
            (None, "delayed") => format!("is delayed{}{tracking}", by(&self.carrier)),
            (None, other) => format!("is {other}"),
        };
        format!("Order {order} ({quantity} x {item}, {total_eur} EUR, ordered on {ordered_on}) {state}.")
    }
}
