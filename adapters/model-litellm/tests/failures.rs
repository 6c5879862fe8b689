//! Servers that are not what the configuration says: each a failure of its own, in time, without the key.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_core::{ChatRequest, Lease, Limits, MainAgent, ModelError, RunContext};
use model_litellm::{Gateway, GatewayConfig, GatewayModel, Roots, SizeLimits, Timeouts, TlsConfig, UpstreamError};
use testkit::{Answer, FaultUpstream, caller};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};
use tracing_subscriber::fmt::MakeWriter;

use support::{KEY, TRANSPORTS, ask, by, hello, timeouts};

/// Everything that is logged, spans with their fields included.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Listens to this thread.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_writer(log.clone())
            .finish();
        (log.clone(), tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// All that an error says, to whomever.
fn everything(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(|error| format!("{error} {error:?}\n")).collect()
}

fn config(base_url: &str) -> GatewayConfig {
    GatewayConfig::litellm(base_url).with_api_key(KEY).with_timeouts(timeouts())
}

/// The code of the one failure of `model`, which comes in time and without the key.
async fn failure(model: &GatewayModel) -> String {
    let mut codes = BTreeSet::new();
    for transport in TRANSPORTS {
        let (log, _guard) = Log::start();
        let began = Instant::now();
        let error = ask(&by(model.clone(), transport), hello()).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(4), "{transport:?} took {:?}", began.elapsed());
        let said = everything(&error) + &log.text() + &format!("{model:?}");
        assert!(said.contains("asking the gateway"), "the log is listened to");
        assert!(!said.contains(KEY), "{said}");
        // The time for a first token is no time for a whole answer.
        codes.insert(error.code().to_string().replace("timed_out", "first_token_timeout"));
        shows_nothing_of_the_server(&error);
    }
    assert_eq!(codes.len(), 1, "both transports fail alike: {codes:?}");
    codes.pop_first().unwrap()
}

