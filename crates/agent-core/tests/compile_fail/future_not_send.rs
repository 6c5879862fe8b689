use std::rc::Rc;

use agent_core::{CallError, tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    order: String,
}

async fn orders(input: Order) -> Result<String, CallError> {
    let shared = Rc::new(input.order);
    std::future::ready(()).await;
    Ok(shared.to_string())
}

fn main() {
    let _ = tool("orders", "Looks an order up", orders);
}
