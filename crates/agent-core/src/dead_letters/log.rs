//! The file under [`FileDeadLetters`](super::FileDeadLetters): lines that are only ever appended, by any number of processes.
//!
//! Processes exclude each other by a lock on a file beside it, since the file itself is replaced when it is compacted. Who has the
//! lock reads what others appended, decides, and appends one line.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::DeadLetterError;
use super::letter::DeadLetter;
use super::shelf::{Shelf, Standing};
use super::wire::{self, Head, Op};

/// A file of dead letters, and what is known of it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    lock: File,
    seen: Seen,
}

/// What was read of the file.
#[derive(Debug, Default)]
struct Seen {
    /// The first line, which tells the file from one that took its place.
    first_line: Vec<u8>,
    /// How many bytes there are of whole lines.
    end: u64,
    lines: u64,
    shelf: Shelf<Place>,
}

/// Where a letter is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: u64,
    start: u64,
    length: usize,
}

/// The file while no other process changes it, read to its end.
#[derive(Debug)]
pub(super) struct Held<'a> {
    path: &'a Path,
    file: File,
    seen: &'a mut Seen,
}

/// Ends the lock when it is dropped, by a panic too.
struct Lock<'a>(&'a File);

impl Log {
    /// The file at `path`, made if there is none, and read.
    pub(super) fn open(path: &Path) -> Result<Self, DeadLetterError> {
        options().create(true).open(path)?;
        // The same lock for everyone, whichever way the path goes.
        let path = fs::canonicalize(path)?;
        let lock = options().create(true).open(beside(&path, ".lock"))?;
        let mut log = Self { path, lock, seen: Seen::default() };
        log.hold(|_| Ok(()))?;
        Ok(log)
    }

    /// Does `work` while no other process changes the file.
    pub(super) fn hold<T>(
        &mut self,
        work: impl FnOnce(&mut Held<'_>) -> Result<T, DeadLetterError>,
    ) -> Result<T, DeadLetterError> {
        let _lock = Lock::wait(&self.lock)?;
        // Opened anew each time: another process may have replaced it.
        let file = options().create(true).open(&self.path)?;
        self.seen.catch_up(&file)?;
        work(&mut Held { path: &self.path, file, seen: &mut self.seen })
    }
}

impl<'a> Lock<'a> {
    fn wait(file: &'a File) -> io::Result<Self> {
        loop {
            match file.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                locked => return locked.map(|()| Self(file)),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // If this fails, the lock ends with the file.
        let _ = self.0.unlock();
    }
}

impl Held<'_> {
    /// What is in the file.
    pub(super) fn shelf(&self) -> &Shelf<Place> {
        &self.seen.shelf
    }

    /// The letter at this place.
    pub(super) fn letter(&mut self, place: Place) -> Result<DeadLetter, DeadLetterError> {
        match wire::read(&self.line(place)?, place.line)? {
            Op::Put(letter) => Ok(letter),
            _ => Err(DeadLetterError::Unreadable { line: place.line }),
        }
    }

    fn line(&mut self, place: Place) -> Result<Vec<u8>, DeadLetterError> {
        let mut line = vec![0; place.length];
        self.file.seek(SeekFrom::Start(place.start))?;
        self.file.read_exact(&mut line)?;
        Ok(line)
    }

    /// Appends a line. When this fails, it is as if it had not been tried.
    pub(super) fn append(&mut self, op: &Op<&DeadLetter>) -> Result<(), DeadLetterError> {
        let (end, mut lines) = (self.seen.end, Vec::new());
        if end == 0 {
            lines = begin().line()?;
        }
        lines.extend(op.line()?);
        if let Err(error) = self.write(end, &lines) {
            // If that fails too: a part of a line is cut off by whoever appends next, and a whole one was done after all.
            let _ = self.file.set_len(end);
            return Err(error.into());
        }
        lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| self.seen.take(line))
    }

