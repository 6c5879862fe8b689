//! Python packages in environments of their own, at pinned versions.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::folder;
use crate::succeed;

/// Makes a virtual environment of this name with exactly these packages, unless it is there. Returns its folder of programs.
pub(super) fn install(name: &str, requirements: &str) -> Result<PathBuf, Box<dyn Error>> {
    let environment = folder().join(name);
    let (programs, installed) = (environment.join("bin"), environment.join("installed.txt"));
    if fs::read_to_string(&installed).is_ok_and(|known| known == requirements) {
        return Ok(programs);
    }
    println!("installing {name} into {}", environment.display());
    if environment.exists() {
        fs::remove_dir_all(&environment)?;
    }
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let list = environment.join("requirements.txt");
    fs::write(&list, requirements)?;
    // The list is complete: nothing is resolved, so that nothing newer comes in.
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
    succeed(Command::new(programs.join("python")).args(pip).arg(&list))?;
    fs::write(installed, requirements)?;
    Ok(programs)
}
