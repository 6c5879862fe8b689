//! What becomes of an agent's failure, by the failure table.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use agent_core::{
    AgentError, ChatModel, ChatRequest, Conversation, ModelError, ModelErrorClass, PendingKind, Recovered, Recovery,
    RunContext, collect,
};
use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::timeout;

use super::model::FallbackModel;
use super::rules::{Asked, Rules};
use super::step::CheckedStep;
use super::table::{FailureClass, FailureTable};

/// Decides by the [`FailureTable`] what becomes of an agent's failure: rules answer, a person does, or it fails.
///
/// It is for what a plan of models cannot know: answers that never fitted, turns that ran out, a conversation that cannot be made
/// to fit, a plan whose models all failed. A failure that it leaves goes to the agent's
/// [`DeadLetters`](agent_core::DeadLetters), if it has some.
///
/// A plan that ends with a person fails as [`NeedsHuman`](ModelErrorClass::NeedsHuman). Before one is asked, rules are, where this
/// row of the table lets them or the one of what the models failed with does; that failure is the [`cause`](Asked::cause) then. The
/// person is asked this recovery's question, or the plan's where it has none.
///
/// Rules that panic have no answer, and so do rules that take more than half of the time that is left.
///
/// ```
/// use agent_core::{Caller, MainAgent};
/// use agent_router::{DecisionRow, DecisionTable, TableRecovery};
/// # use testkit::{Line, ScriptedModel};
/// # use agent_core::ModelErrorClass;
/// # let model = ScriptedModel::new([Line::fails(ModelErrorClass::Auth)]);
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let closed = DecisionTable::new([DecisionRow::new("We open at nine.").with_any(["open"])])?;
/// let recovery = TableRecovery::new().with_rules(closed).with_human("Please answer this customer.");
/// let desk = MainAgent::builder("desk", model).recovery(recovery).build()?;
/// let outcome = desk.run("When do you open?", Caller::new("acme", "ann")?).await?;
/// assert_eq!(outcome.to_string(), "We open at nine.");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct TableRecovery {
    table: FailureTable,
    rules: Vec<Answering>,
    human: Option<Arc<str>>,
    review: Review,
}

/// What answers by rules.
#[derive(Clone)]
enum Answering {
    Rules(Arc<dyn Rules>),
    /// Another model of rules, which costs nothing.
    Model(Arc<dyn ChatModel>),
}

impl Answering {
    fn of(step: &CheckedStep) -> Self {
        match &step.rules {
            Some(rules) => Self::Rules(rules.clone()),
            None => Self::Model(step.model.clone()),
        }
    }

    /// The answer, which is no blank text.
    async fn answer(&self, asked: &Asked<'_>, cx: &RunContext) -> Option<Value> {
        let answer = match self {
            Self::Rules(rules) => rules.answer(asked).await?,
            Self::Model(model) => said_by(&**model, asked.conversation.clone(), cx).await?,
        };
        let is_blank = answer.as_str().is_some_and(|text| text.trim().is_empty());
        (!is_blank).then_some(answer)
    }
}

/// What a model of rules says, which writes objects and lists as JSON.
async fn said_by(model: &dyn ChatModel, conversation: Conversation, cx: &RunContext) -> Option<Value> {
    let stream = model.stream(ChatRequest::new(conversation), cx).await.ok()?;
    let text = collect(stream).await.ok()?.0.joined_text();
    let value = serde_json::from_str(&text).ok().filter(|value: &Value| value.is_object() || value.is_array());
    Some(value.unwrap_or_else(|| text.into()))
}

/// Whether a person sees what rules answer before it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Review {
    #[default]
    No,
    Yes,
}

impl TableRecovery {
    /// Every failure fails, until there are rules or a person.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table, the rules and the person of a plan, for the failures that the plan does not see.
    ///
    /// A [`RulesModel`](super::RulesModel) is asked as the rules that it was made of: they see the [`cause`](Asked::cause), and their answer
    /// is what they say. Other models of rules are asked as models, whose answer is text, or a JSON object or array.
    #[must_use]
    pub fn of(plan: &FallbackModel) -> Self {
        let rules = plan.rules().map(Answering::of).collect();
        Self { table: plan.table().clone(), rules, human: plan.human(), ..Self::default() }
    }

    /// The same by another table.
    #[must_use]
    pub fn with_table(mut self, table: FailureTable) -> Self {
        self.table = table;
        self
    }

    /// The same with further rules. The first ones that have an answer give it.
    #[must_use]
    pub fn with_rules(mut self, rules: impl Rules + 'static) -> Self {
        self.rules.push(Answering::Rules(Arc::new(rules)));
        self
    }

    /// The same with a person, who is asked this where no rule answers.
    #[must_use]
    pub fn with_human(mut self, question: impl Into<Arc<str>>) -> Self {
        self.human = Some(question.into());
        self
    }

    /// The same, where a person agrees to what rules answer, changes it, or refuses it, before it counts.
    #[must_use]
    pub fn with_review(mut self) -> Self {
        self.review = Review::Yes;
        self
    }
}

#[async_trait]
impl Recovery for TableRecovery {
    async fn recover(&self, error: &AgentError, conversation: &Conversation, cx: &RunContext) -> Recovered {
        let row = self.table.row(FailureClass::of(error));
        let of_models = models_failure(error);
        if row.rules || of_models.is_some_and(|failure| self.table.row(failure.class).rules) {
            let code = of_models.map_or_else(|| error.code(), ModelError::code);
            let message = conversation.last_user_message().map(|message| message.joined_text()).unwrap_or_default();
            let asked = Asked::new(&message, conversation, &cx.caller().tenant).with_cause(&code);
            for rules in &self.rules {
                let Some(answer) = in_half_the_time(rules.answer(&asked, cx), cx).await else { continue };
                return match self.review {
                    Review::No => Recovered::Answer(answer),
                    Review::Yes => Recovered::Ask(PendingKind::Approval {
                        what: "answer".into(),
                        proposed: Arc::new(answer),
                        reason: "rules answer in the model's place".into(),
                        schema: None,
                        approved_by: Vec::new(),
                    }),
                };
            }
        }
        match &self.human {
            Some(question) if row.human => Recovered::Ask(PendingKind::question(question.clone())),
            _ => Recovered::Fail,
        }
    }

    fn needs_time(&self) -> bool {
        let row = self.table.row(ModelErrorClass::TimedOut);
        (row.rules && !self.rules.is_empty()) || (row.human && self.human.is_some())
    }
}

/// What rules answer, unless they panic, or take more than half of the time that is left: others and a person come after them.
async fn in_half_the_time(answering: impl Future<Output = Option<Value>>, cx: &RunContext) -> Option<Value> {
    let answering = AssertUnwindSafe(answering).catch_unwind();
    let answered = match cx.time_left() {
        Some(left) => timeout(left / 2, answering).await.ok()?,
        None => answering.await,
    };
    answered.ok().flatten()
}

/// What the models of a plan failed with that ended with a person. Rules are asked before one is.
fn models_failure(error: &AgentError) -> Option<&ModelError> {
    match error {
        AgentError::Model(ModelError { class: ModelErrorClass::NeedsHuman, source: Some(source), .. }) => {
            source.downcast_ref()
        }
        _ => None,
    }
}

impl fmt::Debug for TableRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableRecovery")
            .field("rules", &self.rules.len())
            .field("human", &self.human)
            .field("review", &self.review)
            .finish_non_exhaustive()
    }
}
