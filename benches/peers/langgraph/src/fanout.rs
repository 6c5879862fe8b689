//! 100 texts, each changed by a graph of its own in twelve steps.

use std::sync::Arc;

use agent_core::graph::{Branch, END, Goto, Graph, START, branch_graph, node};
use agent_core::{AgentError, graph_state};

use crate::harness::{Ours, Prepared};

graph_state! {
    struct Jokes updated by JokesUpdate {
        subjects: Vec<String> => replace,
        jokes: Vec<String> => append,
    }
}

graph_state! {
    #[derive(Default)]
    struct Joke updated by JokeUpdate {
        subject: String => replace,
        jokes: Vec<String> => replace,
    }
}

const JOKE: Branch<String> = Branch::new("joke");

async fn edit(joke: Arc<Joke>) -> Result<JokeUpdate, AgentError> {
    Ok(JokeUpdate::default().subject(format!("{} - hohoho", joke.subject)))
}

async fn generate(joke: Arc<Joke>) -> Result<JokeUpdate, AgentError> {
    Ok(JokeUpdate::default().jokes(vec![format!("Joke about {}", joke.subject)]))
}

async fn bump(joke: Arc<Joke>) -> Result<JokeUpdate, AgentError> {
    Ok(JokeUpdate::default().jokes(vec![format!("{} a", first(&joke))]))
}

fn first(joke: &Joke) -> &str {
    joke.jokes.first().map_or("", String::as_str)
}

pub fn prepare() -> anyhow::Result<Box<dyn Ours>> {
    let ends = " a".repeat(10);
    let below = Graph::builder("below")
        .node(node("edit", edit))
        .node(node("generate", generate))
        .node(node("bump", bump))
        .chain([START, "edit", "generate", "bump"])
        .route("bump", ["bump", END], move |joke: &Joke| if first(joke).ends_with(&ends) { END } else { "bump" })
        .build()?;
    let into = |subject: String| Joke { subject, ..Joke::default() };
    let graph = Graph::builder("fanout")
        .node(branch_graph(JOKE, below, into, |joke: Joke| JokesUpdate::default().jokes(joke.jokes)))
        .route(START, [JOKE.name()], |jokes: &Jokes| {
            jokes.subjects.iter().cloned().map(|subject| JOKE.with(subject)).collect::<Goto>()
        })
        .edge("joke", END)
        .build()?;
    let make = || Jokes { subjects: vec!["subject".repeat(715)[..5_000].to_owned(); 100], jokes: Vec::new() };
    let came_to = |jokes: &Jokes| vec![jokes.jokes.len(), jokes.jokes.iter().map(String::len).sum()];
    Ok(Box::new(Prepared { graph, make, came_to }))
}
