//! Pictures and voices; like the real ones they need no token.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;

use crate::calls::Target;
use crate::faults::Subject;
use crate::files;
use crate::pictures;
use crate::world::World;

/// `GET /media/…`.
pub(crate) async fn serve(world: &World, rest: &str, path: &str) -> Response<Body> {
    let mut subject = Subject { target: Target::Avito, method: "media".to_owned(), ..Subject::default() };
    if rest.starts_with("item/") {
        // Every item shows the same picture.
        let picture = ([(header::CONTENT_TYPE, "image/png")], pictures::generated(1)).into_response();
        return files::serve(world, subject, path.to_owned(), picture).await;
    }
    let name = rest.rsplit('/').next().unwrap_or_default();
    let file = world.state().avito.files.get(name).cloned();
    let found = match file {
        Some(file) => {
            (subject.user_id, subject.chat) = (file.user_id, file.chat);
            (StatusCode::OK, [(header::CONTENT_TYPE, file.mime)], file.bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    };
    files::serve(world, subject, path.to_owned(), found).await
}
