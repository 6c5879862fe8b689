//! Developer tasks: `cargo xtask TASK`. Run without a task for the list.
// A task talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod backends;
mod deps;

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "tasks:
  deps               checks what the default build pulls in: how many packages, no C compiler, no HTTP client
  backends NAME [-- COMMAND ..]
                     installs and starts real servers below target/backends, and runs COMMAND with them in its environment, or
                     waits until the standard input ends; NAME is litellm, litellm-fallbacks, or minilm, which is files only
  integration litellm
                     the gateway adapter and plans of fallbacks against a real LiteLLM and a real model, with their tables
  integration minilm the embedder against the real weights of all-MiniLM-L6-v2 and reference values (release build)
  soak properties    100,000 cases of the run's property test (ADJUTANT_CASES sets another number)
  soak drops         the drop tests of the run, 200 times
  soak graphs        2,000 random graphs, each run in three ways (ADJUTANT_CASES sets another number)
  soak fallback      10,000 scripts of failures for each invariant of the plan of fallbacks (ADJUTANT_CASES likewise)
  soak decoder       1,000,000 streams of the gateway adapter's decoder, each split in several ways (ADJUTANT_CASES likewise)
  soak outage        a plan of two upstreams of which one goes down under load, 200 requests a second; then, at 20 a second, beside
                     the fallbacks of a real LiteLLM (release build, some three minutes)
  peers rig          speed and memory of the core beside rig (release build, some minutes)
  peers gateway      CPU time of the gateway adapter beside bare reqwest, async-openai and rig (likewise)
  peers langgraph    CPU time of graphs beside LangGraph, which is installed from PyPI (likewise)
  peers routing      CPU time of a routing decision beside semantic-router, which is installed from PyPI (likewise)
  peers              all of them";

const INTEGRATION: &[&str] = &[
    "test",
    "--locked",
    "-p",
    "adjutant-model-litellm",
    "--test",
    "litellm",
    "--test",
    "litellm_fallback",
    "--",
    "--nocapture",
    "--test-threads=1",
];

const MINILM: &[&str] = &[
    "test",
    "--release",
    "--locked",
    "-p",
    "adjutant-embedder-minilm",
    "--test",
    "minilm",
    "--",
    "--nocapture",
    "--test-threads=1",
];

/// The name of a test follows.
const OUTAGE: &[&str] = &[
    "test",
    "--release",
    "--locked",
    "-p",
    "adjutant-model-litellm",
    "--test",
    "outage",
    "--",
    "--nocapture",
    "--ignored",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["deps"] => deps::check(),
        ["backends", name] => backends::with(name, None),
        ["backends", name, "--", program, arguments @ ..] => {
            backends::with(name, Some(Command::new(program).args(arguments)))
        }
        ["integration", "litellm"] => backends::with("litellm", Some(&mut cargo_command(INTEGRATION))),
        ["integration", "minilm"] => backends::with("minilm", Some(&mut cargo_command(MINILM))),
        ["soak", "properties"] => soak(100_000, &["-p", "adjutant-agent-core", "--test", "properties"]),
        ["soak", "graphs"] => soak(2_000, &["--release", "-p", "adjutant-agent-core", "--test", "graph_properties"]),
        ["soak", "fallback"] => soak(10_000, &["--release", "-p", "adjutant-agent-router", "--test", "fallback"]),
        ["soak", "decoder"] => soak(1_000_000, &["--release", "-p", "adjutant-model-litellm", "--test", "decoder"]),
        ["soak", "outage"] => cargo(&[OUTAGE, &["two_hundred"]].concat()).and_then(|()| {
            backends::with("litellm-fallbacks", Some(&mut cargo_command(&[OUTAGE, &["litellm"]].concat())))
        }),
        ["soak", "drops"] => (0..200).try_for_each(|_| {
            cargo(&[
                "test",
                "--quiet",
                "-p",
                "adjutant-agent-core",
                "--test",
                "cancel",
                "--test",
                "stopped",
                "--test",
                "repeats",
            ])
        }),
        ["peers", name @ ("rig" | "gateway" | "langgraph" | "routing")] => peers(name),
        ["peers"] => ["rig", "gateway", "langgraph", "routing"].into_iter().try_for_each(peers),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a property test with so many cases, or as many as the environment says.
fn soak(cases: u32, test: &[&str]) -> Result<(), Box<dyn Error>> {
    let cases = std::env::var("ADJUTANT_CASES").unwrap_or_else(|_| cases.to_string());
    succeed(cargo_command(&[&["test"], test].concat()).env("ADJUTANT_CASES", &cases))?;
    println!("{cases} cases held");
    Ok(())
}

/// The comparison in this folder of `benches/peers`.
fn peers(name: &str) -> Result<(), Box<dyn Error>> {
    let manifest = format!("benches/peers/{name}/Cargo.toml");
    let mut command = cargo_command(&["run", "--release", "--locked", "--manifest-path", &manifest]);
    let python = match name {
        "langgraph" => Some(("langgraph-1.2.24", include_str!("../backends/langgraph.txt"))),
        "routing" => Some(("semantic-router-1.1.1", include_str!("../backends/semantic-router.txt"))),
        _ => None,
    };
    if let Some((environment, packages)) = python {
        command.arg("--").arg(backends::python(environment, packages)?);
    }
    succeed(&mut command)
}

fn cargo(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    succeed(&mut cargo_command(arguments))
}

/// The cargo that runs this task, in the project's root.
fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The project's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn succeed(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
