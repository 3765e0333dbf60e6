//! Reading what clients send.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::app::App;
use super::failure::{Failure, crop};
use super::request::Common;

/// Reads a body of JSON, as [`body`] and [`fields`] do.
pub(super) async fn json<T: DeserializeOwned>(app: &App, from: Body) -> Result<T, Failure> {
    fields(&body(app, from).await?)
}

/// Reads a body, which may neither be too long nor come too slowly.
pub(super) async fn body(app: &App, body: Body) -> Result<Bytes, Failure> {
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
    Ok(body.to_bytes())
}

/// What an endpoint knows of a request, and what all know that generate. They are read apart: of a field that is
/// flattened into another struct, errors would not name the parameter.
pub(super) fn request<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Common), Failure> {
    Ok((fields(body)?, fields(body)?))
}

/// What is known of a body of JSON; a failure names the parameter.
pub(super) fn fields<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // An array would be taken for fields without names.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "the body is not a JSON object"));
    }
    // `serde_json` goes 128 levels deep and no further.
    let mut text = serde_json::Deserializer::from_slice(body);
    let fields = serde_path_to_error::deserialize(&mut text).map_err(|error| wrong(&error))?;
    text.end().map_err(|error| no_request(&error))?;
    Ok(fields)
}

fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let path = error.path();
    match path.iter().next() {
        Some(Segment::Map { key }) if error.inner().is_data() => {
            Failure::param(crop(key), format!("{}: {}", crop(&path.to_string()), error.inner()))
        }
        _ => no_request(error.inner()),
    }
}

fn no_request(error: &serde_json::Error) -> Failure {
    let what = if error.is_data() { "a request" } else { "JSON" };
    Failure::new(StatusCode::BAD_REQUEST, format!("the body is not {what}: {error}"))
}
