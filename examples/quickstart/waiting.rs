//! Runs that wait for an answer, a file each: the host's trusted storage. A state that leaves the host would be sealed.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adjutant::RunState;

pub(crate) struct Waiting {
    folder: PathBuf,
}

impl Waiting {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Keeps the state of a suspended run, in the place of an earlier one.
    pub(crate) fn keep(&self, state: &RunState) -> Result<(), Box<dyn Error>> {
        // Renaming is atomic: whoever reads sees one state or the other.
        let file = self.file(state);
        let written = file.with_extension("new");
        fs::write(&written, serde_json::to_string_pretty(state)?)?;
        Ok(fs::rename(written, file)?)
    }

    /// The run that was named, or the latest that waits. It stays until it has gone on: a command that is killed loses nothing.
    pub(crate) fn find(&self, run: Option<&str>) -> Result<RunState, Box<dyn Error>> {
        let mut waiting: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let id = name.strip_prefix("waiting-").and_then(|rest| rest.strip_suffix(".json"));
            waiting.extend(id.filter(|id| run.is_none_or(|run| run == *id)).map(str::to_owned));
        }
        // The ids of runs grow with time.
        waiting.sort();
        let id = waiting.pop().ok_or_else(|| match run {
            Some(run) => format!("no run {run} waits for an answer"),
            None => "nothing waits for an answer".to_owned(),
        })?;
        if !waiting.is_empty() {
            eprintln!("(the latest of several; these wait too, and --run names one: {})", waiting.join(", "));
        }
        let path = self.folder.join(format!("waiting-{id}.json"));
        let read = || -> Result<RunState, Box<dyn Error>> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        read().map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// Forgets a run that waits no more.
    pub(crate) fn forget(&self, state: &RunState) -> Result<(), Box<dyn Error>> {
        match fs::remove_file(self.file(state)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn file(&self, state: &RunState) -> PathBuf {
        self.folder.join(format!("waiting-{}.json", state.run_id()))
    }
}
