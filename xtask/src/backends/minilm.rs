//! The weights of all-MiniLM-L6-v2: no server, but too large for a crate.

use std::error::Error;
use std::fs;
use std::process::{Command, Stdio};

use super::{Running, folder, venv};

/// The files, installed and checked.
pub(super) fn start() -> Result<Running, Box<dyn Error>> {
    let programs = venv::install("minilm", include_str!("../../backends/minilm.txt"))?;
    let script = folder().join("minilm.py");
    fs::write(&script, include_str!("../../backends/minilm.py"))?;
    let mut command = Command::new(programs.join("python"));
    let found = command.arg(script).stderr(Stdio::inherit()).output()?;
    if !found.status.success() {
        return Err(format!("{command:?} ended with {}", found.status).into());
    }
    let environment = [("ADJUTANT_MINILM_DIR", String::from_utf8(found.stdout)?)].into();
    Ok(Running { environment, _services: Vec::new() })
}
