//! 1,000 nodes that do nothing, one after the other.

use std::sync::Arc;

use agent_core::graph::{END, Graph, START, node};
use agent_core::{AgentError, graph_state};

use crate::harness::{Ours, Prepared};

graph_state! {
    #[derive(Default)]
    struct Messages updated by MessagesUpdate {
        messages: Vec<String> => append,
    }
}

pub fn prepare() -> anyhow::Result<Box<dyn Ours>> {
    let name = |number: usize| format!("node_{number}");
    let nothing = async |_: Arc<Messages>| Ok::<_, AgentError>(());
    let graph = (0..1_000).fold(Graph::builder("sequential"), |graph, number| graph.node(node(name(number), nothing)));
    let names = (0..1_000).map(name);
    let graph = graph.chain([START.to_owned()].into_iter().chain(names).chain([END.to_owned()])).build()?;
    let came_to = |state: &Messages| vec![state.messages.len()];
    Ok(Box::new(Prepared { graph, make: Messages::default, came_to }))
}
