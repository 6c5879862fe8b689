//! A support desk with three Sub-Agents. It needs no key, server or network.
//!
//! ```text
//! cargo run --example quickstart -- "Where is order A-1042, and how long may I take to return it?"
//! cargo run --example quickstart -- "Refund order A-1042, the screen is cracked"     # stops, and shows what waits
//! cargo run --example quickstart -- --approve                                        # goes on, in another process
//! ```
//!
//! `--help` lists the options.
// An example talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod desk;
mod waiting;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use adjutant::agent_core::{Event, Observer};
use adjutant::{Caller, MainAgent, Request, Resume, RunOptions, RunOutcome, RunState};

use self::arguments::{Arguments, HELP};
use self::waiting::Waiting;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if arguments.help {
        println!("{HELP}");
        return Ok(());
    }
    let waiting = Waiting::in_folder(&arguments.state)?;
    let desk = desk::builder(&arguments.data, &arguments.state.join("refunds.csv"))?.build()?;
    let outcome = match &arguments.request {
        Some(text) => {
            tell(&arguments, &format!("> {text}"));
            let request = Request::new(text.as_str()).with_options(options(&arguments));
            desk.run(request, Caller::new("acme", "ann")?).await?
        }
        None => answer(&desk, waiting.find(arguments.run.as_deref())?, &arguments, &waiting).await?,
    };
    conclude(&desk, outcome, &arguments, &waiting).await
}

/// Prints how a run ended. What waits is kept, and answered if the command line has an answer.
async fn conclude(
    desk: &MainAgent,
    mut outcome: RunOutcome,
    arguments: &Arguments,
    waiting: &Waiting,
) -> Result<(), Box<dyn Error>> {
    loop {
        tell(arguments, &outcome.to_string());
        let RunOutcome::Suspended(suspended) = outcome else { return Ok(()) };
        waiting.keep(&suspended.state)?;
        if arguments.verdict.is_none() {
            let run = suspended.state.run_id();
            let command = "cargo run --example quickstart -- --approve --run";
            tell(arguments, &format!("Go on with: {command} {run}   (or --deny)"));
            return Ok(());
        }
        outcome = answer(desk, suspended.state, arguments, waiting).await?;
    }
}

/// Answers everything that a run waits for as the command line says.
async fn answer(
    desk: &MainAgent,
    state: RunState,
    arguments: &Arguments,
    waiting: &Waiting,
) -> Result<RunOutcome, Box<dyn Error>> {
    let verdict = arguments.verdict.as_ref().ok_or("say --approve or --deny")?;
    // The customer who asked for a refund may not approve it: somebody else of the tenant does.
    let resume = Resume::new(state.clone(), Caller::new("acme", "sam")?).with_options(options(arguments));
    let resume =
        state.pending().iter().fold(resume, |resume, pending| resume.with_answer(&pending.id, verdict.clone()));
    let outcome = desk.resume(resume).await?;
    // What waits again is kept in its place.
    if let RunOutcome::Completed(_) = outcome {
        waiting.forget(&state)?;
    }
    Ok(outcome)
}

/// Words for people. They leave the standard output to the events, where those are asked for.
fn tell(arguments: &Arguments, words: &str) {
    if arguments.events { eprintln!("{words}") } else { println!("{words}") }
}

fn options(arguments: &Arguments) -> RunOptions {
    let options = RunOptions::default();
    if arguments.events { options.with_observer(PrintEvents) } else { options }
}

/// Prints each event as a line of JSON.
struct PrintEvents;

impl Observer for PrintEvents {
    fn observe(&self, event: &Event) {
        match serde_json::to_string(event) {
            // Whoever reads may have read enough.
            Ok(line) => drop(writeln!(std::io::stdout(), "{line}")),
            Err(error) => eprintln!("an event does not serialise: {error}"),
        }
    }
}
