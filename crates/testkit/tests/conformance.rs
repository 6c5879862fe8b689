//! The conformance suites accept the core's own implementations and the testkit's, and refuse broken ones: see `broken/`.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod broken;

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentVersion, Approval, CallError, CallResult, Dispatch, Effect, Entry, FunctionSpec, HintPolicy, MainAgent,
    MemoryDeadLetters, MemoryJournal, NoRecovery, PassThrough, PendingKind, Role, Schema, ToolOutput, Usage, sub_agent,
    tool, with,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::conformance;
use testkit::{FnModel, HashEmbedder, Line, Recorder, RecordingAgent, RecordingTool, ScriptedModel};

#[derive(Deserialize, JsonSchema)]
struct Order {
    order: String,
}

async fn lookup(input: Order) -> Result<String, CallError> {
    Ok(format!("{} left the warehouse", input.order))
}

async fn ask(input: Order) -> Result<ToolOutput, CallError> {
    Ok(ToolOutput::Waits(PendingKind::question(format!("Is {} yours?", input.order))))
}

fn order() -> Value {
    json!({"order": "A-1042"})
}

mod journals {
    use super::{Arc, MemoryJournal, conformance};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory() {
        conformance::journal(async || MemoryJournal::new()).await;
    }

    #[tokio::test]
    async fn memory_on_one_thread() {
        conformance::journal(async || MemoryJournal::new()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_is_there_when_it_is_opened_again() {
        let store = Arc::new(MemoryJournal::new());
        conformance::durable_journal(async || store.clone()).await;
    }
}

mod dead_letters {
    use super::{Arc, MemoryDeadLetters, conformance};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory() {
        conformance::dead_letters(async || MemoryDeadLetters::new()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn memory_while_the_clock_stands() {
        conformance::dead_letters(async || MemoryDeadLetters::new()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_is_there_when_it_is_opened_again() {
        let store = Arc::new(MemoryDeadLetters::new());
        conformance::durable_dead_letters(async || store.clone()).await;
    }
}

mod models {
    use super::{Duration, FnModel, Line, ScriptedModel, Usage, conformance, order};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn scripted() {
        conformance::chat_model(ScriptedModel::new(vec![Line::text("Hello, hello."); 60])).await;
    }

    #[tokio::test]
    async fn function() {
        conformance::chat_model(FnModel::new(|_| Line::text("Hello."))).await;
    }

    #[tokio::test]
    async fn one_that_calls() {
        let usage = Usage::new(agent_core::Tokens(10), agent_core::Tokens(4));
        conformance::chat_model(FnModel::new(move |_| Line::call("lookup", order()).with_usage(usage))).await;
    }

    #[tokio::test]
    async fn one_that_takes_its_time() {
        let slow = |_: &_| Line::text("Hello.").after(Duration::from_millis(10));
        conformance::chat_model(FnModel::new(slow)).await;
    }
}

mod tools {
    use super::*;

    async fn check(tool: RecordingTool) {
        conformance::tool(tool, order()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn recording() {
        check(RecordingTool::new("refund")).await;
        check(RecordingTool::new("refund").returning(json!(null)).needing_approval()).await;
        check(RecordingTool::new("refund").telling("there is no such order")).await;
        check(RecordingTool::new("refund").breaking()).await;
        check(RecordingTool::new("refund").returning_after(Duration::from_millis(5), json!(1))).await;
        check(RecordingTool::new("refund").returning_after_polls(5, json!(1))).await;
        check(RecordingTool::new("refund").waiting(PendingKind::external("the bank's word"))).await;
        check(RecordingTool::new("refund").reconciling(CallResult::done(json!("done")))).await;
    }

    #[tokio::test]
    async fn functions() {
        let state = Arc::new(7_u32);
        let stateful = async |state: Arc<u32>, input: Order| Ok::<_, CallError>(format!("{} {state}", input.order));
        conformance::tool(tool("lookup", "Looks an order up", lookup), order()).await;
        conformance::tool(tool("lookup", "Looks an order up", with(state, stateful)), order()).await;
        conformance::tool(Arc::new(tool("ask", "Asks about an order", ask)), order()).await;
        conformance::tool(tool("lookup", "Looks up", lookup).with_output(Schema::of::<String>()), order()).await;
    }
}

mod agents {
    use super::*;

    fn questions() -> [(&'static str, PendingKind); 4] {
        let schema = json!({"type": "object", "properties": {"size": {"enum": ["S", "M"]}}, "required": ["size"]});
        let schema = Some(Arc::new(schema));
        let (what, proposed, reason) = ("refund".into(), Arc::new(order()), "it is much".into());
        [
            ("approval", PendingKind::Approval { what, proposed, reason, schema: None, approved_by: Vec::new() }),
            ("size", PendingKind::Question { question: "Which size?".into(), schema }),
            ("external", PendingKind::external("the bank's word")),
            ("outcome", PendingKind::UnknownOutcome { function: "refund".into(), arguments: Arc::new(order()) }),
        ]
    }

    /// An agent that looks an order up, asks, and refunds it, which needs approval.
    fn desk() -> MainAgent {
        let model = FnModel::new(|request| {
            let turns = request.conversation.entries().iter().filter(|entry| matches!(entry, Entry::Agent(_))).count();
            match turns {
                0 => Line::call("lookup", order()),
                1 => Line::calls(["ask", "refund"].map(|name| agent_core::Call::new(name, order()))),
                _ => Line::text("Done."),
            }
        });
        let refund = RecordingTool::new("refund").needing_approval().returning_after_polls(2, json!("refunded"));
        let builder = MainAgent::builder("desk", model).tool(tool("lookup", "Looks up", lookup)).tool(refund);
        builder.sub_agent(sub_agent("ask", "Asks about an order", ask)).build().unwrap()
    }

    /// An agent that delegates to this one and then answers.
    fn above(agent: impl agent_core::SubAgent + 'static) -> MainAgent {
        let name = agent.card().id().to_string();
        let input = if name == "desk" { json!({"request": "Refund A-1042"}) } else { order() };
        let model = FnModel::new(move |request| match request.conversation.entries().last() {
            Some(Entry::User(_)) => Line::call(&name, input.clone()),
            _ => Line::text("Done."),
        });
        MainAgent::builder("floor", model).sub_agent(agent).build().unwrap()
    }

    #[tokio::test]
    async fn recording() {
        conformance::sub_agent(RecordingAgent::new("clerk", []), order()).await;
        conformance::sub_agent(RecordingAgent::new("clerk", questions()), order()).await;
        conformance::sub_agent_from(|| RecordingAgent::new("clerk", questions()), order()).await;
    }

    #[tokio::test]
    async fn durable_with_roles_and_approval() {
        let clerk = RecordingAgent::new("clerk", questions()).with_card(|card| {
            let function = FunctionSpec::new("clerk", "Asks", Schema::object());
            let function = function.with_approval(Approval::Needed).with_required_role(Role::new("clerk").unwrap());
            let card = agent_core::AgentCard::new(function).with_version(card.version);
            card.with_dispatch(Dispatch::Durable)
        });
        conformance::sub_agent(clerk, order()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn functions() {
        conformance::sub_agent(sub_agent("lookup", "Looks an order up", lookup), order()).await;
        conformance::sub_agent(sub_agent("ask", "Asks about an order", ask), order()).await;
        conformance::sub_agent_from(|| sub_agent("ask", "Asks about an order", ask), order()).await;
    }

    #[tokio::test]
    async fn main_agents() {
        let request = json!({"request": "Refund A-1042"});
        conformance::sub_agent(desk(), request.clone()).await;
        conformance::sub_agent_from(desk, request.clone()).await;
        conformance::sub_agent_from(|| above(desk()), request.clone()).await;
        let warehouse = || sub_agent("ask", "Asks", ask).with_dispatch(Dispatch::Durable);
        conformance::sub_agent_from(move || above(warehouse()), request.clone()).await;
        conformance::sub_agent(above(RecordingAgent::new("clerk", questions())), request).await;
    }

    #[tokio::test]
    async fn one_that_brings_states_over() {
        let version = AgentVersion::new("2").unwrap();
        let model = FnModel::new(|request| match request.conversation.entries().last() {
            Some(Entry::User(_)) => Line::call("ask", order()),
            _ => Line::text("Done."),
        });
        let ask = sub_agent("ask", "Asks about an order", ask).with_effect(Effect::ReadOnly);
        let agent =
            MainAgent::builder("desk", model).sub_agent(ask).version(version.clone()).migrate(move |mut state| {
                state.version = version.clone();
                Ok(state)
            });
        conformance::sub_agent(agent.build().unwrap(), json!({"request": "Refund A-1042"})).await;
    }
}

#[tokio::test]
async fn policies() {
    let refund =
        tool("refund", "Refunds an order", lookup).with_approval().with_required_role(Role::new("clerk").unwrap());
    let refund = agent_core::Tool::spec(&refund).clone();
    conformance::policy(HintPolicy, []).await;
    conformance::policy(Arc::new(HintPolicy), [(refund, order())]).await;
}

#[tokio::test]
async fn context_policies() {
    conformance::context_policy(PassThrough).await;
    conformance::context_policy(broken::context_policy::LastMessages { kept: 1 }).await;
}

#[tokio::test]
async fn embedders() {
    conformance::embedder(HashEmbedder::new(64)).await;
    conformance::embedder(Arc::new(HashEmbedder::new(4_096))).await;
}

#[tokio::test]
async fn observers() {
    conformance::observer(Recorder::new()).await;
}

#[tokio::test]
async fn recoveries() {
    conformance::recovery(NoRecovery).await;
}
