//! `GET /v1/receipts/DIGEST`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use polychord_receipts::Digest;

use super::app::App;
use super::failure::Failure;

/// The receipt of an answer, of whichever model, byte for byte what `polychord verify` takes.
pub(super) async fn receipt(
    State(app): State<Arc<App>>,
    Path(digest): Path<String>,
) -> Result<Response, Failure> {
    let wrong = |_| Failure::param("digest", "a digest has 64 lower-case hexadecimal digits");
    let digest: Digest = digest.parse().map_err(wrong)?;
    let running = app.models.iter().filter_map(|model| model.running());
    let found = running.filter_map(|it| it.scheduler().ok()?.receipt(&digest)).next();
    let gone = "there is no such receipt: --receipts says how many bytes of them are kept, the newest ones";
    let json = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, gone))?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, (*json).to_owned()).into_response())
}
