//! A graph that waits for a person: it is kept in a file, and another process goes on with it. Nothing that was done is done again.
//!
//! ```text
//! cargo run --example graph_approval -- order 429 "a screen for Ann"      # checks the budget, and waits
//! cargo run --example graph_approval -- approve                           # goes on, in another process
//! cargo run --example graph_approval -- deny "wait until spring"          # or this
//! ```
//!
//! The file is `graph_approval.json` in the folder for temporary files, or `--file PATH` as the first words.
// An example talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use adjutant::agent_core::graph::{Approved, END, Graph, GraphOutcome, InvalidGraph, Next, START, node};
use adjutant::agent_core::{AgentError, AnswerValue, PendingKind, graph_state};
use adjutant::{Caller, Resume, RunState};

graph_state! {
    #[derive(Debug, Default)]
    struct Purchase updated by PurchaseUpdate {
        what: String => replace,
        euros: u32 => replace,
        log: Vec<String> => append,
    }
}

/// What may be bought without asking.
const FREE: u32 = 100;

async fn check(purchase: Arc<Purchase>) -> Result<PurchaseUpdate, AgentError> {
    Ok(noted(format!("the budget allows {} EUR for {}", purchase.euros, purchase.what)))
}

async fn agree(purchase: Arc<Purchase>) -> Result<Next<Purchase>, AgentError> {
    if purchase.euros <= FREE {
        return Ok(Next::update(noted("nobody has to agree".to_owned())));
    }
    let proposed = serde_json::json!({ "what": purchase.what, "euros": purchase.euros });
    Ok(Next::wait(Approved::request("order", proposed, format!("it costs more than {FREE} EUR"))))
}

/// Takes the answer: the node that asked is not run again. A refusal fails it.
async fn agreed(approved: Approved, _: Arc<Purchase>) -> Result<PurchaseUpdate, AgentError> {
    Ok(noted(format!("{} agreed", approved.by.user)))
}

async fn order(purchase: Arc<Purchase>) -> Result<PurchaseUpdate, AgentError> {
    Ok(noted(format!("ordered: {}", purchase.what)))
}

fn noted(line: String) -> PurchaseUpdate {
    PurchaseUpdate::default().log(vec![line])
}

fn graph() -> Result<Graph<Purchase>, InvalidGraph> {
    Graph::builder("purchase")
        .node(node("check", check))
        .node(node("agree", agree).answered(agreed))
        .node(node("order", order))
        .chain([START, "check", "agree", "order", END])
        .build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (file, words) = match words.as_slice() {
        ["--file", path, words @ ..] => (PathBuf::from(path), words),
        words => (std::env::temp_dir().join("graph_approval.json"), words),
    };
    let graph = graph()?;
    let outcome = match words {
        ["order", euros, what] => {
            let euros = euros.parse().map_err(|_| format!("`{euros}` is no number of euros"))?;
            let purchase = Purchase { what: (*what).to_owned(), euros, ..Purchase::default() };
            graph.run(purchase, Caller::new("acme", "ann")?).await?
        }
        ["approve"] => answer(&graph, &file, AnswerValue::Approve).await?,
        ["deny", reason] => answer(&graph, &file, AnswerValue::Deny((*reason).to_owned())).await?,
        _ => return Err("say `order EUROS WHAT`, `approve` or `deny REASON`".into()),
    };
    match outcome {
        GraphOutcome::Completed(report) => println!("{}", report.state.log.join("\n")),
        GraphOutcome::Suspended(state) => {
            std::fs::write(&file, serde_json::to_vec_pretty(&state)?)?;
            for pending in state.pending() {
                if let PendingKind::Approval { what, proposed, reason, .. } = &pending.kind {
                    println!("waits for somebody to agree: {what} {proposed}, because {reason}");
                }
            }
            println!("kept in {}", file.display());
        }
    }
    Ok(())
}

/// Answers what waits in `file`. Nobody approves what he asked for himself: Bob does.
async fn answer(
    graph: &Graph<Purchase>,
    file: &Path,
    value: AnswerValue,
) -> Result<GraphOutcome<Purchase>, Box<dyn Error>> {
    let kept = std::fs::read(file).map_err(|error| format!("nothing waits in {}: {error}", file.display()))?;
    let state: RunState = serde_json::from_slice(&kept)?;
    let pending = state.pending().first().ok_or("nothing waits for an answer")?.id.clone();
    let resume = Resume::new(state, Caller::new("acme", "bob")?).with_answer(&pending, value);
    let outcome = graph.resume(resume).await;
    // What was refused is over; what failed in another way waits for another try.
    if outcome.as_ref().err().is_none_or(|failed| matches!(failed.error, AgentError::Denied { .. })) {
        std::fs::remove_file(file)?;
    }
    Ok(outcome?)
}
