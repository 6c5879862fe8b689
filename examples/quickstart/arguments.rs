//! The command line.

use std::path::PathBuf;

use adjutant::AnswerValue;

/// What is asked when nothing else is.
const SAMPLE: &str = "Where is order A-1042, and how long may I take to return it?";

pub(crate) struct Arguments {
    /// `None` to answer what waits from an earlier command.
    pub(crate) request: Option<String>,
    pub(crate) verdict: Option<AnswerValue>,
    pub(crate) events: bool,
    pub(crate) data: PathBuf,
    pub(crate) state: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut parsed = Self {
            request: None,
            verdict: None,
            events: false,
            data: root.join("examples/quickstart/data"),
            state: root.join("target/quickstart"),
        };
        let mut words: Vec<String> = Vec::new();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut folder = || arguments.next().map(PathBuf::from).ok_or(format!("{argument} needs a folder"));
            match argument.as_str() {
                "--approve" => parsed.verdict = Some(AnswerValue::Approve),
                "--deny" => parsed.verdict = Some(AnswerValue::Deny("the supervisor said no".to_owned())),
                "--events" => parsed.events = true,
                "--data" => parsed.data = folder()?,
                "--state" => parsed.state = folder()?,
                option if option.starts_with("--") => return Err(format!("unknown option {option}")),
                _ => words.push(argument),
            }
        }
        parsed.request = match (words.is_empty(), &parsed.verdict) {
            (false, _) => Some(words.join(" ")),
            (true, None) => Some(SAMPLE.to_owned()),
            (true, Some(_)) => None,
        };
        Ok(parsed)
    }
}
