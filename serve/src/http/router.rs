//! Paths, and what is done around each request.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::app::App;
use super::failure::Failure;
use super::{chat, completions, embeddings, models, page, receipts, site, state, tokens};

/// All paths.
pub(super) fn router(app: Arc<App>) -> Router {
    let (mut pages, mut weights) = (Router::new(), Router::new());
    if app.options.web_folder.is_some() {
        (pages, weights) = (site::pages(), site::weights());
    }
    let guarded = weights
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(models::models))
        .route("/v1/models/{*name}", get(models::model))
        .route("/v1/receipts/{digest}", get(receipts::receipt))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/metrics", get(state::metrics))
        .layer(from_fn_with_state(app.clone(), guard));
    guarded
        .merge(pages)
        .route("/", get(page::page))
        .route("/health", get(state::health))
        .route("/ready", get(state::ready))
        .fallback(|| async {
            Failure::new(StatusCode::NOT_FOUND, "there is nothing here; see docs/serve.md")
        })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "another method is needed here")
        })
        .layer(from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// Lets in who has a key.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !app.keys.allow(request.headers()) {
        return Failure::unauthorized().into_response();
    }
    next.run(request).await
}

/// Names, counts and logs a request, without what it says; and answers browsers that ask whether a
/// page may call.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = app.id("req");
    let method = request.method().clone();
    // Paths of strangers are not counted each by itself.
    let path = known(request.uri().path());
    let origin = allowed_origin(&app, &request);
    let is_preflight = method == Method::OPTIONS && origin.is_some();
    let mut response = match is_preflight {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        let allowed = HeaderValue::from_static("authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        let methods = HeaderValue::from_static("GET, POST");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    let status = response.status().as_u16();
    app.metrics.request(path, status);
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(id, %method, path, status, ms, "request");
    response
}

const PATHS: [&str; 13] = [
    "/",
    "/demo",
    "/health",
    "/ready",
    "/metrics",
    "/tokenize",
    "/detokenize",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/receipts",
    "other",
];

fn known(path: &str) -> &'static str {
    let with_names =
        ["/v1/models", "/v1/receipts", "/demo"].into_iter().find(|it| path.starts_with(it));
    let path = with_names.unwrap_or(path);
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

fn allowed_origin(app: &App, request: &Request) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let allowed = app.options.cors_origins.iter();
    let mut matching = allowed.filter(|it| *it == "*" || it.as_bytes() == origin.as_bytes());
    matching.next().map(|_| origin.clone())
}
