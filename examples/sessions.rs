//! Sessions: a conversation that goes on over many messages is a value in the host's own store.
//!
//! ```text
//! printf 'Where is order A-1042?\nAnd B-2001?\n' | cargo run --example sessions
//! ```
// An example talks to a terminal.
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::error::Error;
use std::io;

use adjutant::agent_core::Conversation;
use adjutant::{CallError, Caller, Effect, MainAgent, Request, RuleModel, sub_agent};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    /// The order's number, such as A-1042.
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
}

async fn orders(input: Order) -> Result<String, CallError> {
    Ok(format!("{} is on its way.", input.order))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let orders = sub_agent("orders", "Looks an order up", orders).with_effect(Effect::ReadOnly);
    let desk = MainAgent::builder("desk", RuleModel::new()).sub_agent(orders).build()?;
    let caller = Caller::new("acme", "ann")?;

    // The host's store: here a map, elsewhere a table. A conversation serialises.
    let mut sessions: HashMap<String, Conversation> = HashMap::new();
    for message in io::stdin().lines() {
        let said = sessions.remove("ann").unwrap_or_default();
        let request = Request::new(message?).with_conversation(said);
        let said = match desk.run(request, caller.clone()).await {
            Ok(outcome) => {
                println!("{outcome}");
                outcome.into_report().map_or_else(|suspended| suspended.conversation, |report| report.conversation)
            }
            // A failure gives a valid conversation too: the next message can be said.
            Err(failure) => {
                println!("{failure}");
                failure.conversation
            }
        };
        sessions.insert("ann".to_owned(), said);
    }
    Ok(())
}
