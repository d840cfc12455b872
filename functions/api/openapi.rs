//! `GET /api/openapi.json`: the description of this API. Anyone may read it.
//! `make openapi` writes the file by asking every binary to describe itself.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

tuberry::lambda!("openapi", openapi as __path_openapi, []);

/// This API, described.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "openapi", tag = "ops", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json"),
))]
async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], include_str!("openapi.json")).into_response()
}
