//! A loop of one's own: a guardrail looks at the question first, a Main Agent answers, and another node looks at the answer and asks
//! again where it is not good enough. It needs no key, server or network.
//!
//! ```text
//! cargo run --example graph_custom_loop -- "Where is order A-1042?"
//! cargo run --example graph_custom_loop -- "Where is B-2001, and what about A-1042?"
//! cargo run --example graph_custom_loop -- "My card is 4111 1111 1111 1111, where is A-1042?"   # the guardrail stops it
//! cargo run --example graph_custom_loop -- --picture                                            # the graph, as Mermaid
//! ```
// An example talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use adjutant::agent_core::graph::{END, Graph, Next, START, agent, node};
use adjutant::agent_core::{AgentError, graph_state};
use adjutant::{CallError, Caller, Effect, MainAgent, RuleModel, sub_agent};

graph_state! {
    #[derive(Debug, Default)]
    pub(crate) struct Talk updated by TalkUpdate {
        question: String => replace,
        /// What the answer has to name.
        orders: Vec<String> => replace,
        answers: Vec<String> => append,
        refusal: Option<String> => replace,
    }
}

/// How often the agent is asked before a person has to be.
const ROUNDS: usize = 3;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    /// The order's number, such as A-1042.
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
}

async fn orders(input: Order) -> Result<String, CallError> {
    Ok(format!("{} is on its way.", input.order))
}

/// Lets nothing through that must not reach a model, and finds out what the answer is to be about.
async fn guard(talk: Arc<Talk>) -> Result<Next<Talk>, AgentError> {
    let digits = talk.question.chars().filter(char::is_ascii_digit).count();
    if digits >= 13 {
        let refusal = "That looks like the number of a card, which does not belong here.".to_owned();
        return Ok(Next::update(TalkUpdate::default().refusal(Some(refusal))).and_goto(END));
    }
    let words = talk.question.split(|character: char| !character.is_alphanumeric() && character != '-');
    let orders: Vec<String> = words.filter(|word| is_order(word)).map(str::to_owned).collect();
    Ok(Next::update(TalkUpdate::default().orders(orders)))
}

fn is_order(word: &str) -> bool {
    let Some((letter, number)) = word.split_once('-') else { return false };
    letter.len() == 1 && number.len() == 4 && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// The order that no answer named so far.
fn missing(talk: &Talk) -> Option<&str> {
    let is_missing = |order: &&String| talk.answers.iter().all(|answer| !answer.contains(order.as_str()));
    talk.orders.iter().find(is_missing).map(String::as_str)
}

async fn check(talk: Arc<Talk>) -> Result<Next<Talk>, AgentError> {
    match missing(&talk) {
        Some(_) if talk.answers.len() < ROUNDS => Ok(Next::goto("answer")),
        Some(order) => Err(AgentError::tell(format!("no answer says anything of {order}: a person has to"))),
        None => Ok(Next::goto(END)),
    }
}

pub(crate) fn graph() -> Result<Graph<Talk>, Box<dyn Error>> {
    let orders = sub_agent("orders", "Looks an order up", orders).with_effect(Effect::ReadOnly);
    let desk = MainAgent::builder("desk", RuleModel::new()).sub_agent(orders).build()?;
    let ask = |talk: &Talk| {
        let request = match missing(talk) {
            Some(order) if !talk.answers.is_empty() => format!("And where is {order}?"),
            _ => talk.question.clone(),
        };
        serde_json::json!({ "request": request })
    };
    let graph = Graph::builder("talk")
        .node(node("guard", guard).may_go_to([END]))
        .node(agent("answer", desk, ask, |answer: String| TalkUpdate::default().answers(vec![answer])))
        .node(node("check", check).may_go_to(["answer", END]))
        .chain([START, "guard", "answer", "check"]);
    Ok(graph.build()?)
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
    let question = std::env::args().nth(1).ok_or("what is the question?")?;
    let graph = graph()?;
    if question == "--picture" {
        print!("{}", graph.to_mermaid());
        return Ok(());
    }
    let talk = Talk { question, ..Talk::default() };
    let report = graph.run(talk, Caller::new("acme", "ann")?).await?;
    let talk = report.into_report().map_err(|_| "nothing waits in it")?.state;
    match talk.refusal {
        Some(refusal) => println!("{refusal}"),
        None => println!("{}", talk.answers.join("\n")),
    }
    Ok(())
}
