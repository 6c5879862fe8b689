//! Runs that failed for good: kept as dead letters, and replayed once.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    AgentError, AnswerValue, Caller, Claim, DeadLetter, DeadLetterError, DeadLetters, FileDeadLetters, LetterStatus,
    LetterSummary, Limits, MainAgent, MemoryDeadLetters, ModelErrorClass, PendingKind, Purge, ReplayError, Resume,
    RunId, RunOptions, RunOutcome, TaskId, TenantId, Tokens, async_trait,
};
use testkit::{FnModel, Line, RecordingTool, ScriptedModel, caller, paused, somebody};
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt};

/// A model that is down until it is up, and how often it was asked since.
#[derive(Clone, Default)]
struct Switch {
    up: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Switch {
    fn model(&self) -> FnModel {
        let switch = self.clone();
        FnModel::new(move |request| {
            if !switch.up.load(Ordering::Relaxed) {
                return Line::fails(ModelErrorClass::Unavailable);
            }
            switch.asked.fetch_add(1, Ordering::Relaxed);
            match request.conversation.entries().len() {
                1 => Line::call("refund", serde_json::json!({"order": "A-1042"})).after(Duration::from_millis(50)),
                _ => Line::text("It is refunded."),
            }
        })
    }
}

fn refund() -> RecordingTool {
    RecordingTool::new("refund").returning(serde_json::json!("done"))
}

fn desk(switch: &Switch, tool: &RecordingTool, letters: Arc<dyn DeadLetters>) -> MainAgent {
    MainAgent::builder("desk", switch.model()).tool(tool.clone()).dead_letters(letters).build().unwrap()
}

async fn stores() -> (Vec<Arc<dyn DeadLetters>>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = FileDeadLetters::open(folder.path().join("letters.jsonl")).await.unwrap();
    (vec![Arc::new(MemoryDeadLetters::new()), Arc::new(file)], folder)
}

#[tokio::test]
async fn what_failed_is_kept_and_succeeds_once_when_the_cause_is_gone() {
    let (stores, _folder) = stores().await;
    for letters in stores {
        let (switch, tool) = (Switch::default(), refund());
        let desk = desk(&switch, &tool, letters.clone());
        let failure = desk.run("Refund A-1042.", caller()).await.unwrap_err();
        let run = failure.dead_letter.unwrap();
        let (letter, status) = letters.get(&caller().tenant, run).await.unwrap().unwrap();
        assert_eq!(
            (letter.code.as_str(), letter.failures, letter.spent, letter.attempts.clone(), status),
            ("model.unavailable", 1, failure.spent, failure.attempts.clone(), LetterStatus::Open)
        );
        assert_eq!(letter.state, failure.state);

        // Still down: it is a letter again, and has failed twice.
        let failed = desk.replay(run, somebody("acme", "ops"), RunOptions::default()).await.unwrap_err();
        assert_eq!((failed.code().as_str(), failed.retryable()), ("model.unavailable", true));
        let (letter, status) = letters.get(&caller().tenant, run).await.unwrap().unwrap();
        assert_eq!((letter.failures, status), (2, LetterStatus::Open));

        switch.up.store(true, Ordering::Relaxed);
        let outcome = desk.replay(run, somebody("acme", "ops"), RunOptions::default()).await.unwrap();
        assert_eq!((outcome.to_string().as_str(), tool.completed()), ("It is refunded.", 1));
        let again = desk.replay(run, somebody("acme", "ops"), RunOptions::default()).await.unwrap_err();
        assert_eq!((again.code().as_str(), tool.completed()), ("replay.replayed", 1));
        assert_eq!(letters.purge(&caller().tenant, Purge::Replayed).await.unwrap(), 1);
        let again = desk.replay(run, somebody("acme", "ops"), RunOptions::default()).await.unwrap_err();
        assert_eq!(again.code().as_str(), "replay.unknown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_replay_at_once_one_does() {
    let (stores, folder) = stores().await;
    for (letters, is_file) in stores.into_iter().zip([false, true]) {
        let (switch, tool) = (Switch::default(), refund());
        let run = desk(&switch, &tool, letters.clone())
            .run("Refund A-1042.", caller())
            .await
            .unwrap_err()
            .dead_letter
            .unwrap();
        switch.up.store(true, Ordering::Relaxed);
        let mut replays = Vec::new();
        for _ in 0..20 {
            // Each with a handle of its own, as other processes have.
            let letters: Arc<dyn DeadLetters> = match is_file {
                true => Arc::new(FileDeadLetters::open(folder.path().join("letters.jsonl")).await.unwrap()),
                false => letters.clone(),
            };
            let desk = desk(&switch, &tool, letters);
            replays.push(tokio::spawn(async move { desk.replay(run, caller(), RunOptions::default()).await }));
        }
        let mut done = 0;
        for replay in replays {
            match replay.await.unwrap() {
                Ok(RunOutcome::Completed(_)) => done += 1,
                Err(ReplayError::Busy | ReplayError::Replayed) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((done, tool.completed(), switch.asked.load(Ordering::Relaxed)), (1, 1, 2));
    }
}

#[tokio::test]
async fn only_the_tenant_itself_can_replay() {
    let letters = Arc::new(MemoryDeadLetters::new());
    let (switch, tool) = (Switch::default(), refund());
    let desk = desk(&switch, &tool, letters.clone());
    let run = desk.run("Refund A-1042.", caller()).await.unwrap_err().dead_letter.unwrap();
    switch.up.store(true, Ordering::Relaxed);
    let other = desk.replay(run, somebody("umbrella", "eve"), RunOptions::default()).await.unwrap_err();
    assert_eq!(other.code().as_str(), "replay.unknown");
    let mute = MainAgent::builder("desk", switch.model()).build().unwrap();
    let none = mute.replay(run, caller(), RunOptions::default()).await.unwrap_err();
    assert_eq!(none.code().as_str(), "replay.no_store");
    let stranger = MainAgent::builder("other", switch.model()).dead_letters(letters.clone()).build().unwrap();
    let refused = stranger.replay(run, caller(), RunOptions::default()).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "state.other_agent");
    // None of these used it up.
    desk.replay(run, caller(), RunOptions::default()).await.unwrap();
}

#[test]
fn a_run_that_is_suspended_when_it_is_replayed_was_replayed() {
    paused(async {
        let letters = Arc::new(MemoryDeadLetters::new());
        let question = RecordingTool::new("refund").waiting(PendingKind::question("Sure?"));
        let switch = Switch::default();
        let desk = desk(&switch, &question, letters.clone());
        let run = desk.run("Refund A-1042.", caller()).await.unwrap_err().dead_letter.unwrap();
        switch.up.store(true, Ordering::Relaxed);
        let suspended = desk.replay(run, caller(), RunOptions::default()).await.unwrap().into_suspended().unwrap();
        let status = letters.get(&caller().tenant, run).await.unwrap().unwrap().1;
        assert!(matches!(status, LetterStatus::Replayed { .. }), "{status:?}");
        let pending = suspended.state.pending()[0].id.clone();
        // Failing again later makes it a letter again.
        switch.up.store(false, Ordering::Relaxed);
        let resume = Resume::new(suspended.state, caller()).with_answer(&pending, AnswerValue::Value("yes".into()));
        let failure = desk.resume(resume).await.unwrap_err();
        assert_eq!(failure.dead_letter, Some(run));
        let (letter, status) = letters.get(&caller().tenant, run).await.unwrap().unwrap();
        assert_eq!((letter.failures, status), (2, LetterStatus::Open));
    });
}

#[test]
fn a_budget_that_was_used_up_needs_new_limits() {
    paused(async {
        let letters = Arc::new(MemoryDeadLetters::new());
        let (switch, tool) = (Switch::default(), refund());
        switch.up.store(true, Ordering::Relaxed);
        let desk = MainAgent::builder("desk", switch.model()).tool(tool.clone()).dead_letters(letters);
        let desk = desk.limits(Limits::none().with_tokens(Tokens(30))).build().unwrap();
        let failure = desk.run("Refund A-1042.", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "budget.exceeded");
        let run = failure.dead_letter.unwrap();
        let same = desk.replay(run, caller(), RunOptions::default()).await.unwrap_err();
        assert_eq!(same.code().as_str(), "budget.exceeded");
        let more = RunOptions::default().with_limits(Limits::none().with_tokens(Tokens(10_000)));
        desk.replay(run, caller(), more).await.unwrap();
        assert_eq!(tool.completed(), 1);
    });
}

#[test]
fn what_was_stopped_or_refused_is_no_dead_letter() {
    paused(async {
        let letters = Arc::new(MemoryDeadLetters::new());
        let (switch, tool) = (Switch::default(), refund());
        switch.up.store(true, Ordering::Relaxed);
        let desk = desk(&switch, &tool, letters.clone());
        let request = agent_core::Request::new("Refund A-1042.").with_options(cancelled());
        let cancelled = desk.run(request, caller()).await.unwrap_err();
        assert_eq!((cancelled.code().as_str(), cancelled.dead_letter), ("run.cancelled", None));
        assert!(letters.list(&caller().tenant, None, 10).await.unwrap().is_empty());
        // A run that had no time is one.
        let hanging = RecordingTool::new("refund").hanging();
        let desk = MainAgent::builder("desk", switch.model()).tool(hanging).dead_letters(letters.clone());
        let desk = desk.limits(Limits::none().with_time(Duration::from_secs(5))).build().unwrap();
        let late = desk.run("Refund A-1042.", caller()).await.unwrap_err();
        assert_eq!((late.code().as_str(), late.dead_letter.is_some()), ("run.deadline", true));
        let listed = letters.list(&caller().tenant, None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|letter| letter.code.as_str()).collect::<Vec<_>>(), ["run.deadline"]);
    });
}

/// A store that fails as it is told.
struct Failing {
    inner: MemoryDeadLetters,
    put: bool,
    settle: Settling,
}

/// A store that panics, whatever it is asked for, once it is broken.
#[derive(Default)]
struct Broken {
    inner: MemoryDeadLetters,
    is_broken: AtomicBool,
}

impl Broken {
    fn store(&self) -> &MemoryDeadLetters {
        assert!(!self.is_broken.load(Ordering::Relaxed), "a store's own mistake");
        &self.inner
    }
}

#[async_trait]
impl DeadLetters for Broken {
    async fn put(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        self.store().put(letter).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        self.store().list(tenant, after, at_most).await
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        self.store().get(tenant, run).await
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        // What a letter says could be read: the claim finds the store broken.
        self.is_broken.store(true, Ordering::Relaxed);
        self.store().claim(tenant, run, time).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: agent_core::ClaimToken,
        end: agent_core::ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        self.store().settle(tenant, run, token, end).await
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        self.store().purge(tenant, which).await
    }
}

/// How often a store fails before it settles a claim.
enum Settling {
    Fails(AtomicUsize),
    Panics,
    Hangs,
}

impl Settling {
    fn fails(times: usize) -> Self {
        Self::Fails(times.into())
    }

    async fn end(&self) -> Result<(), DeadLetterError> {
        match self {
            Self::Fails(times) => {
                match times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                    Ok(_) => Err(DeadLetterError::new("full")),
                    Err(_) => Ok(()),
                }
            }
            Self::Panics => panic!("a store's own mistake"),
            Self::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl DeadLetters for Failing {
    async fn put(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        if self.put { Err(DeadLetterError::new("full")) } else { self.inner.put(letter).await }
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<RunId>,
        at_most: usize,
    ) -> Result<Vec<LetterSummary>, DeadLetterError> {
        self.inner.list(tenant, after, at_most).await
    }

    async fn get(&self, tenant: &TenantId, run: RunId) -> Result<Option<(DeadLetter, LetterStatus)>, DeadLetterError> {
        self.inner.get(tenant, run).await
    }

    async fn claim(&self, tenant: &TenantId, run: RunId, time: Duration) -> Result<Claim, DeadLetterError> {
        self.inner.claim(tenant, run, time).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        run: RunId,
        token: agent_core::ClaimToken,
        end: agent_core::ClaimEnd,
    ) -> Result<bool, DeadLetterError> {
        self.settle.end().await?;
        self.inner.settle(tenant, run, token, end).await
    }

    async fn purge(&self, tenant: &TenantId, which: Purge) -> Result<usize, DeadLetterError> {
        self.inner.purge(tenant, which).await
    }
}

/// A store that only settles badly.
fn unsettling(settle: Settling) -> Arc<Failing> {
    Arc::new(Failing { inner: MemoryDeadLetters::new(), put: false, settle })
}

#[test]
fn a_store_that_fails_hides_neither_the_failure_nor_the_outcome() {
    paused(async {
        let (switch, tool) = (Switch::default(), refund());
        let store = Arc::new(Failing { inner: MemoryDeadLetters::new(), put: true, settle: Settling::fails(0) });
        let failure = desk(&switch, &tool, store).run("Refund A-1042.", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), failure.dead_letter), ("model.unavailable", None));
        let desk = desk(&switch, &tool, unsettling(Settling::fails(usize::MAX)));
        let run = desk.run("Refund A-1042.", caller()).await.unwrap_err().dead_letter.unwrap();
        switch.up.store(true, Ordering::Relaxed);
        let Err(ReplayError::Unsettled { outcome, .. }) = desk.replay(run, caller(), RunOptions::default()).await
        else {
            panic!("it was noted")
        };
        assert_eq!(outcome.to_string(), "It is refunded.");
        // Nobody repeats it meanwhile.
        let busy = desk.replay(run, Caller::new("acme", "ops").unwrap(), RunOptions::default()).await.unwrap_err();
        assert_eq!((busy.code().as_str(), tool.completed()), ("replay.busy", 1));
    });
}

#[test]
fn a_store_that_panics_is_one_that_fails() {
    paused(async {
        let (switch, tool, store) = (Switch::default(), refund(), Arc::new(Broken::default()));
        let desk = desk(&switch, &tool, store.clone());
        let run = desk.run("Refund A-1042.", caller()).await.unwrap_err().dead_letter.unwrap();
        switch.up.store(true, Ordering::Relaxed);
        // In the claim, and then already when the letter is read.
        for _ in 0..2 {
            let error = desk.replay(run, caller(), RunOptions::default()).await.unwrap_err();
            assert_eq!((error.code().as_str(), tool.completed()), ("dead_letters.failed", 0));
        }
        // In keeping what failed.
        switch.up.store(false, Ordering::Relaxed);
        let failure = desk.run("Refund A-1042.", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), failure.dead_letter), ("model.unavailable", None));
        store.is_broken.store(false, Ordering::Relaxed);
        assert_eq!(store.list(&caller().tenant, None, 10).await.unwrap().len(), 1);
    });
}

/// Replays a run with this store, and tells what came of it, as far as it came in time.
async fn replayed(letters: Arc<dyn DeadLetters>, model_is_up: bool, options: RunOptions) -> (RunId, String) {
    let switch = Switch::default();
    let desk = desk(&switch, &refund(), letters);
    let run = desk.run("Refund A-1042.", caller()).await.unwrap_err().dead_letter.unwrap();
    switch.up.store(model_is_up, Ordering::Relaxed);
    let end = match timeout(Duration::from_secs(60), desk.replay(run, caller(), options)).await {
        Ok(Ok(outcome)) => outcome.to_string(),
        Ok(Err(ReplayError::Failed(failure))) => format!("failed: {}", failure.code()),
        Ok(Err(ReplayError::Unsettled { outcome, source, .. })) => format!("{outcome} {}", source.code()),
        Ok(Err(error)) => format!("not replayed: {}", error.code()),
        Err(_) => "never".to_owned(),
    };
    (run, end)
}

/// Options of a run that is cancelled.
fn cancelled() -> RunOptions {
    let token = tokio_util::sync::CancellationToken::new();
    token.cancel();
    RunOptions::default().with_cancellation(token)
}

/// Keeps what is told as errors.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Reader(BTreeMap<String, String>);

