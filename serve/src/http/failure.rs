//! Errors in the form of `OpenAI`'s API.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use polychord_session::ErrorKind;
use serde_json::json;

use crate::error::Error;
use crate::scheduler::Refused;

/// An error in the form of `OpenAI`'s API.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A parameter that has a wrong value, or is not possible.
    pub(super) fn param(name: impl Into<String>, message: impl Into<String>) -> Self {
        let param = Some(name.into());
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// A parameter that has to be there.
    pub(super) fn missing(name: &'static str) -> Self {
        Self::param(name, format!("{name} is missing"))
    }

    pub(super) fn no_model(name: &str, names: &[&str]) -> Self {
        let message =
            format!("there is no model {:?}; there are: {}", crop(name), names.join(", "));
        let code = Some("model_not_found");
        let param = Some("model".to_owned());
        Self { code, param, ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    pub(super) fn too_long(tokens: usize, context: u32) -> Self {
        let message = format!(
            "the prompt has {tokens} tokens, and the context of this server {context}: shorten it"
        );
        let code = Some("context_length_exceeded");
        Self { code, ..Self::param("messages", message) }
    }

    pub(super) fn unauthorized() -> Self {
        let message = "give an API key of this server: Authorization: Bearer KEY";
        let code = Some("invalid_api_key");
        Self { code, ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// An answer that could not go on.
    pub(super) fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::InvalidArgument | ErrorKind::ContextFull => StatusCode::BAD_REQUEST,
            ErrorKind::Stopped => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::OutOfMemory | ErrorKind::TooLarge => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { code: Some(kind.name()), ..Self::new(status, message) }
    }

    /// What a client reads.
    pub(super) fn json(&self) -> serde_json::Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let Self { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Full { retry_after, .. } => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
            },
            Refused::Ending => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Session(error) => Self::of_kind(error.kind(), message),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

impl From<polychord_session::Error> for Failure {
    fn from(error: polychord_session::Error) -> Self {
        Self::of_kind(error.kind(), error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        if let Some(time) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs()));
        }
        response
    }
}

/// A response of JSON.
pub(super) fn json_response(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    // What is written here has names that are texts, and so never fails.
    let text = serde_json::to_string(value).unwrap_or_default();
    (status, kind, text).into_response()
}

/// The beginning of a text of a client.
pub(super) fn crop(text: &str) -> String {
    text.chars().take(80).collect()
}
