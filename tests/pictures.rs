//! The pictures in the documentation are those that the code draws.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/graph_custom_loop.rs"]
mod custom_loop;

use adjutant::{MainAgent, RuleModel};

#[track_caller]
fn check(document: &str, picture: &str) {
    let text = std::fs::read_to_string(format!("{}/{document}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let drawn = format!("```mermaid\n{}\n```", picture.trim_end());
    assert!(text.contains(&drawn), "{document} has not this picture:\n{drawn}");
}

#[test]
fn the_loop_is_drawn_in_the_architecture() {
    check("ARCHITECTURE.md", &MainAgent::builder("desk", RuleModel::new()).build().unwrap().graph());
}

#[test]
fn an_example_is_drawn_in_the_docs() {
    check("docs/graphs.md", &custom_loop::graph().unwrap().to_mermaid());
}