    fn write(&mut self, end: u64, lines: &[u8]) -> io::Result<()> {
        // What a crash left of a line.
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        if end == 0 { sync_directory(self.path) } else { Ok(()) }
    }

    /// Replaces the file by one without anything that is over.
    pub(super) fn compact(&mut self) -> Result<(), DeadLetterError> {
        let temporary = beside(self.path, ".compacting");
        // One that a crash left.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let compacted = self.copy_to(&temporary).and_then(|()| Ok(fs::rename(&temporary, self.path)?));
        if compacted.is_err() {
            let _ = fs::remove_file(&temporary);
            return compacted;
        }
        *self.seen = Seen::default();
        Ok(sync_directory(self.path)?)
    }

    fn copy_to(&mut self, path: &Path) -> Result<(), DeadLetterError> {
        let file = options().create_new(true).open(path)?;
        let letters: Vec<_> = self
            .shelf()
            .iter()
            .map(|(tenant, run, kept)| (kept.letter, Op::to_stand(tenant, *run, kept.standing)))
            .collect();
        let mut writer = BufWriter::new(&file);
        writer.write_all(&begin().line()?)?;
        for (place, standing) in letters {
            writer.write_all(&self.line(place)?)?;
            if let Some(op) = standing {
                writer.write_all(&op.line()?)?;
            }
        }
        writer.flush()?;
        drop(writer);
        file.set_permissions(self.file.metadata()?.permissions())?;
        Ok(file.sync_all()?)
    }
}

impl Seen {
    /// Reads what was appended since; all of it, if another file took the place of the one that was read.
    fn catch_up(&mut self, mut file: &File) -> Result<(), DeadLetterError> {
        if !self.is_of(file)? {
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.end))?;
        let (mut reader, mut line) = (BufReader::new(file), Vec::new());
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            self.take(&line)?;
        }
        // The rest is a line that a crash cut short, unless this is another kind of file altogether.
        let known = line.len().min(wire::START.len());
        if self.end == 0 && line.get(..known) != wire::START.get(..known) {
            return Err(DeadLetterError::Unreadable { line: 1 });
        }
        Ok(())
    }

    fn is_of(&self, mut file: &File) -> io::Result<bool> {
        if file.metadata()?.len() < self.end {
            return Ok(false);
        }
        let mut first_line = vec![0; self.first_line.len()];
        file.rewind()?;
        file.read_exact(&mut first_line)?;
        Ok(first_line == self.first_line)
    }

    /// Takes in the next line.
    fn take(&mut self, line: &[u8]) -> Result<(), DeadLetterError> {
        let number = self.lines + 1;
        let op = wire::read::<Head>(line, number)?;
        if matches!(op, Op::Begin { .. }) != (number == 1) {
            return Err(DeadLetterError::Unreadable { line: number });
        }
        self.apply(op, Place { line: number, start: self.end, length: line.len() });
        if number == 1 {
            self.first_line = line.to_vec();
        }
        self.lines = number;
        self.end += line.len() as u64;
        Ok(())
    }

    fn apply(&mut self, op: Op<Head>, place: Place) {
        match op {
            Op::Begin { .. } => {}
            Op::Put(head) => {
                let (tenant, summary) = head.into_summary();
                self.shelf.put(tenant, summary, place);
            }
            Op::Claim { tenant, run_id, token, until } => {
                self.shelf.set(&tenant, run_id, Standing::Claimed { token, until });
            }
            Op::Settle { tenant, run_id, end, at } => self.shelf.set(&tenant, run_id, Standing::after(end, at)),
            Op::Purge { tenant, run_ids } => self.shelf.remove(&tenant, &run_ids),
        }
    }
}

/// The first line of a new file.
fn begin<'a>() -> Op<&'a DeadLetter> {
    Op::Begin { file: Uuid::now_v7() }
}

/// Files that only their owner reads: states hold conversations.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A file's path with something after its name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// Makes sure that the file's name survives a crash. Only unix lets a directory be synced, and only there it is needed.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
