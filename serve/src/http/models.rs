//! `GET /v1/models`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::{App, Served};
use super::failure::{Failure, json_response};

/// All models, by name.
pub(super) async fn models(State(app): State<Arc<App>>) -> Response {
    let data: Vec<_> = app.models.iter().map(|model| about(&app, model)).collect();
    json_response(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

/// One of them.
pub(super) async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    app.find(Some(&name)).map(|model| json_response(StatusCode::OK, &about(&app, model)))
}

fn about(app: &App, model: &Served) -> Value {
    let mut about = json!({
        "id": model.name,
        "object": "model",
        "created": app.started,
        "owned_by": "polychord",
        "loaded": model.running().is_some(),
    });
    if let Some(running) = model.running() {
        let config = running.model.config();
        about["context_length"] = running.context().into();
        about["embeddings"] = running.embedder.is_some().into();
        about["trained_context_length"] = config.context_length.into();
        about["vocabulary"] = config.vocab.into();
    }
    about
}
