//! Tools that break a rule.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::{CallError, FunctionSpec, PendingKind, RunContext, Schema, Tool, ToolOutput, async_trait};
use serde_json::{Value, json};
use testkit::{RecordingTool, conformance};

async fn check(tool: RecordingTool) {
    conformance::tool(tool, json!({"order": "A-1042"})).await;
}

#[tokio::test]
#[should_panic(expected = "a model can call it: name is \"two words\"")]
async fn has_a_bad_name() {
    check(RecordingTool::new("two words")).await;
}

#[tokio::test]
#[should_panic(expected = "a model can call it: input of function `refund`")]
async fn takes_no_object() {
    let bare = Schema::of::<String>();
    check(RecordingTool::new("refund").with_spec(|spec| FunctionSpec::new(spec.name, spec.description, bare))).await;
}

#[tokio::test]
#[should_panic(expected = "the input that is given to the suite fits the spec")]
async fn is_given_a_wrong_input() {
    conformance::tool(RecordingTool::new("refund"), json!("A-1042")).await;
}

#[tokio::test]
#[should_panic(expected = "a call panicked: a recording tool was told to panic")]
async fn panics() {
    check(RecordingTool::new("refund").panicking()).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a call did not end within 60s")]
async fn hangs() {
    check(RecordingTool::new("refund").hanging()).await;
}

#[tokio::test]
#[should_panic(expected = "a result fits the spec's output schema")]
async fn returns_something_else() {
    check(RecordingTool::new("refund").returning(json!(7)).with_spec(|spec| spec.with_output(Schema::object()))).await;
}

#[tokio::test]
#[should_panic(expected = "what the call waits for has a schema that no answer fits")]
async fn waits_for_what_no_answer_fits() {
    let kind = PendingKind::Question { question: "Which?".into(), schema: Some(json!({"type": "answer"}).into()) };
    check(RecordingTool::new("refund").waiting(kind)).await;
}

/// A tool that misbehaves.
struct Broken {
    spec: FunctionSpec,
    fault: Fault,
    busy: AtomicBool,
}

#[derive(PartialEq)]
enum Fault {
    /// Holds its thread.
    Blocks,
    /// Fails while another call is being made.
    TakesOneCall,
    /// Takes calls of one tenant at a time, and does not notice when a call is dropped.
    StaysBusy,
}

impl Broken {
    fn with(fault: Fault) -> Self {
        Self { spec: FunctionSpec::new("refund", "Refunds", Schema::object()), fault, busy: AtomicBool::default() }
    }
}

#[async_trait]
impl Tool for Broken {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    async fn call(&self, _: &Value, _: &RunContext) -> Result<ToolOutput, CallError> {
        if self.fault == Fault::Blocks {
            std::thread::sleep(Duration::from_millis(1_100));
        }
        if self.fault == Fault::TakesOneCall && self.busy.swap(true, Ordering::SeqCst) {
            return Err(CallError::tell("one call at a time"));
        }
        if self.fault == Fault::StaysBusy {
            // Waits for the other call, which can take some time.
            while self.busy.swap(true, Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::task::yield_now().await;
        self.busy.store(false, Ordering::SeqCst);
        Ok(ToolOutput::Done(json!("refunded")))
    }
}

#[tokio::test]
#[should_panic(expected = "long CPU work and blocking calls go to `spawn_blocking`")]
async fn blocks() {
    conformance::tool(Broken::with(Fault::Blocks), json!({})).await;
}

#[tokio::test]
#[should_panic(expected = "one of several calls at once goes as well as one alone")]
async fn takes_one_call() {
    conformance::tool(Broken::with(Fault::TakesOneCall), json!({})).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a call after a dropped one did not end within 60s")]
async fn stays_busy() {
    conformance::tool(Broken::with(Fault::StaysBusy), json!({})).await;
}
