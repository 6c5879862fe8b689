//! A small OpenAI-compatible server in process, which can do everything wrong that servers do wrong.

mod answer;
mod completion;
mod connection;
mod fault;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use answer::Answer;
pub use completion::Completion;
pub use fault::{Fault, faults};
pub use request::UpstreamRequest;

/// A small OpenAI-compatible server on loopback, which keeps what it is asked and answers byte for byte as a script says.
///
/// Each request gets the first of these: the next answer of [`script`](Self::script); what [`answering`](Self::answering) says; the
/// [`Fault`] of the model's name; a sound answer to chat completions (which repeats what the user said), embeddings and the list of
/// models; 404. Dropping the server closes all its connections.
///
/// ```
/// use testkit::{Answer, FaultUpstream};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let upstream = FaultUpstream::start().await;
/// upstream.script([Answer::status(503).with_header("retry-after", "7")]);
/// assert!(upstream.base_url().starts_with("http://127.0.0.1:"));
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FaultUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

type Handler = Arc<dyn Fn(&UpstreamRequest) -> Answer + Send + Sync>;

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    handler: Mutex<Option<Handler>>,
    requests: Mutex<Vec<UpstreamRequest>>,
    connections: AtomicUsize,
}

impl FaultUpstream {
    /// A server on a free port of loopback.
    pub async fn start() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port of loopback")
    }

    /// A server at this address, for gateways that are configured with it.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened at.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of its API.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The next requests get these answers, one each.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().unwrap().extend(answers);
    }

    /// Every request beyond the script gets what `answer` says.
    pub fn answering(&self, answer: impl Fn(&UpstreamRequest) -> Answer + Send + Sync + 'static) {
        *self.shared.handler.lock().unwrap() = Some(Arc::new(answer));
    }

    /// What it was asked so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<UpstreamRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Forgets what it was asked, and gives it back.
    pub fn take_requests(&self) -> Vec<UpstreamRequest> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FaultUpstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Debug for FaultUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultUpstream").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    fn answer(&self, request: &UpstreamRequest) -> Answer {
        if let Some(answer) = self.script.lock().unwrap().pop_front() {
            return answer;
        }
        let handler = self.handler.lock().unwrap().clone();
        handler.map_or_else(|| fault::by_model(request), |handler| handler(request))
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (open, shared) = (Open::new(&shared), shared.clone());
        connections.spawn(async move {
            let _open = open;
            // A client that goes away is nobody's failure here.
            let _ = connection::serve(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
