//! Dead letters: both stores keep the rules, and the file survives crashes, damage and other processes.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod compaction;
mod damage;
mod format;
mod processes;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, DeadLetter, DeadLetters, FileDeadLetters, LetterStatus, MainAgent, MemoryDeadLetters, ModelErrorClass,
    RunId, TaskId, TenantId,
};
use tempfile::TempDir;
use testkit::{Line, ScriptedModel, caller, conformance};

const HOUR: Duration = Duration::from_secs(3600);

fn acme() -> TenantId {
    caller().tenant
}

fn bare(run: RunId) -> DeadLetter {
    DeadLetter::new(run, TaskId::random(), caller(), "desk", &AgentError::TurnLimit { turns: 16 })
}

/// The letter of a run whose model failed.
async fn failed(run: RunId, asked: &str) -> DeadLetter {
    let model = ScriptedModel::new([Line::fails(ModelErrorClass::Unavailable)]);
    let failure = MainAgent::builder("desk", model).build().unwrap().run(asked, caller()).await.unwrap_err();
    DeadLetter::new(run, TaskId::random(), caller(), "desk", &failure.error)
        .with_attempts(failure.attempts)
        .with_spent(failure.spent)
        .with_state(failure.state.unwrap())
}

/// A directory that ends with the test, and a file in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dead_letters.jsonl");
    (directory, path)
}

async fn open(path: &Path) -> FileDeadLetters {
    FileDeadLetters::open(path).await.unwrap()
}

/// The runs that are listed, and how often each failed.
async fn listed(store: &dyn DeadLetters) -> Vec<(RunId, u32)> {
    let all = store.list(&acme(), None, usize::MAX).await.unwrap();
    all.iter().map(|summary| (summary.run_id, summary.failures)).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

mod suites {
    use super::{Arc, Duration, FileDeadLetters, MemoryDeadLetters, conformance, open, place};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory() {
        conformance::dead_letters(async || MemoryDeadLetters::new()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn file() {
        let (_directory, path) = place();
        conformance::durable_dead_letters(async || open(&path).await).await;
    }

    #[tokio::test(start_paused = true)]
    async fn file_on_one_thread_while_the_clock_stands() {
        let (_directory, path) = place();
        conformance::dead_letters(async || open(&path).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_is_compacted_again_and_again() {
        let (_directory, path) = place();
        let compacted: FileDeadLetters = open(&path).await;
        let compacting = tokio::spawn(async move {
            loop {
                compacted.compact().await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        conformance::durable_dead_letters(async || Arc::new(open(&path).await)).await;
        compacting.abort();
    }
}

#[tokio::test]
async fn a_letter_tells_why_a_run_failed_and_no_conversation() {
    let letter = failed(RunId::random(), "my secret").await;
    assert_eq!(letter.code.as_str(), "model.unavailable");
    assert_eq!(letter.attempts.len(), 1);
    assert!(letter.state.is_some());
    assert!(!format!("{letter:?}").contains("my secret"));
    assert!(serde_json::to_string(&letter).unwrap().contains("my secret"));
}

#[tokio::test]
async fn a_file_that_vanishes_is_made_anew() {
    let (_directory, path) = place();
    let (store, run) = (open(&path).await, RunId::random());
    store.put(bare(run)).await.unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(listed(&store).await, []);
    store.put(bare(run)).await.unwrap();
    assert_eq!(listed(&open(&path).await).await, [(run, 1)]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error() {
    let (directory, _) = place();
    for path in [directory.path().to_owned(), directory.path().join("nowhere/dead_letters.jsonl")] {
        let error = FileDeadLetters::open(path).await.unwrap_err();
        assert_eq!((error.code().as_str(), error.retryable()), ("dead_letters.failed", true));
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;

    let (directory, path) = place();
    let link = directory.path().join("link");
    let store = open(&path).await;
    store.put(bare(RunId::random())).await.unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    open(&link).await.compact().await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "a link stays one");
    for entry in ["dead_letters.jsonl", "dead_letters.jsonl.lock"] {
        let mode = fs::metadata(directory.path().join(entry)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry}");
    }
    assert_eq!(listed(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_is_done_or_not() {
    let (_directory, path) = place();
    let store = open(&path).await;
    let mut kept = 0;
    for micros in (0..2_000).step_by(100) {
        let run = RunId::random();
        let _ = tokio::time::timeout(Duration::from_micros(micros), store.put(failed(run, "Go").await)).await;
        match store.get(&acme(), run).await.unwrap() {
            Some((letter, status)) => {
                kept += 1;
                assert_eq!((letter.failures, status, letter.state.is_some()), (1, LetterStatus::Open, true));
            }
            None => store.put(bare(run)).await.unwrap(),
        }
    }
    assert_eq!(listed(&open(&path).await).await.len(), 20);
    assert!(kept <= 20);
}
