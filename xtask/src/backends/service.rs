//! A server that runs for as long as it is needed.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::folder;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running server. Dropping it stops it.
pub(super) struct Service {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts `command`, whose output goes to a file.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let log = folder().join(format!("{name}.log"));
        let output = File::create(&log)?;
        let command = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `http://address/path` answers with 200.
    pub(super) fn wait_for(&mut self, address: &str, path: &str) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        while !answers(address, path) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let what = ended.map_or("does not answer".to_owned(), |status| format!("ended with {status}"));
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("{} {what}; its log ends so:\n{}", self.name, tail(&log)).into());
            }
            sleep(Duration::from_millis(200));
        }
        println!("{} answers at {address} after {:.1} s", self.name, began.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(address: &str, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
