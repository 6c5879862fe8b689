//! A gateway: one pool of connections, shared by all models and embedders that are asked for through it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{InvalidValue, ModelError, ModelInfo};
use percent_encoding::percent_decode_str;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, TRANSFER_ENCODING, USER_AGENT,
};
use reqwest::{Client, Method, Proxy, Request, Response, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::Clock;
use crate::config::GatewayConfig;
use crate::embedder::GatewayEmbedder;
use crate::failure::{self, Secrets};
use crate::identity::CALL_ID;
use crate::model::GatewayModel;

/// How long an unused connection is kept: shorter than the five seconds after which uvicorn and Node close it, perhaps in the
/// moment in which a request goes out on it.
const IDLE: Duration = Duration::from_secs(4);

/// A gateway to models. Cheap to clone; clones share one pool of connections, whose tasks run on the tokio runtime that made them:
/// a host with several runtimes makes a gateway for each.
///
/// ```
/// use model_litellm::{Gateway, GatewayConfig};
///
/// let gateway = Gateway::new(GatewayConfig::litellm("http://localhost:4000/v1").with_api_key("sk-1234"))?;
/// let model = gateway.model("gpt-4o-mini");
/// # Ok::<(), agent_core::InvalidValue>(())
/// ```
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    config: GatewayConfig,
    urls: Urls,
    headers: HeaderMap,
    client: Client,
    secrets: Secrets,
}

/// What is asked of a server.
pub(crate) struct Urls {
    pub(crate) chat_completions: Url,
    pub(crate) embeddings: Url,
    pub(crate) model_info: Url,
    pub(crate) models: Url,
}

impl Urls {
    fn below(base: &Url) -> Self {
        let below = |path: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
            url
        };
        Self {
            chat_completions: below("chat/completions"),
            embeddings: below("embeddings"),
            model_info: below("model/info"),
            models: below("models"),
        }
    }
}

impl Gateway {
    /// A gateway as `config` says. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] that names the field of `config` that is wrong. It shows no key or password.
    pub fn new(config: GatewayConfig) -> Result<Self, InvalidValue> {
        let base = base_url(&config.base_url)?;
        config.timeouts.ensure_valid()?;
        let client = Client::builder()
            .tls_backend_preconfigured(config.tls.client_config(base.scheme() == "https")?)
            .connect_timeout(config.timeouts.connect)
            .pool_idle_timeout(IDLE)
            // A redirect could take the key to another host, and a POST that was redirected is often a GET.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .no_proxy();
        let (proxy, its_key) = config.proxy.as_ref().map(|url| proxy(url.expose_secret())).transpose()?.unzip();
        let client = match proxy {
            Some(proxy) => client.proxy(proxy),
            None => client,
        };
        let client = client.build().map_err(|error| {
            InvalidValue::new("gateway", "(not shown)", format!("settings of a client ({})", error.without_url()))
        })?;
        let keys = config.api_key.iter().chain(config.headers.values()).cloned();
        let secrets = keys.chain(its_key.into_iter().flatten()).collect();
        let urls = Urls::below(&base);
        let headers = headers(&config)?;
        Ok(Self { shared: Arc::new(Shared { config, urls, headers, client, secrets }) })
    }

    /// The model of this name. Nothing is asked: its window and price are unknown, unless the configuration has a price for it.
    /// [`find_model`](Self::find_model) asks the server.
    #[must_use]
    pub fn model(&self, name: impl Into<Arc<str>>) -> GatewayModel {
        GatewayModel::new(self.clone(), self.info(name.into()))
    }

    /// The embedding model of this name.
    #[must_use]
    pub fn embedder(&self, name: impl Into<Arc<str>>) -> GatewayEmbedder {
        GatewayEmbedder::new(self.clone(), self.info(name.into()))
    }

    fn info(&self, name: Arc<str>) -> ModelInfo {
        let price = self.config().prices.get(&*name).copied();
        let info = ModelInfo::new(self.config().dialect.provider(), name);
        price.map_or(info.clone(), |price| info.with_price(price))
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.shared.secrets
    }

    pub(crate) fn urls(&self) -> &Urls {
        &self.shared.urls
    }

