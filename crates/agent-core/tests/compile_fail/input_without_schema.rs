use agent_core::{CallError, sub_agent};

#[derive(serde::Deserialize)]
struct Order {
    order: String,
}

async fn orders(input: Order) -> Result<String, CallError> {
    Ok(input.order)
}

fn main() {
    let _ = sub_agent("orders", "Looks an order up", orders);
}
