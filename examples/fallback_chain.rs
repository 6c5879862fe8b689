//! One plan: a model, rules, a person. Each answers when the level before it cannot.
//!
//! ```text
//! cargo run --example fallback_chain -- "When do you open?"                        # rules: no model is configured
//! cargo run --example fallback_chain -- --break-model "When do you open?"          # the model fails, rules answer
//! cargo run --example fallback_chain -- --break-model "I want to leave my contract" # no rule fits, a person on the terminal is asked
//! ```
//!
//! A model behind a gateway is the first level where LITELLM_BASE_URL, LITELLM_MODEL and LITELLM_API_KEY name one
//! (`--features litellm`). At the person's prompt a line is the answer, an empty line is a refusal.
// An example talks to a terminal.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{self, BufRead, Write};

use adjutant::agent_core::{
    ChatModel, ChatRequest, Event, EventKind, ModelError, ModelErrorClass, ModelInfo, ModelStream, Observer, Pending,
    Provenance, async_trait,
};
use adjutant::agent_router::{DecisionTable, FallbackModel, PlanStep, RulesModel, TableRecovery};
use adjutant::{AnswerValue, Caller, MainAgent, Resume, RunContext, RunOutcome};

/// What the rules know: data, which a host loads from where it likes.
const RULES: &str = r#"{
    "rows": [
        {"any": ["open", "opening hours", "close"], "answer": "We are open from nine to six, Monday to Friday."},
        {"any": ["where", "status"], "pattern": "(?<order>[A-Z]-\\d{4})", "answer": "We will write to you about {order} within a day."}
    ]
}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    if flags.iter().any(|flag| flag != "--break-model") || words.is_empty() {
        return Err("usage: fallback_chain [--break-model] MESSAGE".into());
    }

    let rules: DecisionTable = serde_json::from_str(RULES)?;
    let plan = FallbackModel::builder("assistant");
    let plan = match model(!flags.is_empty())? {
        Some(model) => plan.step(model),
        None => plan,
    };
    let plan =
        plan.step(RulesModel::new("rules", rules)).human("No model and no rule could answer this customer.").build()?;
    let recovery = TableRecovery::of(&plan);
    let desk = MainAgent::builder("desk", plan).recovery(recovery).observer(Way).build()?;

    let mut ended = desk.run(words.join(" "), Caller::new("acme", "ann")?).await;
    loop {
        match ended {
            Ok(RunOutcome::Suspended(suspended)) => {
                let Some(pending) = suspended.state.pending().first().cloned() else { return Ok(()) };
                let answer = ask(&pending)?;
                let resume = Resume::new(suspended.state, Caller::new("acme", "sam")?);
                ended = desk.resume(resume.with_answer(&pending.id, answer)).await;
            }
            Ok(RunOutcome::Completed(report)) => {
                println!("{}", report.text());
                let Provenance { attempts, .. } = &report.provenance;
                println!("(by {}; {} attempts)", report.provenance.fallback_path(), attempts.len());
                return Ok(());
            }
            Err(failure) => {
                println!("no answer: {failure}");
                return Ok(());
            }
        }
    }
}

/// The model level, if there is one.
fn model(is_broken: bool) -> Result<Option<PlanStep>, Box<dyn Error>> {
    if is_broken {
        return Ok(Some(PlanStep::new(Broken(ModelInfo::new("example", "broken")))));
    }
    gateway()
}

#[cfg(feature = "litellm")]
fn gateway() -> Result<Option<PlanStep>, Box<dyn Error>> {
    use adjutant::model_litellm::{Gateway, GatewayConfig};

    let settings = ["LITELLM_BASE_URL", "LITELLM_MODEL", "LITELLM_API_KEY"].map(std::env::var);
    let [Ok(base_url), Ok(model), key] = settings else { return Ok(None) };
    let config = GatewayConfig::litellm(base_url);
    let config = match key {
        Ok(key) => config.with_api_key(key),
        Err(_) => config,
    };
    Ok(Some(PlanStep::new(Gateway::new(config)?.model(model))))
}

#[cfg(not(feature = "litellm"))]
fn gateway() -> Result<Option<PlanStep>, Box<dyn Error>> {
    Ok(None)
}

/// Asks the person at the terminal.
fn ask(pending: &Pending) -> Result<AnswerValue, Box<dyn Error>> {
    print!("[waits for {pending}]\n> ");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim() {
        "" => AnswerValue::Deny("nobody answered".into()),
        answer => AnswerValue::Value(answer.into()),
    })
}

/// A model that nobody reaches.
struct Broken(ModelInfo);

#[async_trait]
impl ChatModel for Broken {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        Err(ModelError::new(ModelErrorClass::Unreachable, "nobody answers at its address"))
    }
}

/// Tells the way down.
struct Way;

impl Observer for Way {
    fn observe(&self, event: &Event) {
        match &event.kind {
            EventKind::ModelStarted { step: Some(step), .. } => println!("[asks {step}]"),
            EventKind::ModelFailed(failed) => println!("[{} failed: {}]", failed.model, failed.code),
            EventKind::StepSkipped { step, code } => println!("[leaves {step} out: {code}]"),
            EventKind::Recovered { fallback_path, .. } => println!("[goes on by {fallback_path}]"),
            _ => {}
        }
    }
}
