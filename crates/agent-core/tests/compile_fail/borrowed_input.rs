use agent_core::{CallError, tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    order: String,
}

async fn orders(input: &Order) -> Result<String, CallError> {
    Ok(input.order.clone())
}

fn main() {
    let _ = tool("orders", "Looks an order up", orders);
}
