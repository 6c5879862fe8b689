//! CPU time of a call through the gateway adapter, beside a bare HTTP client and two other SDKs, in one run.
//!
//! `cargo xtask peers gateway`. The server is a process of its own, so that its time is not counted.
// A benchmark talks to a terminal.
#![allow(clippy::print_stdout)]

mod harness;
mod sides;
mod upstream;

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, ensure};

use crate::harness::Comparison;
use crate::upstream::{CHUNKS, SHORT, STREAM, WORDS};

fn main() -> anyhow::Result<ExitCode> {
    let serves = std::env::args().nth(1).as_deref() == Some("serve");
    harness::stay_on_core(usize::from(serves))?;
    if serves {
        upstream::serve()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut server =
        Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    BufReader::new(server.stdout.take().context("it is piped")?).read_line(&mut address)?;
    let within = compare(address.trim());
    server.kill()?;
    Ok(if within? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(address: &str) -> anyhow::Result<bool> {
    // Some of the others look for the process's own provider of TLS, though nothing here is encrypted.
    ensure!(rustls::crypto::ring::default_provider().install_default().is_ok(), "no provider is installed yet");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("CPU time of the client's thread, medians of blocks that alternate, microseconds a call\n");

    let short = Comparison::new("a short answer", address, SHORT, 1, &runtime)?;
    short.print();
    let compatible_ok = short.is_at_most("compatible", 1.10, "bare");
    let short_ok = short.is_at_most("adjutant", 1.10, "bare, who asks");

    let words = Comparison::new("a streamed short answer", address, WORDS, 12, &runtime)?;
    words.print();

    let stream = Comparison::new("a stream of 1,000 chunks", address, STREAM, CHUNKS, &runtime)?;
    stream.print();
    let beyond = (stream.median("adjutant") - stream.median("bytes")) / CHUNKS as f64;
    let beyond_ok = beyond <= 2.0;
    println!("adjutant beyond bytes: {beyond:.2} us a chunk, at most 2.00{}", verdict(beyond_ok));
    let peer_ok = stream.is_at_most("adjutant", 0.80, "async-openai");
    Ok(compatible_ok && short_ok && beyond_ok && peer_ok)
}

fn verdict(holds: bool) -> &'static str {
    if holds { "" } else { "   EXCEEDED" }
}