        impl Visit for Reader {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0.insert(field.name().to_owned(), format!("{value:?}"));
            }
        }
        if *event.metadata().level() == tracing::Level::ERROR {
            let mut reader = Reader(BTreeMap::new());
            event.record(&mut reader);
            self.0.lock().unwrap().push(reader.0);
        }
    }
}

// Nothing else in this file tells these errors: the subscriber has to see each first.
#[test]
fn a_failed_replay_that_could_not_be_noted_has_failed_all_the_same() {
    let check = |settle: Settling, options: RunOptions, expected: &str, is_told: bool| {
        let errors = Errors::default();
        let subscriber = tracing_subscriber::registry().with(errors.clone());
        let (run, end) =
            tracing::subscriber::with_default(subscriber, || paused(replayed(unsettling(settle), false, options)));
        let run = run.to_string();
        let error = [("code", "dead_letters.failed"), ("message", "a dead letter was not settled"), ("run", &run)];
        let error = error.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let told = if is_told { vec![error] } else { Vec::new() };
        assert_eq!((end.as_str(), errors.0.lock().unwrap().clone()), (expected, told));
    };
    for settle in [|| Settling::fails(usize::MAX), || Settling::Hangs, || Settling::Panics] {
        check(settle(), cancelled(), "failed: run.cancelled", true);
        // What is a letter anew needs no settling.
        check(settle(), RunOptions::default(), "failed: model.unavailable", false);
    }
}

