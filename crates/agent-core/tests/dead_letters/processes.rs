//! Processes that share a file.

use std::path::Path;
use std::process::{Command, Stdio};

use agent_core::{Claim, DeadLetters, LetterStatus, RunId};

use super::{HOUR, acme, bare, listed, open, place};

/// How many letters the processes claim.
const LETTERS: usize = 20;

/// What each process does: claims every letter and prints those that it got.
#[tokio::test]
#[ignore = "run by `of_several_processes_exactly_one_claims`, as processes of their own"]
async fn a_process_that_claims() {
    let Some(path) = std::env::var_os("DEAD_LETTERS") else { return };
    let store = open(Path::new(&path)).await;
    let mut taken = 0;
    for (run, _) in listed(&store).await {
        if matches!(store.claim(&acme(), run, HOUR).await.unwrap(), Claim::Taken { .. }) {
            taken += 1;
            if taken % 4 == 0 {
                store.compact().await.unwrap();
            }
        }
    }
    println!("\ntaken={taken}");
}

#[tokio::test]
async fn of_several_processes_exactly_one_claims() {
    let (_directory, path) = place();
    let store = open(&path).await;
    for _ in 0..LETTERS {
        store.put(bare(RunId::random())).await.unwrap();
    }
    let process = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::a_process_that_claims", "--ignored", "--nocapture", "--test-threads=1"])
            .env("DEAD_LETTERS", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..4).map(|_| process()).collect();
    let mut taken = 0;
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let count = printed.lines().find_map(|line| line.strip_prefix("taken=")).expect("a process that claims");
        taken += count.parse::<usize>().unwrap();
    }
    assert_eq!(taken, LETTERS);
    let all = store.list(&acme(), None, usize::MAX).await.unwrap();
    assert!(all.iter().all(|summary| matches!(summary.status, LetterStatus::Claimed { .. })));
}
