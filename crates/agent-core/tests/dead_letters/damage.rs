//! What a crash or a damage leaves of the file.

use std::fs;

use agent_core::{DeadLetterError, DeadLetters, FileDeadLetters, Purge, RunId};

use super::{HOUR, acme, append, bare, failed, lines, listed, open, place};

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_no_line() {
    let (_directory, path) = place();
    let (kept, lost) = (RunId::random(), RunId::random());
    open(&path).await.put(failed(kept, "Go").await).await.unwrap();
    let whole = fs::read(&path).unwrap();
    open(&path).await.put(bare(lost)).await.unwrap();
    let both = fs::read(&path).unwrap();
    // After every byte of the second letter, the last one being its line's end; and of the first two lines.
    for cut in (1..both.len()).filter(|cut| *cut < 80 || *cut > whole.len()) {
        fs::write(&path, &both[..cut]).unwrap();
        let store = open(&path).await;
        let expected = if cut < whole.len() { vec![] } else { vec![(kept, 1)] };
        assert_eq!(listed(&store).await, expected, "cut after {cut} bytes");
        // Looking changes nothing; the next operation cuts it off.
        assert_eq!(fs::read(&path).unwrap(), both[..cut]);
        if cut % 16 == 0 {
            store.put(bare(lost)).await.unwrap();
            let expected: Vec<_> = expected.into_iter().chain([(lost, 1)]).collect();
            assert_eq!(listed(&store).await, expected, "cut after {cut} bytes");
            assert_eq!(listed(&open(&path).await).await, expected, "cut after {cut} bytes");
        }
    }
}

#[tokio::test]
async fn a_line_that_is_cut_short_while_the_file_is_open_is_no_line() {
    let (_directory, path) = place();
    let (store, run) = (open(&path).await, RunId::random());
    store.put(bare(run)).await.unwrap();
    append(&path, b"{\"format\":1,\"op\":{\"purge\":{\"tenant\":\"acme\",\"run_");
    assert_eq!(listed(&store).await, [(run, 1)]);
    store.put(bare(run)).await.unwrap();
    assert_eq!(listed(&store).await, [(run, 2)]);
    assert_eq!(listed(&open(&path).await).await, [(run, 2)]);
}

/// Puts two letters, damages the file, and expects every operation to fail like this and to leave the file as it is.
async fn check_damage(damage: impl Fn(String) -> String, code: &str, message: &str) {
    let (_directory, path) = place();
    let (store, run) = (open(&path).await, RunId::random());
    store.put(bare(run)).await.unwrap();
    store.put(bare(RunId::random())).await.unwrap();
    let damaged = damage(fs::read_to_string(&path).unwrap());
    fs::write(&path, &damaged).unwrap();
    let check = |result: Result<(), DeadLetterError>| {
        let error = result.unwrap_err();
        assert_eq!((error.code().as_str(), error.to_string().as_str(), error.retryable()), (code, message, false));
        let whole = format!("{error:?}");
        assert!(!whole.contains("my secret"), "{whole}");
    };
    check(FileDeadLetters::open(&path).await.map(drop));
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
}

#[tokio::test]
async fn a_damaged_line_is_named_and_nothing_is_overwritten() {
    let unreadable = "dead_letters.unreadable";
    let line_2 = "line 2 of the file of dead letters cannot be read";
    check_damage(|text| text.replacen("{\"put\"", "{\"my secret\"", 1), unreadable, line_2).await;
    check_damage(|text| text.replacen("\"acme\"", "\"my secret\\u0000\"", 1), unreadable, line_2).await;
    check_damage(|text| text.replacen("}\n{", "}\nmy secret\n{", 1), unreadable, line_2).await;
    check_damage(|text| text.replacen("}\n{", "}\n\n{", 1), unreadable, line_2).await;
    let line_4 = "line 4 of the file of dead letters cannot be read";
    check_damage(|text| text + "my secret\n", unreadable, line_4).await;
    check_damage(|text| text.lines().next().unwrap().to_owned() + "\n" + &text, unreadable, line_2).await;
    let line_1 = "line 1 of the file of dead letters cannot be read";
    check_damage(|_| "my secret: another file".into(), unreadable, line_1).await;
    check_damage(|text| text.split_once('\n').unwrap().1.into(), unreadable, line_1).await;
    let later = "line 3 of the file of dead letters has format 2, expected 1";
    let newer = |text: String| {
        let at = text.rfind("\"format\":1").unwrap();
        format!("{}\"format\":2,\"op\":{{\"my secret\":0}}}}\n", &text[..at])
    };
    check_damage(newer, "dead_letters.unknown_format", later).await;
}

#[tokio::test]
async fn damage_that_comes_while_the_file_is_open_stops_every_operation() {
    let (_directory, path) = place();
    let (store, run) = (open(&path).await, RunId::random());
    store.put(bare(run)).await.unwrap();
    append(&path, b"not a line\n");
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let codes = [
            store.put(bare(run)).await.map_err(|error| error.code()).err(),
            store.list(&acme(), None, 1).await.map_err(|error| error.code()).err(),
            store.get(&acme(), run).await.map_err(|error| error.code()).err(),
            store.claim(&acme(), run, HOUR).await.map_err(|error| error.code()).err(),
            store.purge(&acme(), Purge::All).await.map_err(|error| error.code()).err(),
            store.compact().await.map_err(|error| error.code()).err(),
        ];
        assert!(codes.iter().flatten().filter(|code| code.as_str() == "dead_letters.unreadable").count() == 6);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_letter_whose_state_cannot_be_read_is_listed_and_not_claimed() {
    let (_directory, path) = place();
    let (store, run) = (open(&path).await, RunId::random());
    store.put(failed(run, "Go").await).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"state\":{\"format\":1", "\"state\":{\"format\":9")).unwrap();
    let store = open(&path).await;
    assert_eq!(listed(&store).await, [(run, 1)]);
    let error = store.claim(&acme(), run, HOUR).await.unwrap_err();
    assert!(matches!(error, DeadLetterError::Unreadable { line: 2 }), "{error}");
    store.compact().await.unwrap();
    assert_eq!(lines(&path), 2);
    assert_eq!(store.purge(&acme(), Purge::One(run)).await.unwrap(), 1);
}
