//! The server's life: bind, serve on a thread of its own, stop gracefully.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::sync::{Semaphore, watch};

use super::guard::{Token, guard};
use super::problem::Problem;
use super::status::Status;
use super::{console, customer, ingest, outputs, tls};
use crate::config::HttpConfig;
use crate::log::Gateway;

/// Open requests get this long to end after [`Running::stop`].
const GRACE: Duration = Duration::from_secs(5);
/// A connection that has not sent a whole first request head by then is closed.
const FIRST_REQUEST: Duration = Duration::from_secs(15);
/// Bodies being taken in at the same time; more wait. Memory is bounded by this many times the largest body, about twice.
const CONCURRENT_BODIES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Wrong configuration: names the key, the value and what would be right.
    #[error("{0}")]
    Config(String),
    /// The configuration is well formed but the address cannot be had.
    #[error("cannot listen on {address}: {error}; stop what uses the port, or set http.bind to another address")]
    Listen { address: SocketAddr, error: std::io::Error },
}

/// A bound socket, not yet serving.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    tls: Option<RustlsConfig>,
}

/// A server that serves until [`Self::stop`] or drop.
pub struct Running {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    stop: Arc<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

/// What the handlers share.
pub(super) struct App {
    pub gateway: Arc<dyn Gateway>,
    pub status: Arc<Status>,
    pub bodies: Arc<Semaphore>,
    /// Turns true when the server stops: endless streams end then.
    pub stop: watch::Receiver<bool>,
}

impl Server {
    /// Checks the configuration and takes the address, so that both fail before anything else starts.
    ///
    /// # Errors
    /// [`BindError`], with what to do.
    pub fn bind(config: &HttpConfig) -> Result<Self, BindError> {
        // Loading a configuration checks this too; here it holds for one made in code as well.
        if !config.bind.ip().is_loopback() && (config.tls.is_none() || config.token.is_none()) {
            let message = format!(
                "http.bind = \"{}\" can be reached from other machines: set http.tls_cert, http.tls_key and http.token",
                config.bind
            );
            return Err(BindError::Config(message));
        }
        let tls = config.tls.as_ref().map(tls::read).transpose().map_err(BindError::Config)?;
        let listen = |e| BindError::Listen { address: config.bind, error: e };
        let listener = TcpListener::bind(config.bind).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let token = config.token.as_deref().map(Token::new);
        Ok(Self { listener, address, token, tls: tls.map(|tls| RustlsConfig::from_config(Arc::new(tls))) })
    }

    /// Where it listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…` or `https://…`, for people.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// Where the operating system gives no thread or event queue.
    pub fn start(self, gateway: Arc<dyn Gateway>, status: Arc<Status>) -> std::io::Result<Running> {
        let (stop, stopped) = watch::channel(false);
        let app = App { gateway, status, bodies: Arc::new(Semaphore::new(CONCURRENT_BODIES)), stop: stopped };
        self.serve(routes(Arc::new(app)), stop)
    }

    /// Serves `/metrics` and `/healthz` alone, for a process that takes no requests.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_metrics(self) -> std::io::Result<Running> {
        self.serve(watched(), watch::Sender::new(false))
    }

    fn serve(self, routes: Router, stop: watch::Sender<bool>) -> std::io::Result<Running> {
        let handle = Handle::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build()?;
        // Tokio takes the socket over inside its runtime.
        let server = {
            let _inside = runtime.enter();
            axum_server::from_tcp(self.listener)?.handle(handle.clone()).first_request_timeout(FIRST_REQUEST)
        };
        let service = routes
            .fallback(|| async { Problem::not_found("no such page; the console is at / and the API under /v1") })
            .method_not_allowed_fallback(|| async {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
            })
            .layer(from_fn_with_state(Arc::new(self.token), guard))
            .into_make_service();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            let served = runtime.block_on(async {
                match self.tls {
                    Some(tls) => server.acceptor(RustlsAcceptor::new(tls)).serve(service).await,
                    None => server.serve(service).await,
                }
            });
            if let Err(e) = served {
                tracing::error!(error = %e, "the HTTP server ended");
            }
            // A read of the log that is still under way is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Running { address: self.address, handle, stop: Arc::new(stop), thread: Some(thread) })
    }
}

impl Running {
    /// Where it listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new requests, lets open ones end (a few seconds at most), returns when all have.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.send_replace(true);
        self.handle.graceful_shutdown(Some(GRACE));
        if thread.join().is_err() {
            tracing::error!("the HTTP thread panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// What every process answers.
fn watched() -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(|| async { "alive\n" }))
}

fn routes(app: Arc<App>) -> Router {
    let own = Router::new()
        .route("/", get(|| async { console::page() }))
        .route("/readyz", get(readyz))
        .route("/v1/interactions", post(ingest::interactions))
        .route("/v1/scores", get(outputs::scores))
        .route("/v1/scores-shadow", get(outputs::scores_shadow))
        .route("/v1/dead-letters", get(outputs::dead_letters))
        .route("/v1/alerts", get(outputs::alerts))
        .route("/v1/customers/{id}", get(customer::view).delete(customer::erase))
        .with_state(app);
    watched().merge(own)
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], crate::metrics::render())
}

async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.status.not_ready().map_or(Ok("ready\n"), |reason| Err(Problem::unavailable(reason)))
}
