//! Reading what clients send.

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::app::App;
use super::failure::Failure;

/// Reads a body of JSON, which may neither be too long nor come too slowly.
pub(super) async fn json<T: DeserializeOwned>(app: &App, body: Body) -> Result<T, Failure> {
    let most = app.options.max_body_bytes;
    let body = Limited::new(body, most).collect();
    // Headers are short, and a body may be as long as allowed: as long again for it.
    let time = app.options.header_time * 2;
    let Ok(body) = tokio::time::timeout(time, body).await else {
        let message = format!("the body did not come within {} s", time.as_secs());
        return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, message));
    };
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the body has more than {most} bytes");
            return Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Failure::new(StatusCode::BAD_REQUEST, "the body is cut short")
    })?;
    // `serde_json` goes 128 levels deep and no further.
    serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, format!("the body is no request in JSON: {error}"))
    })
}
