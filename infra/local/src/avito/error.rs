//! Refusals in the documented bodies of Avito.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    /// `{"error": {"code", "message"}}`.
    pub(crate) fn new(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "error": { "code": status, "message": message } }), retry_after: None }
    }

    /// 400 that names the member at fault.
    pub(crate) fn invalid(field: &str, why: &str) -> Self {
        let error = json!({ "code": 400, "message": "Validation error", "fields": { (field): why } });
        Self { status: 400, body: json!({ "error": error }), retry_after: None }
    }

    /// 404.
    pub(crate) fn not_found() -> Self {
        Self::new(404, "Not found")
    }

    /// 401: the keys are unknown; in the words of OAuth.
    pub(crate) fn invalid_client() -> Self {
        let body = json!({ "error": "invalid_client", "error_description": "Client authentication failed" });
        Self { status: 401, body, retry_after: None }
    }

    /// A plain refusal with this status, for faults.
    pub(crate) fn status(status: u16, retry_after: Option<u32>) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        Self { retry_after, ..Self::new(status, reason.unwrap_or("Error")) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = match self.body {
            Value::String(text) => (status, text).into_response(),
            body => (status, axum::Json(body)).into_response(),
        };
        if let Some(retry_after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
        }
        response
    }
}
