//! A support desk: a Main Agent with three Sub-Agents over the files of a folder.

mod model;
mod orders;
mod policies;
mod refunds;
mod routing;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use adjutant::agent_core::MainAgentBuilder;
use adjutant::{Effect, MainAgent, sub_agent, with};

use self::orders::Orders;
use self::policies::Policies;
use self::refunds::Refunds;

/// For models that read; rules do not.
const INSTRUCTIONS: &str = "You are the support desk of a shop. Answer from what the functions return, name its source, and say so \
                            when they have no answer. Refund only when the customer asks for it.";

/// A desk that answers from the files in `data` and notes refunds in `ledger`.
pub(crate) fn builder(data: &Path, ledger: &Path) -> Result<MainAgentBuilder, Box<dyn Error>> {
    let orders = Arc::new(Orders::read(&data.join("orders.csv"))?);
    let policies = Policies::read(&data.join("policies"))?;
    let refunds = Refunds { orders: orders.clone(), ledger: ledger.to_owned() };

    let order_desk = sub_agent(
        "orders",
        "Looks an order up by its number: status, delivery, carrier, tracking, items, price paid",
        with(orders, Orders::look_up),
    )
    .with_example("Where is my order?")
    .with_example("Has the parcel been shipped, and who delivers it?")
    .with_example("What did I buy and pay?")
    .with_effect(Effect::ReadOnly);

    let policy_desk = sub_agent("policy", policies.description(), with(policies.clone(), Policies::answer));
    let policy_desk = policies.examples().fold(policy_desk, |desk, example| desk.with_example(example));
    let policy_desk = policy_desk.with_effect(Effect::ReadOnly);

    let refund_desk =
        sub_agent("refund", "Refunds an order: the customer gets the money back", with(refunds, Refunds::refund))
            .with_example("I want my money back")
            .with_effect(Effect::AtMostOnce)
            .with_approval();

    let router = routing::router()?;
    let desk = MainAgent::builder("desk", model::model()?)
        .instructions(INSTRUCTIONS)
        .router(router)
        .sub_agent(order_desk)
        .sub_agent(policy_desk)
        .sub_agent(refund_desk);
    Ok(desk)
}
