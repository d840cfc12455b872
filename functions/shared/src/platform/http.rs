//! HTTP of all endpoints: JSON bodies within limits, and errors as `application/problem+json` (RFC 9457) without
//! internals. One log line per request names the route, never the path.

use std::{borrow::Cow, convert::Infallible, panic::AssertUnwindSafe, time::Instant};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tower::ServiceExt;

use super::{
    db::DbError,
    json::{self, Misfit},
};

/// A sentence for people, in both languages they read.
#[derive(Clone, Debug)]
pub struct Text {
    /// In Russian.
    pub ru: Cow<'static, str>,
    /// In English.
    pub en: Cow<'static, str>,
}

/// Both languages of one sentence.
pub const fn text(ru: &'static str, en: &'static str) -> Text {
    Text { ru: Cow::Borrowed(ru), en: Cow::Borrowed(en) }
}

/// What is wrong with one field of a body.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// The field's path in the body.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// An error as the caller receives it.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Text,
    errors: Vec<FieldProblem>,
    retry_after: Option<u32>,
}

/// The JSON body of a [`Problem`].
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`: the code tells the kind.
    pub r#type: &'static str,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A sentence that may be shown to a person, in the language of `Accept-Language` (ru or en).
    pub detail: String,
    /// A stable name of the problem.
    pub code: &'static str,
    /// The fields that are wrong, if that is the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// The id under which the logs know this request.
    pub request_id: String,
}

impl Problem {
    /// A problem with its status, stable code and sentence.
    pub const fn new(status: StatusCode, code: &'static str, detail: Text) -> Self {
        Self { status, code, detail, errors: Vec::new(), retry_after: None }
    }

    /// 400.
    pub const fn malformed(detail: Text) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: not signed in, or not any more.
    pub const fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", text("Войдите снова.", "Sign in again."))
    }

    /// 403: signed in, but may not.
    pub const fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", text("На это нет прав.", "You may not do this."))
    }

    /// 404: not there, or not the caller's.
    pub const fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text("Не найдено.", "Not found."))
    }

    /// 409.
    pub const fn conflict(code: &'static str, detail: Text) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 for one field.
    pub fn invalid_field(field: &str, code: &'static str, detail: Text) -> Self {
        let errors = vec![FieldProblem { field: field.to_owned(), message: detail.en.clone().into_owned() }];
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail) }
    }

    /// 503: something we need is down; the caller may try again.
    pub fn unavailable() -> Self {
        let detail = text(
            "Сервис временно недоступен, попробуйте чуть позже.",
            "The service is away for a moment, try again shortly.",
        );
        Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// 500, without internals.
    pub const fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text("Внутренняя ошибка.", "Internal error."))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem that a bare status stands for.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                status,
                "method_not_allowed",
                text("Такой метод здесь не годится.", "This method does not work here."),
            ),
            status if status.is_client_error() => {
                Self::new(status, "malformed", text("Запрос составлен неверно.", "The request is malformed."))
            }
            _ => Self::internal(),
        }
    }

    fn body(&self, russian: bool, request_id: &str) -> ProblemBody {
        ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: if russian { self.detail.ru.clone() } else { self.detail.en.clone() }.into_owned(),
            code: self.code,
            errors: self.errors.clone(),
            request_id: request_id.to_owned(),
        }
    }
}

impl IntoResponse for Problem {
    /// Leaves the body to [`answer`], which knows language and request id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "a database request failed");
        match error {
            DbError::Unavailable(_) => Self::unavailable(),
            DbError::Constraint { .. } | DbError::Statement(_) | DbError::Shape => Self::internal(),
        }
    }
}

/// The most bytes an ordinary body may have.
pub const BODY_LIMIT: usize = 1 << 20;
/// The most bytes that are read of an update of Telegram's.
pub const TELEGRAM_WEBHOOK_LIMIT: usize = 1 << 20;
/// The most bytes that are read of a webhook of Avito's.
pub const AVITO_WEBHOOK_LIMIT: usize = 256 << 10;
const DEPTH_LIMIT: usize = 64;

const fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text("Запрос слишком велик.", "The request is too large."))
}

async fn read_body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|_| too_large())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    const NOT_JSON: Problem = Problem::malformed(text("Тело запроса не JSON.", "The body is not JSON."));
    let value = if json::is_shallow(bytes, DEPTH_LIMIT) { json::read(bytes).ok() } else { None };
    let value = value.ok_or(NOT_JSON)?;
    // A list would be read member by member, in the order of the fields.
    let fields = if value.is_object() {
        json::typed(value)
    } else {
        Err(Misfit { field: "body".to_owned(), message: "expected an object".to_owned() })
    };
    fields.map_err(|Misfit { field, message }| Problem {
        errors: vec![FieldProblem { field, message }],
        ..Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            text(
                "В запросе не хватает поля или его значение не годится.",
                "A field is missing or its value does not fit.",
            ),
        )
    })
}

/// A JSON body: at most [`BODY_LIMIT`] bytes, read as `T` and validated. Also a response.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + garde::Validate<Context = ()>> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            let detail = text("Нужен Content-Type: application/json.", "Content-Type: application/json is needed.");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        let value: T = parse(&read_body(request, BODY_LIMIT).await?)?;
        value.validate().map_err(|report| {
            let errors =
                report.iter().map(|(path, error)| FieldProblem { field: path.to_string(), message: error.to_string() });
            let detail = text("Проверьте поля запроса.", "Check the fields of the request.");
            Problem { errors: errors.collect(), ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
        })?;
        Ok(Self(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The first `LIMIT` bytes of a webhook's body. No body is refused here: only a wrong secret is.
pub struct WebhookBody<const LIMIT: usize>(pub Bytes);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for WebhookBody<LIMIT> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let (mut body, mut frames) = (BytesMut::new(), request.into_body().into_data_stream());
        while body.len() < LIMIT
            && let Some(Ok(frame)) = frames.next().await
        {
            body.extend_from_slice(&frame[..frame.len().min(LIMIT - body.len())]);
        }
        Ok(Self(body.freeze()))
    }
}

/// The facts about a request besides its content.
pub struct Edge<'a> {
    /// The route as declared: method and path with its parameters' names.
    pub route: &'a str,
    /// The id under which the logs know this request.
    pub request_id: &'a str,
}

/// Runs `router` and completes its response: problems get their body, panics become 500, one line is logged.
pub async fn answer(router: Router, request: Request, edge: Edge<'_>) -> Response {
    let started = Instant::now();
    let languages = request.headers().get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let russian = prefers_russian(languages.unwrap_or_default());
    let outcome = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(request_id = edge.request_id, route = edge.route, "the handler panicked");
            Problem::internal().into_response()
        }
    };
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove().unwrap_or_else(|| Problem::of_status(status));
        let body = serde_json::to_vec(&problem.body(russian, edge.request_id)).unwrap_or_default();
        *response.body_mut() = Body::from(body);
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(edge.request_id) {
        headers.insert("x-request-id", id);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // Responses depend on the caller, so no cache stores them unless the handler allows it.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("strict-transport-security", HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(request_id = edge.request_id, route = edge.route, status = status.as_u16(), ms, "answered");
    response
}

/// True if Russian is the first language of `Accept-Language` that we speak. It is the default if there is none.
fn prefers_russian(accept_language: &str) -> bool {
    let mut languages =
        accept_language.split(',').map(|part| part.trim().get(..2).unwrap_or_default().to_ascii_lowercase());
    languages.find(|language| language == "ru" || language == "en").is_none_or(|language| language == "ru")
}

#[cfg(test)]
mod tests;
