//! The file is written anew while others have it open.

use std::fs;

use agent_core::{Claim, ClaimEnd, DeadLetters, Purge, RunId};

use super::{HOUR, acme, bare, failed, lines, listed, open, place};

#[tokio::test]
async fn compacting_leaves_nothing_of_what_is_over() {
    let (directory, path) = place();
    let (store, other) = (open(&path).await, open(&path).await);
    let [kept, claimed, replayed, purged] = [(); 4].map(|()| RunId::random());
    for run in [kept, kept, claimed, replayed, purged] {
        store.put(failed(run, if run == purged { "my secret" } else { "Go" }).await).await.unwrap();
    }
    let Claim::Taken { token, .. } = other.claim(&acme(), claimed, HOUR).await.unwrap() else { panic!("not taken") };
    let Claim::Taken { token: done, .. } = store.claim(&acme(), replayed, HOUR).await.unwrap() else {
        panic!("not taken")
    };
    assert!(store.settle(&acme(), replayed, done, ClaimEnd::Replayed).await.unwrap());
    store.purge(&acme(), Purge::One(purged)).await.unwrap();
    let before = other.list(&acme(), None, 10).await.unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("my secret"));
    // One that a crash left.
    fs::write(directory.path().join("dead_letters.jsonl.compacting"), "half").unwrap();

    store.compact().await.unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("my secret"));
    // The first line, three letters, a claim and an end.
    assert_eq!(lines(&path), 6);
    let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dead_letters.jsonl", "dead_letters.jsonl.lock"]);

    // The other one had the old file open.
    for store in [&store, &other, &open(&path).await] {
        assert_eq!(store.list(&acme(), None, 10).await.unwrap(), before);
        assert!(matches!(store.claim(&acme(), claimed, HOUR).await.unwrap(), Claim::Busy { .. }));
        assert_eq!(store.claim(&acme(), replayed, HOUR).await.unwrap(), Claim::Replayed);
    }
    assert!(other.settle(&acme(), claimed, token, ClaimEnd::GivenBack).await.unwrap());
    other.put(bare(kept)).await.unwrap();
    assert_eq!(listed(&store).await.first(), Some(&(kept, 3)));
    assert_eq!(lines(&path), 8);
}
