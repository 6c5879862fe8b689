//! What becomes of an agent's failure, by the failure table: with rules, plans and people.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, ChatModel, ChatRequest, Conversation, Lease, Limits, MainAgent, ModelError, ModelErrorClass as Class,
    ModelInfo, ModelStream, PendingKind, Recovered, Recovery, RunContext, RunOutcome,
};
use agent_router::{
    DecisionRow, DecisionTable, FailureRow, FailureTable, FallbackBuilder, FallbackModel, PlanStep, Rules, RulesModel,
    TableRecovery, rules,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use testkit::{Line, ScriptedModel, caller, paused};

/// What a recovery decides on this failure.
fn recover(recovery: &TableRecovery, error: impl Into<AgentError>) -> Recovered {
    let (error, conversation) = (error.into(), Conversation::new().say("When do you open?"));
    paused(recovery.recover(&error, &conversation, &RunContext::standalone(caller())))
}

fn failed(class: Class) -> ModelError {
    ModelError::new(class, "it failed")
}

/// How a plan fails that ends with a person.
fn needs_human(class: Class) -> ModelError {
    ModelError::new(Class::NeedsHuman, "Please answer.").with_source(failed(class))
}

fn asks(question: &str) -> Recovered {
    Recovered::Ask(PendingKind::question(question))
}

/// Rules that answer with why they are asked.
fn tell_cause() -> impl Rules {
    rules(|asked| Some(asked.cause?.as_str().into()))
}

/// A plan of a model that fails so.
fn plan(class: Class) -> FallbackBuilder {
    FallbackModel::builder("plan").step(ScriptedModel::new(std::iter::repeat_n(Line::fails(class), 9))).seed(1)
}

/// How a run of this plan with this recovery ends: the answer, or what a person is asked.
fn end(plan: &FallbackModel, recovery: TableRecovery) -> Result<Value, String> {
    let desk = MainAgent::builder("desk", plan.clone()).recovery(recovery).build().unwrap();
    match paused(desk.run("When do you open?", caller())) {
        Ok(RunOutcome::Completed(report)) => Ok(report.output),
        Ok(RunOutcome::Suspended(suspended)) => match &suspended.state.pending()[0].kind {
            PendingKind::Question { question, .. } => Err(question.to_string()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_and_people_are_asked_as_the_table_says() {
    let silent = rules(|_| None);
    let row = |with_rules: bool, with_human: bool| {
        let row = if with_rules { FailureRow::FAIL.with_rules() } else { FailureRow::FAIL };
        if with_human { row.with_human() } else { row }
    };
    let table = |row| FailureTable::default().with_row(Class::Unavailable, row);
    let check = |row, expected: [Recovered; 2]| {
        let answering = TableRecovery::new().with_table(table(row)).with_rules(tell_cause()).with_human("Well?");
        let asking = TableRecovery::new().with_table(table(row)).with_rules(silent).with_human("Well?");
        let recovered = [answering, asking].map(|recovery| recover(&recovery, failed(Class::Unavailable)));
        assert_eq!(recovered, expected, "{row:?}");
    };
    let answer = || Recovered::Answer("model.unavailable".into());
    check(row(true, true), [answer(), asks("Well?")]);
    check(row(true, false), [answer(), Recovered::Fail]);
    check(row(false, true), [asks("Well?"), asks("Well?")]);
    check(row(false, false), [Recovered::Fail, Recovered::Fail]);
}

#[test]
fn rules_are_asked_before_the_person_with_whom_a_plan_ends() {
    let check = |recovery: &TableRecovery, class, expected: Recovered| {
        assert_eq!(recover(recovery, needs_human(class)), expected, "{class:?}");
    };
    let recovery = TableRecovery::new().with_rules(tell_cause());
    check(&recovery, Class::Unavailable, Recovered::Answer("model.unavailable".into()));
    check(&recovery, Class::AttemptsExhausted, Recovered::Answer("model.attempts_exhausted".into()));
    // Rules may not answer what a content policy stopped, nor what is wrong in itself. The agent asks the plan's person then.
    check(&recovery, Class::ContentPolicy, Recovered::Fail);
    check(&recovery, Class::BadRequest, Recovered::Fail);
    let asking = recovery.with_human("Well?");
    check(&asking, Class::Unavailable, Recovered::Answer("model.unavailable".into()));
    check(&asking, Class::ContentPolicy, asks("Well?"));
    // A model that asks for a person by itself has failed with nothing else.
    assert_eq!(recover(&asking, failed(Class::NeedsHuman)), asks("Well?"));
    let over = ModelError::new(Class::NeedsHuman, "Please answer.").with_source(std::io::Error::other("refused"));
    assert_eq!(recover(&asking, over), asks("Well?"));
    // Where the table lets rules answer instead of a person, they do.
    let table = FailureTable::default().change(Class::NeedsHuman, |row| row.rules = true);
    let eager = asking.with_table(table);
    assert_eq!(recover(&eager, failed(Class::NeedsHuman)), Recovered::Answer("model.needs_human".into()));
    check(&eager, Class::ContentPolicy, Recovered::Answer("model.content_policy".into()));
}

#[test]
fn a_run_whose_plan_ends_with_a_person_asks_the_recoverys_rules_first() {
    let plan = |class| plan(class).human("Please answer.").build().unwrap();
    let recoveries = |plan: &FallbackModel| [TableRecovery::new(), TableRecovery::of(plan)];
    let ends = |class, rules: fn() -> Option<Value>| {
        let plan = plan(class);
        let recoveries = recoveries(&plan).map(|recovery| recovery.with_rules(agent_router::rules(move |_| rules())));
        recoveries.map(|recovery| end(&plan, recovery))
    };
    let (nine, asked) = (|| Some("At nine.".into()), || Err("Please answer.".to_owned()));
    assert_eq!(ends(Class::Auth, nine), [Ok("At nine.".into()), Ok("At nine.".into())]);
    assert_eq!(ends(Class::Auth, || None), [asked(), asked()]);
    assert_eq!(ends(Class::ContentPolicy, nine), [asked(), asked()]);
    let plan = plan(Class::Auth);
    assert_eq!(end(&plan, TableRecovery::of(&plan).with_human("Well?")), Err("Well?".to_owned()));
}

#[test]
fn rules_of_a_plan_see_the_cause_in_its_recovery() {
    let mut row = DecisionRow::new("We are busy.");
    row.causes = vec!["model.unavailable".into()];
    let rules = RulesModel::new("busy", DecisionTable::new([row]).unwrap());
    // The plan itself asks them without a cause, so that they do not answer there.
    let steps =
        [PlanStep::new(rules.clone()), PlanStep::new(rules.clone()).with_name("named"), PlanStep::new(Arc::new(rules))];
    for step in steps {
        let check = |plan: FallbackBuilder, expected: Result<Value, String>| {
            let plan = plan.step(step.clone()).human("Please answer.").build().unwrap();
            assert_eq!(end(&plan, TableRecovery::of(&plan)), expected, "{step:?}");
        };
        check(plan(Class::Unavailable), Ok("We are busy.".into()));
        check(plan(Class::Auth), Err("Please answer.".into()));
    }
}

#[test]
fn rules_of_a_plan_answer_in_its_recovery_with_what_they_say() {
    let check = |said: Value, expected: Recovered| {
        let answer = said.clone();
        let steps = plan(Class::Unavailable).step(RulesModel::new("rules", rules(move |_| Some(answer.clone()))));
        let of_plan = TableRecovery::of(&steps.build().unwrap());
        assert_eq!(recover(&of_plan, failed(Class::Unavailable)), expected);
        let own = TableRecovery::new().with_rules(rules(move |_| Some(said.clone())));
        assert_eq!(recover(&own, failed(Class::Unavailable)), expected);
    };
    for said in [json!("At nine."), json!("[1]"), json!("{\"open\": 9}"), json!([1]), json!({"open": 9}), json!(9)] {
        check(said.clone(), Recovered::Answer(said));
    }
    check(json!(" "), Recovered::Fail);
}

/// Rules that a host wrapped, or that are a model by themselves.
struct Wrapped(RulesModel);

#[async_trait]
impl ChatModel for Wrapped {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        self.0.stream(request, cx).await
    }
}

#[test]
fn other_models_of_rules_answer_in_the_recovery_of_their_plan() {
    let check = |said: Option<Value>, expected: Recovered| {
        let model = Wrapped(RulesModel::new("rules", rules(move |_| said.clone())));
        let plan = plan(Class::Unavailable).step(model).build().unwrap();
        assert_eq!(recover(&TableRecovery::of(&plan), failed(Class::Unavailable)), expected);
    };
    check(Some("At nine.".into()), Recovered::Answer("At nine.".into()));
    check(Some(json!({"open": 9})), Recovered::Answer(json!({"open": 9})));
    check(Some("".into()), Recovered::Fail);
    check(None, Recovered::Fail);
}

/// Rules that never answer.
struct Hanging;

#[async_trait]
impl Rules for Hanging {
    async fn answer(&self, _: &agent_router::Asked<'_>) -> Option<Value> {
        std::future::pending().await
    }
}

#[test]
fn rules_that_hang_or_panic_leave_the_others_and_the_person() {
    let broken = || TableRecovery::new().with_rules(rules(|_| panic!("a bug of the host"))).with_rules(Hanging);
    let recover = |recovery: TableRecovery| {
        let lease = Lease::root(Limits::none().with_time(Duration::from_secs(8)));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        let (error, conversation) = (failed(Class::Unavailable).into(), Conversation::new().say("Hello?"));
        paused(async {
            let begun = tokio::time::Instant::now();
            (recovery.recover(&error, &conversation, &cx).await, begun.elapsed().as_secs())
        })
    };
    assert_eq!(recover(broken().with_rules(tell_cause())), (Recovered::Answer("model.unavailable".into()), 4));
    assert_eq!(recover(broken().with_human("Well?")), (asks("Well?"), 4));
    assert_eq!(recover(broken().with_rules(Hanging)), (Recovered::Fail, 6));
    // In a run.
    let plan = plan(Class::Unavailable).human("Please answer.").build().unwrap();
    let desk =
        MainAgent::builder("desk", plan).recovery(broken()).limits(Limits::none().with_time(Duration::from_secs(8)));
    let ended = paused(desk.build().unwrap().run("When do you open?", caller()));
    assert!(matches!(ended, Ok(RunOutcome::Suspended(_))), "{ended:?}");
}
