//! The suite for [`Policy`].

use std::sync::Arc;

use agent_core::{
    Action, Approval, Caller, Decision, Effect, FunctionSpec, Pending, PendingKind, Policy, Role, RunContext,
    UserMessage,
};
use serde_json::{Value, json};

use super::conversations::lookup;
use super::support::{at_once, brief, ends};
use crate::{caller, somebody};

/// How many people a policy may want to agree to one thing, and how often it may replace it, before it decides.
const MOST: usize = 8;

/// Checks a [`Policy`]: `policy(policy, [(refund_spec, json!({"order": "A-1042"}))]).await`.
///
/// `calls` are functions that the policy knows, with arguments that fit; the suite asks about functions of its own too, about
/// requests and about answers, for callers with and without roles.
///
/// - Deciding changes nothing: the same question has the same answer, in any order and many times at once.
/// - Replaced arguments fit the function's schema, and a replaced request is a text. The policy is asked again about them.
/// - It decides once people agreed: after at most 8 of them and 8 replacements, and does not panic.
///
/// A question that nobody whom the suite knows may answer stays open: that is for the policy to say. The suite knows the caller,
/// and 8 others who have the role `supervisor` and all roles that `calls` require.
///
/// # Panics
///
/// When a rule is broken, or when arguments in `calls` do not fit.
pub async fn policy(policy: impl Policy + 'static, calls: impl IntoIterator<Item = (FunctionSpec, Value)>) {
    let policy: Arc<dyn Policy> = Arc::new(policy);
    let subjects = subjects(calls);
    let people = people(&subjects);
    let mut questions = Vec::new();
    for caller in [caller(), colleague(&subjects, "asking")] {
        let cx = RunContext::standalone(caller);
        questions.extend(subjects.iter().map(|subject| Question { subject: subject.clone(), cx: cx.clone() }));
    }
    deciding_changes_nothing(&policy, &questions).await;
    for question in questions {
        it_decides_once_people_agreed(&*policy, question, &people).await;
    }
}

/// Something that a policy is asked about.
#[derive(Clone, Debug)]
enum Subject {
    Request(UserMessage),
    Call(Box<FunctionSpec>, Value),
    Answer(Value),
}

impl Subject {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Request(message) => *value == *message.joined_text(),
            Self::Call(_, arguments) => value == arguments,
            Self::Answer(answer) => value == answer,
        }
    }
}

/// A subject, and where in which run it comes up.
#[derive(Clone, Debug)]
struct Question {
    subject: Subject,
    cx: RunContext,
}

async fn deciding_changes_nothing(policy: &Arc<dyn Policy>, questions: &[Question]) {
    let mut decisions = Vec::new();
    for question in questions {
        decisions.push(question.decide(&**policy, &[]).await);
    }
    let same = |question: &Question, first: &Decision, again: &Decision| {
        let subject = &question.subject;
        assert!(first == again, "deciding changes nothing: {subject:?} was {first:?}, and asked again {again:?}");
    };
    for (question, first) in questions.iter().zip(&decisions).rev() {
        same(question, first, &question.decide(&**policy, &[]).await);
    }
    for (question, first) in questions.iter().zip(&decisions) {
        let asked = (0..8).map(|_| {
            let (policy, question) = (policy.clone(), question.clone());
            async move { question.decide(&*policy, &[]).await }
        });
        at_once("a question, asked many times at once,", asked)
            .await
            .iter()
            .for_each(|again| same(question, first, again));
    }
}

async fn it_decides_once_people_agreed(policy: &dyn Policy, mut question: Question, people: &[Caller]) {
    let mut approved_by: Vec<Caller> = Vec::new();
    let mut replacements = 0;
    loop {
        match question.decide(policy, &approved_by).await {
            // The same as before is to allow it.
            Decision::Replace(value) if question.subject.is(&value) => return,
            Decision::Replace(value) => {
                replacements += 1;
                let subject = &question.subject;
                assert!(
                    replacements <= MOST,
                    "it decides once it replaced something; it goes on replacing {subject:?}"
                );
                question.subject.replace(value);
                // Who agreed, agreed to something else.
                approved_by.clear();
            }
            Decision::Ask(reason) => {
                let (subject, asked) = (&question.subject, approved_by.len());
                assert!(
                    asked < MOST,
                    "it decides once people agreed; after {asked} of them it still asks about {subject:?}"
                );
                let pending = question.pending(&reason, &approved_by);
                let may_agree = |person: &&Caller| !approved_by.contains(person) && policy.may_answer(&pending, person);
                let Some(person) = people.iter().find(may_agree) else { return };
                approved_by.push(person.clone());
            }
            _ => return,
        }
    }
}

