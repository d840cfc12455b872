//! The caller of an endpoint, as a handler's parameter. Without a live session the handler does not run.
//! The handler's first line checks the caller's rights, so that they can be read there.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use uuid::Uuid;

use super::{
    sessions,
    tokens::{Audience, Signer},
    users::Role,
};
use crate::{
    App,
    platform::{
        config::var,
        db::ClientId,
        http::Problem,
        secrets::{Secret, same},
    },
};

/// The least length of the token for the operator's own programs, as the configuration demands it.
const MIN_SERVICE_TOKEN_BYTES: usize = 32;

/// A signed-in person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub user_id: i64,
    /// The organisation. `None`: the person is the platform's admin.
    pub client_id: Option<ClientId>,
    /// The person's role.
    pub role: Role,
    /// The session.
    pub session_id: Uuid,
}

impl Caller {
    /// Returns the caller's organisation. 403: the caller has none.
    pub fn client(&self) -> Result<ClientId, Problem> {
        self.client_id.ok_or(Problem::forbidden())
    }

    /// Returns the caller's organisation if the caller runs it, else 403.
    pub fn owner(&self) -> Result<ClientId, Problem> {
        match self.role {
            Role::Owner => self.client(),
            Role::Manager | Role::Admin => Err(Problem::forbidden()),
        }
    }

    /// Succeeds if the caller runs the platform, else 403.
    pub fn admin(&self) -> Result<(), Problem> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Owner | Role::Manager => Err(Problem::forbidden()),
        }
    }

    async fn of(headers: &HeaderMap, app: &App) -> Result<Self, Problem> {
        let token = bearer(headers).ok_or(Problem::unauthorized())?;
        let claims = Signer::of(app).read(Audience::Api, token).map_err(|_| Problem::unauthorized())?;
        let live = sessions::live(app, claims.sid).await?.ok_or(Problem::unauthorized())?;
        if claims.sub != live.user_id.to_string() {
            return Err(Problem::unauthorized());
        }
        Ok(Self { user_id: live.user_id, client_id: live.client_id, role: live.role, session_id: claims.sid })
    }
}

impl FromRequestParts<&'static App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &&'static App) -> Result<Self, Problem> {
        Self::of(&parts.headers, app).await
    }
}

/// Succeeds for the platform's operator: its admin, or a program with the service token. Others get 401 or 403.
pub async fn operator(headers: &HeaderMap, app: &App) -> Result<(), Problem> {
    if bearer(headers).is_some_and(|token| is_service_token(token, app.config().text(var::SERVICE_TOKEN))) {
        return Ok(());
    }
    Caller::of(headers, app).await?.admin()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// True if `given` is the service token. While that rotates there are two, `newer,older`.
fn is_service_token(given: &str, configured: &str) -> bool {
    let given = Secret::new(given).hash();
    let known = configured.split(',').map(str::trim).filter(|token| token.len() >= MIN_SERVICE_TOKEN_BYTES);
    known.fold(false, |found, token| found | same(&Secret::new(token).hash(), &given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn caller(role: Role, client_id: Option<i64>) -> Caller {
        Caller { user_id: 1, client_id: client_id.map(ClientId), role, session_id: Uuid::nil() }
    }

    #[test]
    fn only_an_owner_runs_an_organisation_and_an_admin_has_none() {
        assert!(caller(Role::Owner, Some(1)).owner().is_ok());
        assert!(caller(Role::Manager, Some(1)).owner().is_err());
        assert!(caller(Role::Manager, Some(1)).client().is_ok());
        assert!(caller(Role::Admin, None).client().is_err());
        assert!(caller(Role::Admin, None).admin().is_ok());
        assert!(caller(Role::Owner, Some(1)).admin().is_err());
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for (value, token) in
            [("Bearer abc", Some("abc")), ("bearer abc", Some("abc")), ("Basic abc", None), ("abc", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(bearer(&headers), token, "{value}");
        }
    }

    #[test]
    fn both_service_tokens_are_known_while_they_rotate() {
        let (newer, older) = ("n".repeat(32), "o".repeat(32));
        let both = format!("{newer},{older}");
        assert!(is_service_token(&newer, &both) && is_service_token(&older, &both));
        assert!(
            !is_service_token(&both, &both) && !is_service_token("", &both) && !is_service_token("short", "short,x")
        );
    }
}
