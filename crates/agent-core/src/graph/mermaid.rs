//! A graph as a picture.

use std::fmt::Write;

use super::builder::{Graph, Plan, Ways};
use super::fields::GraphState;
use super::next::{END, START};
use crate::mermaid;

impl<S: GraphState> Graph<S> {
    /// The graph as a Mermaid flowchart: always followed ways are solid, chosen ones dotted, and nodes that wait for all before them
    /// have a thick way in.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let plan = &*self.plan;
        let mut text = String::from("flowchart TD\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a text does not fail.
            let _ = writeln!(text, "    {line}");
        };
        for (from, ways) in plan.ways.iter().enumerate().map(|(from, ways)| (plan.place(from), ways)) {
            for to in &ways.edges {
                line(format_args!("{from} --> {}", plan.place(*to)));
            }
            if ways.ends {
                line(format_args!("{from} --> {}", end()));
            }
            for to in plan.chosen(ways) {
                line(format_args!("{from} -.-> {to}"));
            }
        }
        for node in &plan.nodes {
            for to in &node.may_go_to {
                let to = if to == END { end() } else { mermaid::node(to) };
                line(format_args!("{} -.-> {to}", mermaid::node(&node.name)));
            }
        }
        for join in &plan.joins {
            for from in &join.sources {
                line(format_args!("{} ==> {}", plan.place(*from), plan.place(join.target)));
            }
        }
        text
    }
}

fn end() -> String {
    format!("{END}([{END}])")
}

impl<S: GraphState> Plan<S> {
    fn place(&self, node: usize) -> String {
        match self.nodes.get(node) {
            Some(node) => mermaid::node(&node.name),
            None => format!("{START}([{START}])"),
        }
    }

    /// What the routes of a node may lead to.
    fn chosen<'a>(&'a self, ways: &'a Ways<S>) -> impl Iterator<Item = String> + 'a {
        ways.routes.iter().flat_map(|route| {
            let nodes = route.targets.iter().map(|to| self.place(*to));
            nodes.chain(route.ends.then(end))
        })
    }
}
