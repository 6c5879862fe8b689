//! The file's format, version 1.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_core::{AgentError, Claim, ClaimEnd, DeadLetter, DeadLetters, LetterStatus, Purge, RunId, TaskId};
use testkit::somebody;

use super::{HOUR, acme, bare, failed, open, place};

/// Written once, and read for ever: `ADJUTANT_WRITE_FIXTURES=1` writes it if it is missing.
#[tokio::test]
async fn the_file_of_version_1_is_read_for_ever() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dead_letters_v1.jsonl");
    if !fixture.exists() && std::env::var_os("ADJUTANT_WRITE_FIXTURES").is_some() {
        write_fixture(&fixture).await;
    }
    let (_directory, path) = place();
    fs::copy(&fixture, &path).unwrap();
    let store = open(&path).await;
    let all = store.list(&acme(), None, 10).await.unwrap();
    let told: Vec<_> = all.iter().map(|one| (&*one.agent, one.code.as_str(), one.failures, one.status)).collect();
    let LetterStatus::Replayed { at } = told[1].3 else { panic!("{told:?}") };
    assert_eq!(
        told,
        [
            ("desk", "model.unavailable", 2, LetterStatus::Open),
            ("desk", "run.turn_limit", 1, LetterStatus::Replayed { at }),
            ("desk", "run.turn_limit", 1, LetterStatus::Claimed { until: u64::MAX }),
            ("desk", "run.turn_limit", 1, LetterStatus::Open),
        ]
    );
    let (letter, _) = store.get(&acme(), all[0].run_id).await.unwrap().unwrap();
    assert_eq!((letter.caller.user.as_str(), letter.caller.roles.len()), ("ann", 1));
    assert_eq!((letter.attempts.len(), letter.spent.model_calls), (1, 1));
    assert!(letter.state.as_ref().unwrap().is_runnable());
    // Written back as it was.
    let text = fs::read_to_string(&fixture).unwrap();
    let written = serde_json::to_string(&letter).unwrap();
    assert!(text.lines().any(|line| line.contains(&written)), "{written}");
    // What was purged is not there, and another tenant's letter is another tenant's.
    assert_eq!(all.len(), 4);
    let other = somebody("other", "bob").tenant;
    assert_eq!(store.list(&other, None, 10).await.unwrap().len(), 1);
}

async fn write_fixture(path: &Path) {
    let store = open(path).await;
    let [first, replayed, claimed, given_back, purged] = [(); 5].map(|()| RunId::random());
    let mut letter = failed(first, "Refund A-1042").await;
    letter.caller = letter.caller.with_role("agent").unwrap();
    for letter in [letter.clone(), letter, bare(replayed), bare(claimed), bare(given_back), bare(purged)] {
        store.put(letter).await.unwrap();
    }
    for (run, end) in [(replayed, ClaimEnd::Replayed), (given_back, ClaimEnd::GivenBack)] {
        let Claim::Taken { token, .. } = store.claim(&acme(), run, HOUR).await.unwrap() else { panic!("not taken") };
        assert!(store.settle(&acme(), run, token, end).await.unwrap());
    }
    store.claim(&acme(), claimed, Duration::MAX).await.unwrap();
    store.purge(&acme(), Purge::One(purged)).await.unwrap();
    let bob = somebody("other", "bob");
    let error = AgentError::TurnLimit { turns: 1 };
    store.put(DeadLetter::new(first, TaskId::random(), bob, "desk", &error)).await.unwrap();
    fs::remove_file(path.with_extension("jsonl.lock")).unwrap();
}