fn shows_nothing_of_the_server(error: &ModelError) {
    let shown = error.to_string();
    assert!(!shown.contains("127.0.0.1") && !shown.contains("localhost") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn each_wrong_server_is_a_failure_of_its_own() {
    let upstream = FaultUpstream::start().await;
    let elsewhere = FaultUpstream::start().await;
    let mut seen = BTreeSet::new();
    let mut note = |what: &str, code: &str, expected: &str| {
        assert_eq!(code, expected, "{what}");
        assert!(seen.insert(code.to_owned()), "{what} is told from the others");
    };
    let model = |config: GatewayConfig, name: &str| Gateway::new(config).unwrap().model(name);

    let wrong = format!("http://{}/wrong/path", upstream.address());
    upstream.answering(|_| Answer::json(404, &serde_json::json!({"detail": "Not Found"})));
    note("a wrong base URL", &failure(&model(config(&wrong), "m")).await, "model.not_found");

    upstream.answering(|request| {
        let key = request.header("authorization").unwrap_or_default();
        Answer::error(401, "auth_error", "401", &format!("Invalid token. Received {key}, which is not known"))
    });
    note("a wrong key", &failure(&model(config(&upstream.base_url()), "m")).await, "model.auth");

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = model(config(&format!("http://{nobody}/v1")), "m");
    note("a port that nobody listens on", &failure(&nobody).await, "model.unreachable");

    upstream.answering(|_| Answer::raw().then_hang());
    let silent = model(config(&upstream.base_url()), "m");
    note("a server that accepts and says nothing", &failure(&silent).await, "model.first_token_timeout");

    let target = format!("{}/chat/completions", elsewhere.base_url());
    upstream.answering(move |_| Answer::status(307).with_header("location", &target));
    let redirecting = model(config(&upstream.base_url()), "m");
    note("a redirect to another host", &failure(&redirecting).await, "model.redirected");
    assert_eq!(elsewhere.requests().len(), 0, "nothing goes there");

    let bomb = bomb();
    assert!(bomb.len() < 64 << 10);
    upstream.answering(move |request| {
        let kind = if request.wants_stream() { "text/event-stream" } else { "application/json" };
        let answer = Answer::status(200).with_header("content-type", kind).with_header("content-encoding", "gzip");
        answer.then(bomb.clone())
    });
    let mib = NonZeroUsize::new(1 << 20).unwrap();
    let sizes = SizeLimits::default().with_response(mib).with_event(mib);
    let bombed = model(config(&upstream.base_url()).with_sizes(sizes), "m");
    note("a gzip bomb", &failure(&bombed).await, "model.too_large");

    let secure = Secure::start(&["localhost"], None).await;
    let untrusting = TlsConfig::default().with_roots(Roots::Only(authority().0));
    let unfit = model(config(&secure.base_url("localhost")).with_tls(untrusting), "m");
    note("a certificate that does not fit", &failure(&unfit).await, "model.untrusted");
}

/// Eight MiB of nothing.
fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"data: ").unwrap();
    encoder.write_all(&vec![b' '; 8 << 20]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_bomb_in_a_refusal_is_read_a_little() {
    let upstream = FaultUpstream::start().await;
    let bomb = bomb();
    upstream.answering(move |_| Answer::status(500).with_header("content-encoding", "gzip").then(bomb.clone()));
    let model = Gateway::new(config(&upstream.base_url())).unwrap().model("m");
    assert_eq!(failure(&model).await, "model.unavailable");
}

#[tokio::test]
async fn a_refusal_that_does_not_end_is_one() {
    let upstream = FaultUpstream::start().await;
    let words = r#"{"error": {"code": "insufficient_quota", "message": ""#;
    upstream.answering(move |_| Answer::status(429).with_wrong_length(10_000).then(words).then_hang());
    let config = GatewayConfig::litellm(upstream.base_url()).with_api_key(KEY);
    let model = Gateway::new(config).unwrap().model("m");
    let began = Instant::now();
    assert_eq!(ask(&model, hello()).await.unwrap_err().code().as_str(), "model.quota_exhausted", "what came is read");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_server_said_is_for_the_host_only() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| {
        let key = request.header("authorization").unwrap_or_default().trim_start_matches("Bearer ");
        let message = format!("Key {key} has no money left at http://10.0.0.7:4000");
        Answer::error(429, "budget_exceeded", "insufficient_quota", &message).with_header("x-litellm-call-id", key)
    });
    let model = Gateway::new(config(&upstream.base_url())).unwrap().model("m");
    let error = ask(&model, hello()).await.unwrap_err();
    assert_eq!(error.to_string(), "the model gave no answer: the account's quota is used up (status 429)");
    let source = error.source().unwrap();
    assert_eq!(source.to_string(), "the server said so with status 429");
    let said: &UpstreamError = source.downcast_ref().unwrap();
    assert_eq!(
        (said.status, said.kind.as_deref(), said.code.as_deref(), said.call_id.as_deref(), said.message.as_str()),
        (
            Some(429),
            Some("budget_exceeded"),
            Some("insufficient_quota"),
            upstream.requests()[0].header("x-litellm-call-id"),
            "Key [secret] has no money left at http://10.0.0.7:4000"
        )
    );
}

#[tokio::test]
async fn no_form_of_a_key_is_kept() {
    const ODD: &str = r#"sk-"quoted"/=4711"#;
    let upstream = FaultUpstream::start().await;
    let model = |config: GatewayConfig| Gateway::new(config.with_timeouts(timeouts())).unwrap().model("m");
    let by_header =
        GatewayConfig::compatible(upstream.base_url()).with_header("authorization", format!("Bearer {KEY}"));
    let odd = GatewayConfig::litellm(upstream.base_url()).with_api_key(ODD);
    let plain = || GatewayConfig::litellm(upstream.base_url()).with_api_key(KEY);
    let escaped = serde_json::json!({"error": {"message": format!("no key {ODD}"), "code": ODD}});
    for (config, answer) in [
        (by_header, Answer::status(401).then(format!("no such key: {KEY}"))),
        (odd, Answer::status(401).then(escaped.to_string().replace('/', "\\/").replace('=', "\\u003d"))),
        (plain(), Answer::status(200).then(format!(r#"{{"choices": "{KEY}"}}"#))),
        (plain(), Answer::stream().then(format!("data: {{\"choices\": \"{KEY}\"}}\n\n"))),
        (plain(), Answer::stream().then(format!("data: {KEY}\n\n"))),
        (plain(), Answer::status(200).then(KEY)),
    ] {
        upstream.script([answer]);
        let said = everything(&ask(&model(config), hello()).await.unwrap_err());
        assert!(!said.contains("4711"), "{said}");
        assert!(said.contains("[secret]"), "{said}");
    }
}

#[tokio::test]
async fn a_run_tells_its_user_nothing_of_the_server() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| Answer::error(500, "", "", "the routing table is: gpt at 10.0.0.7"));
    let (log, _guard) = Log::start();
    let agent = MainAgent::builder("desk", Gateway::new(config(&upstream.base_url())).unwrap().model("m"));
    let failed = agent.build().unwrap().run("Hello.", caller()).await.unwrap_err();
    assert_eq!(failed.to_string(), "the model gave no answer: the server failed (status 500)");
    let log = log.text();
    assert!(log.contains("chat") && !log.contains(KEY) && !log.contains("routing table"), "{log}");
}

#[tokio::test]
async fn without_a_key_litellm_fails_in_plain_words() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| Answer::status(500).with_header("content-type", "text/plain").then("Internal Server Error"));
    let keyless = Gateway::new(GatewayConfig::litellm(upstream.base_url())).unwrap().model("m");
    assert_eq!(ask(&keyless, hello()).await.unwrap_err().code().as_str(), "model.auth");
    let other = Gateway::new(GatewayConfig::compatible(upstream.base_url())).unwrap().model("m");
    assert_eq!(ask(&other, hello()).await.unwrap_err().code().as_str(), "model.unavailable");
}

