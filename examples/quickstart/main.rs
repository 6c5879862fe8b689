//! A support desk with three Sub-Agents. It needs no key, server or network.
//!
//! ```text
//! cargo run --example quickstart -- "Where is order A-1042, and how long may I take to return it?"
//! cargo run --example quickstart -- "Refund order A-1042, the screen is cracked"     # stops, and shows what waits
//! cargo run --example quickstart -- --approve                                        # goes on, in another process
//! ```
//!
//! `--approve` and `--deny` answer what waits, in the same command or a later one. `--events` prints the events as JSON lines.
//! `--data DIR` reads other orders and policies; `--state DIR` keeps what waits elsewhere.
// An example talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arguments;
mod desk;
mod waiting;

use std::error::Error;
use std::process::ExitCode;

use adjutant::agent_core::{Event, Observer};
use adjutant::{Caller, MainAgent, Request, Resume, RunOptions, RunOutcome, RunState};

use self::arguments::Arguments;
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
    let waiting = Waiting::in_folder(&arguments.state)?;
    let desk = desk::build(&arguments.data, &arguments.state.join("refunds.csv"))?;
    match &arguments.request {
        Some(text) => {
            println!("> {text}");
            let request = Request::new(text.as_str()).with_options(options(&arguments));
            let outcome = desk.run(request, Caller::new("acme", "ann")?).await?;
            conclude(&desk, outcome, &arguments, &waiting).await
        }
        None => {
            let outcome = answer(&desk, waiting.take()?, &arguments, &waiting).await?;
            conclude(&desk, outcome, &arguments, &waiting).await
        }
    }
}

/// Prints how a run ended. What waits is answered, if the command line has an answer, or kept for a later command.
async fn conclude(
    desk: &MainAgent,
    mut outcome: RunOutcome,
    arguments: &Arguments,
    waiting: &Waiting,
) -> Result<(), Box<dyn Error>> {
    loop {
        println!("{outcome}");
        let RunOutcome::Suspended(suspended) = outcome else { return Ok(()) };
        if arguments.verdict.is_none() {
            waiting.keep(&suspended.state)?;
            println!("Go on with: cargo run --example quickstart -- --approve   (or --deny)");
            return Ok(());
        }
        outcome = answer(desk, suspended.state, arguments, waiting).await?;
    }
}

/// Answers everything that a run waits for as the command line says. A failure puts the state back: nothing is lost.
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
    match desk.resume(resume).await {
        Ok(outcome) => Ok(outcome),
        Err(failure) => {
            waiting.keep(failure.state.as_ref().unwrap_or(&state))?;
            Err(failure.into())
        }
    }
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
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("an event does not serialise: {error}"),
        }
    }
}
