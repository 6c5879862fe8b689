//! Why a request is routed where it is: the decision as a tree, or as JSON with `--json`.
//!
//! ```text
//! cargo run --example routing_explain -- "where is my parcel, and cancel my flight"
//! cargo run --example routing_explain -- --tenant umbrella "pay the salaries"
//! cargo run --example routing_explain --features minilm -- --embedder DIR "my cash, please"
//! ```
//!
//! With `--embedder DIR`, words and vectors decide: the folder has all-MiniLM-L6-v2's files (`cargo xtask backends minilm`).
// An example talks to a terminal.
#![allow(clippy::print_stdout)]

use std::error::Error;

use adjutant::agent_core::TenantId;
use adjutant::agent_router::{EmbeddingStage, Grant, HierarchicalRouter, RouteCard, RouterBuilder};
use adjutant::{Caller, RunContext};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut tenant, mut is_json, mut embedder, mut message) = ("acme".to_owned(), false, None, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--tenant" => tenant = arguments.next().ok_or("--tenant TENANT")?,
            "--embedder" => embedder = Some(arguments.next().ok_or("--embedder DIR")?),
            "--json" => is_json = true,
            _ => message.push(argument),
        }
    }
    let message = if message.is_empty() { "where is my parcel?".to_owned() } else { message.join(" ") };
    let cx = RunContext::standalone(Caller::new(tenant, "ann")?);
    let decision = match embedder {
        None => builder()?.build()?.decide(&message, cx.caller()),
        Some(folder) => builder()?.build_with(stage(&folder)?, &cx).await?.decide(&message, &cx).await,
    };
    if is_json {
        println!("{}", serde_json::to_string_pretty(&decision)?);
    } else {
        println!("{message}\n{decision}");
    }
    Ok(())
}

#[cfg(feature = "minilm")]
fn stage(folder: &str) -> Result<EmbeddingStage, Box<dyn Error>> {
    Ok(EmbeddingStage::new(adjutant::embedder_minilm::MiniLmEmbedder::load(folder)?))
}

#[cfg(not(feature = "minilm"))]
fn stage(_: &str) -> Result<EmbeddingStage, Box<dyn Error>> {
    Err("an embedder needs `--features minilm`".into())
}

fn builder() -> Result<RouterBuilder, Box<dyn Error>> {
    let acme = Grant::tenants([TenantId::new("acme")?]);
    let support = [
        RouteCard::new("orders", "Looks up orders and where parcels are").with_examples([
            "where is my order",
            "when does my parcel arrive",
            "track my package",
        ]),
        RouteCard::new("returns", "Takes goods back and refunds them")
            .with_examples(["I want my money back", "return these shoes", "how do I send it back"])
            .with_triggers(["chargeback"]),
        RouteCard::new("accounts", "Passwords, addresses, and who may log in").with_examples([
            "I forgot my password",
            "change my address",
            "close my account",
        ]),
    ];
    let travel = [
        RouteCard::new("flights", "Books, changes and cancels flights").with_examples([
            "book a flight to Rome",
            "cancel my flight",
            "change my seat",
        ]),
        RouteCard::new("hotels", "Finds and books hotels").with_examples([
            "a room in Paris for two nights",
            "is breakfast included",
            "cancel the hotel",
        ]),
    ];
    let payroll = RouteCard::new("payroll", "Pays salaries")
        .with_domain(["finance"])
        .with_examples(["pay the salaries", "when is payday", "my payslip of May"])
        .with_grant(acme);
    let cards = support.map(|card| card.with_domain(["support"])).into_iter();
    let cards = cards.chain(travel.map(|card| card.with_domain(["travel"]))).chain([payroll]);
    let out_of_scope = ["tell me a joke", "what is the meaning of life", "who won the match", "sing a song"];
    Ok(HierarchicalRouter::builder().cards(cards).out_of_scope(out_of_scope))
}