#[tokio::test]
async fn a_run_without_time_sends_nothing() {
    let upstream = FaultUpstream::start().await;
    let model = Gateway::new(config(&upstream.base_url())).unwrap().model("m");
    let lease = Lease::root(Limits::none().with_time(Duration::ZERO));
    let cx = RunContext::standalone_with(caller(), lease, Vec::new());
    let refused = agent_core::ChatModel::stream(&model, ChatRequest::default(), &cx).await.err().unwrap();
    assert_eq!(refused.to_string(), "the model gave no answer: the time of the run is over");
    assert_eq!((upstream.requests().len(), upstream.open_connections()), (0, 0));
}

/// A server behind TLS, with an authority of its own.
struct Secure {
    address: std::net::SocketAddr,
    root: String,
    _upstream: FaultUpstream,
}

/// An authority's certificate, and what signs with it.
fn authority() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&key).unwrap().pem();
    (pem, rcgen::Issuer::new(parameters, key))
}

/// A certificate for these names, and its key.
fn certificate(names: &[&str], issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> (rcgen::Certificate, rcgen::KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    (rcgen::CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap(), key)
}

impl Secure {
    /// A server with a certificate for `names`, which wants one from its clients if they have an authority.
    async fn start(names: &[&str], clients: Option<RootCertStore>) -> Self {
        let upstream = FaultUpstream::start().await;
        let (root, issuer) = authority();
        let (certificate, key) = certificate(names, &issuer);
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap(),
            ),
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), upstream.address());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut secure), Ok(mut plain)) =
                        (acceptor.accept(stream).await, TcpStream::connect(behind).await)
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
                });
            }
        });
        Self { address, root, _upstream: upstream }
    }

    fn base_url(&self, name: &str) -> String {
        format!("https://{name}:{}/v1", self.address.port())
    }
}

