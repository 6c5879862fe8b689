//! Real servers and models for integration tests: installed below `target/backends`, started on free ports of loopback, stopped at the end.

mod litellm;
mod minilm;
mod service;
mod venv;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use self::service::Service;
use super::succeed;

/// Servers that run, and the environment in which tests find them.
struct Running {
    environment: BTreeMap<&'static str, String>,
    /// Stopped in their order.
    _services: Vec<Service>,
}

/// Starts the backends of this name and runs `command` with them, or waits until the standard input ends.
pub(super) fn with(name: &str, command: Option<&mut Command>) -> Result<(), Box<dyn Error>> {
    let running = match name {
        "litellm" => litellm::start()?,
        "litellm-fallbacks" => litellm::start_with_fallbacks()?,
        "minilm" => minilm::start()?,
        _ => return Err(format!("there is no backend {name}; there are: litellm, litellm-fallbacks, minilm").into()),
    };
    match command {
        Some(command) => succeed(command.envs(&running.environment)),
        None => {
            for (name, value) in &running.environment {
                println!("export {name}={value}");
            }
            println!("running; stops at the end of the standard input (Ctrl-D)");
            io::copy(&mut io::stdin().lock(), &mut io::sink())?;
            Ok(())
        }
    }
}

/// A Python with exactly these packages, for a peer that is written in it.
pub(super) fn python(name: &str, requirements: &str) -> Result<PathBuf, Box<dyn Error>> {
    Ok(venv::install(name, requirements)?.join("python"))
}

/// Where everything is installed.
fn folder() -> PathBuf {
    super::root().join("target/backends")
}

/// An address on loopback that nobody uses now.
fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
