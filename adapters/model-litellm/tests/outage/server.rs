//! A server that can be killed and started again at the same address.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::{Answer, Completion, FaultUpstream, UpstreamRequest};
use tokio::sync::oneshot;

/// Words of an answer, each in an event of its own.
const WORDS: usize = 8;

/// What lies between two events.
const PAUSE: Duration = Duration::from_millis(9);

/// How long an answer takes, as measured: 11 events, and timers that are up to a millisecond late.
const ANSWER: Duration = Duration::from_millis(115);

/// A [`FaultUpstream`] on a thread of its own. Killing it closes the listener and all connections in the middle of what they send, as
/// the end of a process does.
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    calls: Arc<AtomicU64>,
    /// When the requests of this life came.
    begun: Arc<Mutex<Vec<Instant>>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Server {
    /// A server on a free port of loopback.
    pub(crate) fn start(name: &'static str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::start_at(name, free)
    }

    pub(crate) fn start_at(name: &'static str, address: SocketAddr) -> Self {
        let mut server = Self { name, address, calls: Arc::default(), begun: Arc::default(), running: None };
        server.restart();
        server
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests it read, over all its lives. Clones count on.
    pub(crate) fn calls(&self) -> Arc<AtomicU64> {
        self.calls.clone()
    }

    pub(crate) fn restart(&mut self) {
        let (name, address) = (self.name, self.address);
        let (calls, begun) = (self.calls.clone(), self.begun.clone());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let upstream = listen(address).await;
                upstream.answering(move |request| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    begun.lock().unwrap().push(Instant::now());
                    answer(name, request)
                });
                ready.send(()).unwrap();
                // An error is a server that was dropped.
                let _ = stopped.await;
            });
        });
        is_ready.recv().unwrap();
        self.running = Some((stop, thread));
    }

    /// Returns about how many answers that cuts: those which began less than an answer's time ago.
    pub(crate) fn kill(&mut self) -> usize {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap());
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
        begun.iter().filter(|begun| begun.elapsed() < ANSWER).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Listens there as soon as nobody else does: while it was down, somebody's connection may have got its port.
async fn listen(address: SocketAddr) -> FaultUpstream {
    for _ in 0..500 {
        match FaultUpstream::listen(address).await {
            Ok(upstream) => return upstream,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address} is in use");
}

/// What the server of this name says.
pub(crate) fn text(name: &str) -> String {
    (0..WORDS).map(|word| format!("{name}-{word}")).collect::<Vec<_>>().join(" ")
}

fn answer(name: &str, request: &UpstreamRequest) -> Answer {
    let answer = Completion::text(&text(name));
    if !request.wants_stream() {
        return answer.answer(request);
    }
    let events = answer.events(&request.model());
    events.iter().fold(Answer::stream(), |answer, event| answer.then_event(event).then_wait(PAUSE)).then_done()
}
