//! The command line.

use std::path::PathBuf;

use adjutant::AnswerValue;

/// What `--help` says.
pub(crate) const HELP: &str = "\
cargo run --example quickstart -- [OPTIONS] [REQUEST]

Asks a support desk, or answers what waits from an earlier request.

  --approve, --deny   answer what waits, in this command or a later one
  --run RUN           which run, when several wait
  --events            print the events as JSON lines, and all else to the standard error
  --data DIR          other orders and policies
  --state DIR         keep what waits, and the refunds, elsewhere
  --                  what follows is the request

Rules answer, unless LITELLM_BASE_URL, LITELLM_MODEL and LITELLM_API_KEY name a model behind a gateway (--features litellm).";

/// What is asked when nothing else is.
const SAMPLE: &str = "Where is order A-1042, and how long may I take to return it?";

pub(crate) struct Arguments {
    pub(crate) help: bool,
    /// `None` to answer what waits from an earlier command.
    pub(crate) request: Option<String>,
    pub(crate) verdict: Option<AnswerValue>,
    /// Which run the verdict is about, when several wait.
    pub(crate) run: Option<String>,
    pub(crate) events: bool,
    pub(crate) data: PathBuf,
    pub(crate) state: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut parsed = Self {
            help: false,
            request: None,
            verdict: None,
            run: None,
            events: false,
            data: root.join("examples/quickstart/data"),
            state: root.join("target/quickstart"),
        };
        let mut words: Vec<String> = Vec::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => parsed.help = true,
                "--approve" => parsed.decide(AnswerValue::Approve)?,
                "--deny" => parsed.decide(AnswerValue::Deny("the supervisor said no".to_owned()))?,
                "--run" => parsed.run = Some(value()?),
                "--events" => parsed.events = true,
                "--data" => parsed.data = value()?.into(),
                "--state" => parsed.state = value()?.into(),
                "--" => words.extend(arguments.by_ref()),
                option if option.starts_with("--") => return Err(format!("unknown option {option}\n\n{HELP}")),
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
    fn decide(&mut self, verdict: AnswerValue) -> Result<(), String> {
        match self.verdict.replace(verdict) {
            None => Ok(()),
            Some(_) => Err("say --approve or --deny once".to_owned()),
        }
    }
}
