//! `GET /api/dialogs`: the organisation's dialogs, those with the newest messages first. For everyone in it.

use axum::extract::{Query, State};
use serde::Deserialize;
use tuberry::{
    App,
    bridge::{
        api::history::{self, Dialog, Filter},
        states::DialogState,
    },
    identity::caller::Caller,
    platform::{
        http::{Json, Problem, ProblemBody, text},
        page::{Page, PageQuery, Ranked},
    },
};
use utoipa::IntoParams;

tuberry::lambda!("dialogs-list", list as __path_list, [Database, Cache, Tokens]);

/// The query of the list: filters and paging.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DialogsQuery {
    /// Only those that stand so.
    #[param(inline)]
    state: Option<DialogState>,
    /// Only those of this Avito account.
    avito_account_id: Option<i64>,
    /// Only those whose buyers wait for an answer, or only the others.
    unanswered: Option<bool>,
    /// Only those in whose buyer's name, item's title or texts this stands.
    #[param(min_length = 3, max_length = 100)]
    search: Option<String>,
}

impl DialogsQuery {
    fn filter(self) -> Result<Filter, Problem> {
        let search = self.search.map(|search| search.trim().to_owned());
        let fits = |search: &String| (3..=100).contains(&search.chars().count()) && !search.contains('\0');
        if search.as_ref().is_some_and(|search| !fits(search)) {
            let detail =
                text("Искать можно по тексту от 3 до 100 знаков.", "A search is a text of 3 to 100 characters.");
            return Err(Problem::invalid_field("search", "invalid", detail));
        }
        let Self { state, avito_account_id, unanswered, .. } = self;
        Ok(Filter { state, avito_account_id, unanswered, search })
    }
}

/// The organisation's dialogs, those with the newest messages first.
#[utoipa::path(get, path = "/api/dialogs", operation_id = "dialogs-list", tag = "dialogs", params(PageQuery, DialogsQuery),
    responses(
    (status = 200, body = Page<Dialog>, description = "Done"),
    (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "Malformed, or no such state"),
    (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "Not signed in"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "Not for this caller"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "Invalid fields"),
))]
async fn list(
    State(app): State<&'static App>,
    caller: Caller,
    wanted: Ranked<2>,
    Query(query): Query<DialogsQuery>,
) -> Result<Json<Page<Dialog>>, Problem> {
    let client = caller.client()?;
    Ok(Json(history::dialogs(app, client, query.filter()?, wanted).await?))
}