    /// The headers of every request.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.shared.headers
    }

    /// A request with a JSON document.
    pub(crate) fn post(url: &Url, headers: HeaderMap, body: Vec<u8>) -> Request {
        let mut request = Request::new(Method::POST, url.clone());
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(body.into());
        request
    }

    pub(crate) fn get(&self, url: &Url) -> Request {
        let mut request = Request::new(Method::GET, url.clone());
        *request.headers_mut() = self.headers().clone();
        request
    }

    /// Sends a request and waits until `clock` says for the head of its answer, which has to say that all is well.
    pub(crate) async fn send(&self, request: Request, clock: &Clock) -> Result<Response, ModelError> {
        let call_id = request.headers().get(CALL_ID).cloned();
        let response =
            clock.until_first_token(self.shared.client.execute(request)).await?.map_err(failure::not_sent)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let call_id = call_id.as_ref().and_then(|id| id.to_str().ok());
        Err(failure::refused(response, call_id, self, clock).await)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

fn base_url(text: &str) -> Result<Url, InvalidValue> {
    let invalid = |shown: &str, expected: &'static str| InvalidValue::new("base_url", shown, expected);
    // What is no URL may hold anything, and so do the parts that a base URL has not.
    let hidden = |expected: &'static str| invalid("(not shown)", expected);
    let url = Url::parse(text.trim()).map_err(|_| hidden("a URL such as `http://localhost:4000/v1`"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(hidden("an `http` or `https` URL with a host, such as `http://localhost:4000/v1`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(hidden("a URL without user and password, which belong in `headers`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(hidden("a URL without query and fragment"));
    }
    let path = url.path().trim_end_matches('/');
    if ["/chat/completions", "/embeddings", "/models"].iter().any(|end| path.ends_with(end)) {
        return Err(invalid(url.as_str(), "the URL before `/chat/completions`, `/embeddings` and `/models`"));
    }
    Ok(url)
}

/// Headers that are the adapter's, or the HTTP client's.
const OWN_HEADERS: [HeaderName; 7] =
    [ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];

fn headers(config: &GatewayConfig) -> Result<HeaderMap, InvalidValue> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("adjutant/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = &config.api_key {
        if key.expose_secret().trim().is_empty() {
            return Err(InvalidValue::new("api_key", "", "a key, or none at all"));
        }
        headers.insert(AUTHORIZATION, secret("api_key", &format!("Bearer {}", key.expose_secret()))?);
    }
    for (name, value) in &config.headers {
        let invalid = |expected: &'static str| InvalidValue::new("headers", name, expected);
        // What is no name may be a name and its value.
        let unnamed = |_| InvalidValue::new("headers", "(not shown)", "names of HTTP headers");
        let header = HeaderName::try_from(name.as_str()).map_err(unnamed)?;
        if OWN_HEADERS.contains(&header) {
            return Err(invalid("names of headers that the request does not have by itself"));
        }
        headers.insert(header, secret("headers", value.expose_secret())?);
    }
    Ok(headers)
}

fn secret(field: &'static str, value: &str) -> Result<HeaderValue, InvalidValue> {
    let invalid = || InvalidValue::new(field, "(not shown)", "visible ASCII characters, without line breaks");
    let mut header = HeaderValue::from_str(value).ok().filter(|_| value.is_ascii()).ok_or_else(invalid)?;
    header.set_sensitive(true);
    Ok(header)
}

/// A proxy, and the secret in its URL: the password, or what stands alone in the place of a user and is a token then. It is known
/// as it is written in a URL, and as it is read there. What the client does not know as a proxy it would pass by.
fn proxy(url: &str) -> Result<(Proxy, Vec<SecretString>), InvalidValue> {
    let invalid = || InvalidValue::new("proxy", "(not shown)", "the `http` or `https` URL of a proxy");
    let parsed = Url::parse(url).map_err(|_| invalid())?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(invalid());
    }
    let key = parsed.password().unwrap_or(parsed.username());
    let secrets = vec![key.into(), percent_decode_str(key).decode_utf8_lossy().into_owned().into()];
    Ok((Proxy::all(url).map_err(|_| invalid())?, secrets))
}