#[tokio::test]
async fn a_host_says_whom_it_trusts() {
    let secure = Secure::start(&["localhost"], None).await;
    let code = async |roots: Roots, name: &str| {
        let config = config(&secure.base_url(name)).with_tls(TlsConfig::default().with_roots(roots));
        let answered = ask(&Gateway::new(config).unwrap().model("m"), hello()).await;
        answered.map_or_else(|error| error.code().to_string(), |(reply, _)| reply.joined_text())
    };
    let ours = || secure.root.clone();
    assert_eq!(code(Roots::Only(ours()), "localhost").await, "You said: How is all?");
    assert_eq!(code(Roots::SystemAnd(ours()), "localhost").await, "You said: How is all?");
    assert_eq!(code(Roots::System, "localhost").await, "model.untrusted");
    assert_eq!(code(Roots::Only(ours()), "127.0.0.1").await, "model.untrusted", "it is for another name");
}

#[tokio::test]
async fn a_host_shows_its_certificate() {
    let (root, issuer) = authority();
    let (shown, key) = certificate(&["client"], &issuer);
    let mut roots = RootCertStore::empty();
    roots.add(rcgen_der(&root)).unwrap();
    let secure = Secure::start(&["localhost"], Some(roots)).await;
    let tls = TlsConfig::default().with_roots(Roots::Only(secure.root.clone()));
    let stranger = Gateway::new(config(&secure.base_url("localhost")).with_tls(tls.clone())).unwrap();
    let refused = ask(&stranger.model("m"), hello()).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "model.untrusted");
    let tls = tls.with_client_certificate(shown.pem(), key.serialize_pem());
    assert!(!format!("{tls:?}").contains("PRIVATE KEY"));
    let known = Gateway::new(config(&secure.base_url("localhost")).with_tls(tls)).unwrap();
    assert_eq!(ask(&known.model("m"), hello()).await.unwrap().0.joined_text(), "You said: How is all?");
}

