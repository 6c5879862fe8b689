//! The two usual mistakes with functions get a message that says what to do.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[test]
fn usual_mistakes_are_explained() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/compile_fail/*.rs");
}
