//! Conversations that no model can read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use agent_core::{
    ContextError, ContextPolicy, FitRequest, Fitted, MainAgent, MemoryDeadLetters, ModelErrorClass as Class, ModelInfo,
    RunContext, RunOptions, Tokens, async_trait,
};
use agent_router::{FailureTable, FallbackModel, RulesModel, RunFailureClass, TableRecovery, rules};
use testkit::{FnModel, Line, caller, paused};

/// A policy that shortens what cannot be made shorter.
struct Cuts;

#[async_trait]
impl ContextPolicy for Cuts {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        Ok(Fitted::new(request.conversation.clone(), Tokens(2), Tokens(1)))
    }
}

#[test]
fn a_replay_asks_the_model_again_that_found_it_too_long() {
    paused(async {
        let (up, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let model = {
            let (up, asked) = (up.clone(), asked.clone());
            FnModel::new(move |_| {
                asked.fetch_add(1, Ordering::Relaxed);
                if up.load(Ordering::Relaxed) {
                    Line::text("By the model.")
                } else {
                    Line::fails(Class::ContextOverflow)
                }
            })
        };
        let plan = FallbackModel::builder("plan").step(model).step(RulesModel::new("rules", rules(|_| None)));
        let desk = MainAgent::builder("desk", plan.build().unwrap()).context_policy(Cuts);
        let desk = desk.dead_letters(MemoryDeadLetters::new()).build().unwrap();
        let failure = desk.run("Go", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "model.context_overflow");
        let run = failure.dead_letter.unwrap();
        // While nothing has changed, it fails as it did, and is a letter again.
        let before = asked.load(Ordering::Relaxed);
        let again = desk.replay(run, caller(), RunOptions::default()).await.unwrap_err();
        assert_eq!(again.code().as_str(), "model.context_overflow");
        assert!(asked.load(Ordering::Relaxed) > before);
        up.store(true, Ordering::Relaxed);
        let outcome = desk.replay(run, caller(), RunOptions::default()).await.unwrap();
        assert_eq!(outcome.to_string(), "By the model.");
    });
}

#[test]
fn rules_without_an_answer_are_not_why_it_failed() {
    let table = FailureTable::default()
        .change(Class::ContextOverflow, |row| row.human = false)
        .change(RunFailureClass::Context, |row| row.human = false);
    for has_rules in [false, true] {
        for by_itself in [false, true] {
            let code = paused(async {
                let small = |info: ModelInfo| info.with_context_window(Tokens(300)).with_max_output(Tokens(100));
                let plan = FallbackModel::builder("plan").table(table.clone());
                let plan = match by_itself {
                    true => plan.step(FnModel::new(|_| Line::fails(Class::ContextOverflow))),
                    false => plan.step(FnModel::new(|_| Line::text("small")).with_info(small)),
                };
                let silent = RulesModel::new("rules", rules(|_| None));
                let plan = if has_rules { plan.step(silent) } else { plan };
                let plan = plan.build().unwrap();
                let recovery = TableRecovery::of(&plan).with_human("Please answer.");
                let desk = MainAgent::builder("desk", plan).recovery(recovery).build().unwrap();
                let failed = desk.run("word ".repeat(2_000).as_str(), caller()).await;
                failed.map(|outcome| outcome.to_string()).map_err(|failure| failure.code().to_string())
            });
            // The table lets no person answer what is too long.
            let expected = ["context.does_not_fit", "model.context_overflow"];
            let is_told = code.as_ref().is_err_and(|code| expected.contains(&&**code));
            assert!(is_told, "{code:?} with rules: {has_rules}, by itself: {by_itself}");
        }
    }
}
