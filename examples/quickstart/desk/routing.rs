//! Which Sub-Agent a request is for: what is clear needs no model.

use adjutant::agent_core::InvalidValue;
use adjutant::agent_router::{HierarchicalRouter, RouteCard};

/// What customers say, by whom it is for.
const REQUESTS: [(&str, &str, &[&str]); 3] = [
    (
        "orders",
        "Looks an order up: status, delivery, carrier, tracking, items, price",
        &[
            "Where is my order A-1042?",
            "Has order A-1042 been shipped?",
            "When was A-1042 delivered?",
            "Which carrier delivers B-2001?",
            "What is the tracking number of A-1043?",
            "What is the status of B-2002?",
            "What did I pay for A-1041?",
            "What was in order B-2003?",
            "Any news about A-1044? It has not arrived yet",
            "Is A-1045 on its way?",
            "Can you check order B-2001 for me?",
            "Still waiting for my parcel A-1043",
        ],
    ),
    (
        "policy",
        "Answers questions about returns, refunds, shipping and warranty in general",
        &[
            "How long may I take to return an item?",
            "What does shipping cost?",
            "Do you deliver to Switzerland?",
            "How long is the warranty on electronics?",
            "Who pays for the return?",
            "When is a refund paid out?",
            "Can the delivery address be changed?",
            "What happens when an item arrives damaged?",
            "In what condition must goods be sent back?",
            "Does the warranty cover water damage?",
            "How many days does delivery take?",
            "Do orders leave on the same day?",
        ],
    ),
    (
        "refund",
        "Refunds an order: the customer gets the money back",
        &[
            "I want my money back for A-1042",
            "Refund order A-1042, the screen is cracked",
            "Please refund B-2001",
            "Pay me back for A-1043",
            "Put the money for B-2002 back on my card",
            "The lamp from A-1041 is broken, refund it please",
            "I need a refund for A-1044",
            "Return my payment for B-2003",
            "Reimburse me for A-1045, it never came",
            "Cancel A-1044 and give me my money back",
            "Wrong item in B-2003, refund please",
            "I never got A-1043, money back now",
        ],
    ),
];

/// What is for none of them.
const OTHERS: [&str; 12] = [
    "Tell me a joke",
    "Who won the match yesterday?",
    "What is the weather like?",
    "Good morning",
    "Are you hiring?",
    "Unsubscribe me from the newsletter",
    "I forgot my password",
    "Please do not refund anything, I keep it",
    "Thanks for your help",
    "Which lamp do you recommend?",
    "Do you have a shop in Berlin?",
    "Is there a discount for students?",
];

pub(crate) fn router() -> Result<HierarchicalRouter, InvalidValue> {
    let card = |(name, description, requests): (&str, &str, &[&str])| {
        RouteCard::new(name, description).with_examples(requests.iter().copied())
    };
    HierarchicalRouter::builder().cards(REQUESTS.map(card)).out_of_scope(OTHERS).build()
}
