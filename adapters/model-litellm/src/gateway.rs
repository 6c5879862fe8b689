//! A gateway: one pool of connections, shared by all models and embedders that are asked for through it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{InvalidValue, ModelError, ModelInfo};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Proxy, Request, Response, Url};
use secrecy::ExposeSecret;

use crate::clock::Clock;
use crate::config::GatewayConfig;
use crate::embedder::GatewayEmbedder;
use crate::failure::{self, Secrets};
use crate::model::GatewayModel;

/// How long an unused connection is kept: shorter than the five seconds after which uvicorn and Node close it, perhaps in the
/// moment in which a request goes out on it.
const IDLE: Duration = Duration::from_secs(4);

/// A gateway to models. Cheap to clone; clones share one pool of connections.
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
        let client = Client::builder()
            .tls_backend_preconfigured(config.tls.client_config(base.scheme() == "https")?)
            .connect_timeout(config.timeouts.connect)
            .pool_idle_timeout(IDLE)
            // A redirect could take the key to another host, and a POST that was redirected is often a GET.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .no_proxy();
        let client = match &config.proxy {
            Some(url) => client.proxy(proxy(url.expose_secret())?),
            None => client,
        };
        let client = client.build().map_err(|error| {
            InvalidValue::new("gateway", &config.base_url, format!("settings of a client ({})", error.without_url()))
        })?;
        let secrets = config.api_key.iter().chain(config.headers.values()).cloned().collect();
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
        let response =
            clock.until_first_token(self.shared.client.execute(request)).await?.map_err(failure::not_sent)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(failure::refused(response, self, clock).await)
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

fn base_url(text: &str) -> Result<Url, InvalidValue> {
    let invalid = |shown: &str, expected: &'static str| InvalidValue::new("base_url", shown, expected);
    let url =
        Url::parse(text.trim()).map_err(|_| invalid("(not shown)", "a URL such as `http://localhost:4000/v1`"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("(not shown)", "a URL without user and password, which belong in `headers`"));
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid(url.as_str(), "an `http` or `https` URL with a host"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("(not shown)", "a URL without query and fragment"));
    }
    if url.path().trim_end_matches('/').ends_with("/chat/completions") {
        return Err(invalid(url.as_str(), "the URL before `/chat/completions`"));
    }
    Ok(url)
}

fn headers(config: &GatewayConfig) -> Result<HeaderMap, InvalidValue> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("adjutant/", env!("CARGO_PKG_VERSION"))));
    if let Some(key) = &config.api_key {
        headers.insert(AUTHORIZATION, secret("api_key", &format!("Bearer {}", key.expose_secret()))?);
    }
    for (name, value) in &config.headers {
        let field = || InvalidValue::new("headers", name, "names of HTTP headers");
        let header = HeaderName::try_from(name.as_str()).map_err(|_| field())?;
        headers.insert(header, secret("headers", value.expose_secret())?);
    }
    Ok(headers)
}

fn secret(field: &'static str, value: &str) -> Result<HeaderValue, InvalidValue> {
    let invalid = || InvalidValue::new(field, "(not shown)", "visible ASCII characters, without line breaks");
    let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(value)
}

fn proxy(url: &str) -> Result<Proxy, InvalidValue> {
    Proxy::all(url).map_err(|_| InvalidValue::new("proxy", "(not shown)", "the URL of a proxy"))
}