fn rcgen_der(pem: &str) -> tokio_rustls::rustls::pki_types::CertificateDer<'static> {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    tokio_rustls::rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[tokio::test]
async fn proxies_come_from_the_host_alone() {
    let upstream = FaultUpstream::start().await;
    let proxy = FaultUpstream::start().await;
    // A proxy sees the whole URL.
    let through = config(&upstream.base_url()).with_proxy(format!("http://user:pass@{}", proxy.address()));
    assert!(!format!("{through:?}").contains("pass"));
    let answered = ask(&Gateway::new(through).unwrap().model("m"), hello()).await.unwrap();
    assert_eq!(answered.0.joined_text(), "You said: How is all?");
    let [request] = proxy.requests().try_into().unwrap();
    assert_eq!(request.path, format!("{}/chat/completions", upstream.base_url()));
    assert_eq!(request.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn proxies_in_the_environment_are_ignored() {
    const NAME: &str = "proxies_in_the_environment_are_ignored";
    if std::env::var_os("HTTP_PROXY").is_none_or(|proxy| proxy != "http://127.0.0.1:1") {
        // A process of its own, since its environment is set when it starts.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            child.env(name, "http://127.0.0.1:1");
        }
        let output = child.env_remove("NO_PROXY").args(["--exact", NAME]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let upstream = FaultUpstream::start().await;
    let answered = ask(&Gateway::new(config(&upstream.base_url())).unwrap().model("m"), hello()).await.unwrap();
    assert_eq!(answered.0.joined_text(), "You said: How is all?");
}

#[test]
fn wrong_settings_name_their_field() {
    let refused = |config: GatewayConfig| {
        let refused = Gateway::new(config).unwrap_err();
        let shown = format!("{refused} {refused:?}");
        assert!(!shown.contains("secret"), "{shown}");
        refused.field.into_owned()
    };
    for base_url in [
        "user:hunter2secret@gw.example.com/v1",
        "gw:4000/v1?api_key=secret",
        "ftp://gw/v1?api_key=secret",
        "http://localhost/v1/embeddings",
        "http://localhost/v1/models/",
        "",
        "localhost:4000",
        "ftp://localhost",
        "http://",
        "http://user:secret@localhost/v1",
        "http://localhost/v1?key=secret",
        "http://localhost/v1/chat/completions",
        "http://localhost/v1#secret",
    ] {
        assert_eq!(refused(GatewayConfig::litellm(base_url)), "base_url", "{base_url}");
    }
    let sound = || GatewayConfig::litellm("https://localhost/v1/");
    assert_eq!(refused(sound().with_api_key("secret\nx")), "api_key");
    assert_eq!(refused(sound().with_header("not a name", "secret")), "headers");
    assert_eq!(refused(sound().with_header("x-key", "secret\r\n")), "headers");
    assert_eq!(refused(sound().with_api_key(" ")), "api_key");
    assert_eq!(refused(sound().with_api_key("sk-\u{fc}secret")), "api_key");
    assert_eq!(refused(sound().with_header("Content-Length", "3")), "headers");
    for proxy in ["::secret::", "htp://secret:1", "socks5://secret:1", "foo://x", "http://"] {
        assert_eq!(refused(sound().with_proxy(proxy)), "proxy");
    }
    let timeouts = Timeouts::default().with_total(Duration::ZERO);
    assert_eq!(refused(sound().with_timeouts(timeouts)), "timeouts.total");
    assert!(!format!("{:?}", GatewayConfig::litellm("http://u:secret@gw/v1")).contains("secret"));
    let roots = |roots: Roots| sound().with_tls(TlsConfig::default().with_roots(roots));
    assert_eq!(refused(roots(Roots::Only("secret".to_owned()))), "tls.roots");
    assert_eq!(refused(roots(Roots::SystemAnd(String::new()))), "tls.roots");
    let client = TlsConfig::default().with_roots(Roots::Only(authority().0)).with_client_certificate("x", "secret");
    assert_eq!(refused(sound().with_tls(client)), "tls.client_certificate");
    assert!(Gateway::new(sound()).is_ok());
}

#[test]
fn configurations_load() {
    let text = r#"{
        "base_url": "https://gateway.example/v1", "dialect": "openai", "api_key": "sk-very-secret-4711",
        "headers": {"api-key": "sk-very-secret-4711"}, "retries": "gateway", "identification": "nobody",
        "timeouts": {"connect_ms": 2000, "total_ms": 60000}, "sizes": {"response": 1000},
        "proxy": "http://u:sk-very-secret-4711@proxy:3128", "tls": {"roots": "system"},
        "prices": {
            "gpt-4o-mini": {"input": 150000, "output": 600000, "cached_input": 75000},
            "gpt-4o": {"input": 2500000, "output": 10000000}
        }
    }"#;
    let config: GatewayConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.timeouts.connect, Duration::from_secs(2));
    assert_eq!(config.timeouts.first_token, Duration::from_secs(120));
    assert!(!format!("{config:?}").contains(KEY));
    assert_eq!(config.prices["gpt-4o"].cached_input, agent_core::MicroUsd(2_500_000));
    let model = Gateway::new(config).unwrap().model("gpt-4o-mini");
    let info = agent_core::ChatModel::info(&model);
    assert_eq!(info.price.unwrap().cached_input, agent_core::MicroUsd(75_000));
    for wrong in [
        r#"{"base_url": "http://x", "api_kye": "x"}"#,
        r#"{"dialect": "litellm"}"#,
        r#"{"base_url": "http://x", "dialect": "x"}"#,
    ] {
        assert!(serde_json::from_str::<GatewayConfig>(wrong).is_err(), "{wrong}");
    }
}
