//! What waits for an answer, in a file: the host's trusted storage. A state that leaves the host would be sealed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use adjutant::RunState;

pub(crate) struct Waiting {
    file: PathBuf,
}

impl Waiting {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { file: folder.join("waiting.json") })
    }

    /// Keeps the state of a suspended run.
    pub(crate) fn keep(&self, state: &RunState) -> Result<(), Box<dyn Error>> {
        Ok(fs::write(&self.file, serde_json::to_string_pretty(state)?)?)
    }

    /// Takes the state out. Renaming is atomic: of two commands that take it, one wins.
    pub(crate) fn take(&self) -> Result<RunState, Box<dyn Error>> {
        let taken = self.file.with_extension(format!("taken-{}", std::process::id()));
        fs::rename(&self.file, &taken).map_err(|_| "nothing waits for an answer")?;
        let state = serde_json::from_slice(&fs::read(&taken)?)?;
        fs::remove_file(taken)?;
        Ok(state)
    }
}