#[test]
fn what_came_of_a_replay_is_noted_by_a_store_that_fails_for_a_while() {
    paused(async {
        let check = async |model_is_up, options, expected: &str, is_open| {
            let letters = unsettling(Settling::fails(2));
            let (run, end) = replayed(letters.clone(), model_is_up, options).await;
            let status = letters.get(&caller().tenant, run).await.unwrap().unwrap().1;
            assert_eq!((end.as_str(), status == LetterStatus::Open), (expected, is_open), "{status:?}");
        };
        check(true, RunOptions::default(), "It is refunded.", false).await;
        check(true, cancelled(), "failed: run.cancelled", true).await;
        for settle in [Settling::Hangs, Settling::Panics] {
            let (_, end) = replayed(unsettling(settle), true, RunOptions::default()).await;
            assert_eq!(end, "It is refunded. dead_letters.failed");
        }
    });
}

#[test]
fn a_letter_with_nothing_to_go_on_from_is_given_back() {
    paused(async {
        let check = async |settle, expected: &str, is_open| {
            let (letters, run) = (unsettling(settle), RunId::random());
            let error = AgentError::Cancelled;
            let letter = DeadLetter::new(run, TaskId::random(), caller(), "desk", &error);
            letters.put(letter).await.unwrap();
            let desk = desk(&Switch::default(), &refund(), letters.clone());
            let replayed = timeout(Duration::from_secs(60), desk.replay(run, caller(), RunOptions::default())).await;
            let status = letters.get(&caller().tenant, run).await.unwrap().unwrap().1;
            let code = replayed.map(|replayed| replayed.unwrap_err().code());
            assert_eq!(
                (code.map(|code| code.as_str().to_owned()), status == LetterStatus::Open),
                (Ok(expected.to_owned()), is_open)
            );
        };
        check(Settling::fails(2), "replay.nothing_to_go_on_from", true).await;
        check(Settling::fails(usize::MAX), "dead_letters.failed", false).await;
        check(Settling::Hangs, "dead_letters.failed", false).await;
        check(Settling::Panics, "dead_letters.failed", false).await;
    });
}

#[test]
fn attempts_of_a_replayed_run_stand_in_its_provenance() {
    paused(async {
        let model = ScriptedModel::new([Line::fails(ModelErrorClass::Auth), Line::text("Yes.")]);
        let desk = MainAgent::builder("desk", model).dead_letters(MemoryDeadLetters::new()).build().unwrap();
        let run = desk.run("Well?", caller()).await.unwrap_err().dead_letter.unwrap();
        let report = desk.replay(run, caller(), RunOptions::default()).await.unwrap().into_report().unwrap();
        let ends: Vec<String> = report.provenance.attempts.iter().map(|one| format!("{:?}", one.end)).collect();
        assert_eq!(ends, ["Failed(Auth)", "Answered"]);
    });
}