/// What the suite asks about.
fn subjects(calls: impl IntoIterator<Item = (FunctionSpec, Value)>) -> Vec<Subject> {
    let named = |name: &str| FunctionSpec::new(name, "A function of the suite", lookup().input);
    let supervisor = Role::new("supervisor").expect("a valid role");
    let own = [
        named("lookup").with_effect(Effect::ReadOnly),
        named("refund").with_effect(Effect::AtMostOnce).with_approval(Approval::Needed),
        named("close_account").with_approval(Approval::Needed).with_required_role(supervisor),
    ];
    let own = own.map(|function| (function, json!({"order": "A-1042"})));
    let calls = own.into_iter().chain(calls).map(|(function, arguments)| {
        let fits = function.input.check(&arguments);
        fits.unwrap_or_else(|violation| {
            panic!("arguments for `{}` given to the suite fit: {violation}", function.name)
        });
        Subject::Call(Box::new(function), arguments)
    });
    let others = [
        Subject::Request(UserMessage::text("Refund A-1042, please.")),
        Subject::Answer(json!("It is refunded.")),
        Subject::Answer(json!({"order": "A-1042", "refunded": true})),
    ];
    calls.chain(others).collect()
}

/// The people who may be asked; the caller comes last.
fn people(subjects: &[Subject]) -> Vec<Caller> {
    (1..=MOST).map(|number| colleague(subjects, &number.to_string())).chain([caller()]).collect()
}

/// Somebody of the caller's tenant with all roles that there are.
fn colleague(subjects: &[Subject], name: &str) -> Caller {
    let mut colleague = somebody("acme", &format!("colleague-{name}"));
    for subject in subjects {
        if let Subject::Call(function, _) = subject {
            colleague.roles.extend(function.required_roles.iter().cloned());
        }
    }
    colleague
}

impl Subject {
    fn action<'a>(&'a self, approved_by: &'a [Caller]) -> Action<'a> {
        match self {
            Self::Request(message) => Action::Request { message, approved_by },
            Self::Call(function, arguments) => Action::Call { function, arguments, approved_by },
            Self::Answer(answer) => Action::Answer { answer, approved_by },
        }
    }

    fn replace(&mut self, value: Value) {
        match self {
            Self::Request(message) => match value {
                Value::String(text) => *message = UserMessage::text(text),
                other => panic!("a replaced request is a text; it is {}", brief(&other)),
            },
            Self::Call(function, arguments) => {
                let (name, fits) = (&function.name, function.input.check(&value));
                fits.unwrap_or_else(|violation| panic!("replaced arguments fit the schema of `{name}`: {violation}"));
                *arguments = value;
            }
            Self::Answer(answer) => *answer = value,
        }
    }
}

impl Question {
    async fn decide(&self, policy: &dyn Policy, approved_by: &[Caller]) -> Decision {
        ends("deciding", policy.decide(self.subject.action(approved_by), &self.cx)).await
    }

    /// What a run would wait for.
    fn pending(&self, reason: &str, approved_by: &[Caller]) -> Pending {
        let text = Arc::new(json!({"type": "string"}));
        let (what, proposed, schema) = match &self.subject {
            Subject::Request(message) => ("request".into(), json!(message.joined_text()), Some(text)),
            Subject::Call(function, arguments) => {
                (function.name.clone(), arguments.clone(), Some(function.input.as_value().clone()))
            }
            Subject::Answer(answer) => ("answer".into(), answer.clone(), None),
        };
        let (proposed, reason, approved_by) = (Arc::new(proposed), reason.into(), approved_by.to_vec());
        let kind = PendingKind::Approval { what, proposed, reason, schema, approved_by: approved_by.clone() };
        self.cx.pending(format!("approval-{}", approved_by.len() + 1), kind)
    }
}
