//! Our tokens: JWT, HS256. Each audience has a signing key of its own, so a token of one audience fails at another by
//! its signature, no matter what its claims say.

use hkdf::Hkdf;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::users::Role;
use crate::{App, platform::config::var, platform::secrets::Secret};

const ISSUER: &str = "tuberry";
const LEEWAY_SECONDS: u64 = 5;
/// The least length of a secret, as the configuration demands it; also of each of two secrets in use.
const MIN_SECRET_BYTES: usize = 32;

/// The use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// To call the API.
    Api,
    /// To get new tokens.
    Refresh,
}

impl Audience {
    /// Its name in the claim `aud`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Refresh => "refresh",
        }
    }
}

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// The user's role when it was issued.
    pub role: Role,
    /// The user's organisation when it was issued.
    pub client_id: Option<i64>,
    /// The session.
    pub sid: Uuid,
    /// The issuer.
    pub iss: String,
    /// The audience's name.
    pub aud: String,
    /// The time of issue, seconds since 1970.
    pub iat: i64,
    /// The time at which it ends, seconds since 1970.
    pub exp: i64,
    /// The token's own id.
    pub jti: String,
    /// The time at which the person last signed in, seconds since 1970.
    pub auth_time: i64,
}

/// The data of a token that is to be made.
pub struct Grant<'a> {
    /// The user.
    pub user_id: i64,
    /// The user's role.
    pub role: Role,
    /// The user's organisation.
    pub client_id: Option<i64>,
    /// The session.
    pub session_id: Uuid,
    /// The token's own id.
    pub jti: &'a str,
    /// The time at which the person signed in.
    pub auth_time: Timestamp,
    /// The time of issue.
    pub issued_at: Timestamp,
    /// The time at which it ends.
    pub expires_at: Timestamp,
}

/// A token that is not ours, for another audience, or not valid any more. The error does not say which.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the token is not valid")]
pub struct NotValid;

struct NamedSecret {
    /// Derived from the secret itself, so that rotation needs no numbering.
    kid: String,
    secret: String,
}

/// Makes and reads tokens. While the secret rotates there are two, `newer,older`: the first signs, both verify.
pub struct Signer(Vec<NamedSecret>);

impl Signer {
    /// Makes a signer with the deployment's secret.
    pub fn of(app: &App) -> Self {
        Self::new(app.config().text(var::JWT_SECRET_KEY))
    }

    fn new(text: &str) -> Self {
        let secrets = match text.split_once(',') {
            Some((newer, older)) if newer.len().min(older.len()) >= MIN_SECRET_BYTES => vec![newer, older],
            _ => vec![text],
        };
        let named =
            |secret: &str| NamedSecret { kid: hex::encode(expand::<4>(secret, "kid")), secret: secret.to_owned() };
        Self(secrets.into_iter().map(named).collect())
    }

    /// Makes a token.
    pub fn sign(&self, audience: Audience, grant: &Grant<'_>) -> Secret {
        let claims = Claims {
            sub: grant.user_id.to_string(),
            role: grant.role,
            client_id: grant.client_id,
            sid: grant.session_id,
            iss: ISSUER.to_owned(),
            aud: audience.name().to_owned(),
            iat: grant.issued_at.as_second(),
            exp: grant.expires_at.as_second(),
            jti: grant.jti.to_owned(),
            auth_time: grant.auth_time.as_second(),
        };
        let newest = &self.0[0];
        let header = Header { kid: Some(newest.kid.clone()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(&expand::<32>(&newest.secret, audience.name()));
        Secret::new(encode(&header, &claims, &key).expect("HMAC signs any claims"))
    }

    /// Reads a token that is meant for `audience`.
    pub fn read(&self, audience: Audience, token: &str) -> Result<Claims, NotValid> {
        let kid = decode_header(token).map_err(|_| NotValid)?.kid.ok_or(NotValid)?;
        let named = self.0.iter().find(|named| named.kid == kid).ok_or(NotValid)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[audience.name()]);
        rules.set_issuer(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = LEEWAY_SECONDS;
        let key = DecodingKey::from_secret(&expand::<32>(&named.secret, audience.name()));
        decode(token, &key, &rules).map(|data| data.claims).map_err(|_| NotValid)
    }
}

fn expand<const N: usize>(secret: &str, purpose: &str) -> [u8; N] {
    let mut bytes = [0; N];
    Hkdf::<Sha256>::new(None, secret.as_bytes())
        .expand(purpose.as_bytes(), &mut bytes)
        .expect("so few bytes are within HKDF's limit");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const OLD: &str = "an old secret of at least thirty-two characters";
    const NEW: &str = "a newer secret of at least thirty-two characters";

    fn token(signer: &Signer, audience: Audience, issued_at: Timestamp) -> Secret {
        let expires_at = issued_at + SignedDuration::from_secs(1800);
        let (session_id, auth_time) = (Uuid::nil(), issued_at);
        let role = Role::Owner;
        let grant =
            Grant { user_id: 7, role, client_id: Some(3), session_id, jti: "j", auth_time, issued_at, expires_at };
        signer.sign(audience, &grant)
    }

    #[test]
    fn a_token_reads_as_it_was_signed() {
        let (signer, now) = (Signer::new(OLD), Timestamp::now());
        let claims = signer.read(Audience::Api, token(&signer, Audience::Api, now).expose());
        let read = claims.map(|claims| (claims.sub, claims.role, claims.client_id, claims.exp, claims.aud));
        assert_eq!(read, Ok(("7".into(), Role::Owner, Some(3), now.as_second() + 1800, "api".into())));
    }

    #[test]
    fn a_refresh_token_fails_as_an_access_token_by_its_signature() {
        let signer = Signer::new(OLD);
        let refresh = token(&signer, Audience::Refresh, Timestamp::now());
        assert_eq!(signer.read(Audience::Api, refresh.expose()), Err(NotValid));
        let key = DecodingKey::from_secret(&expand::<32>(OLD, "api"));
        let mut lenient = Validation::new(Algorithm::HS256);
        lenient.validate_aud = false;
        let outcome = decode::<Claims>(refresh.expose(), &key, &lenient).map(|data| data.claims);
        let kind = outcome.map_err(jsonwebtoken::errors::Error::into_kind);
        assert_eq!(kind, Err(jsonwebtoken::errors::ErrorKind::InvalidSignature));
    }

    #[test]
    fn a_token_ends_five_seconds_after_its_time() {
        let signer = Signer::new(OLD);
        let ended = |seconds_ago: i64| {
            let issued_at = Timestamp::now() - SignedDuration::from_secs(1800 + seconds_ago);
            signer.read(Audience::Api, token(&signer, Audience::Api, issued_at).expose()).is_err()
        };
        assert_eq!((ended(2), ended(10)), (false, true));
    }

    #[test]
    fn a_token_of_the_older_secret_is_read_until_that_is_gone() {
        let old = token(&Signer::new(OLD), Audience::Api, Timestamp::now());
        assert!(Signer::new(&format!("{NEW},{OLD}")).read(Audience::Api, old.expose()).is_ok());
        assert!(Signer::new(NEW).read(Audience::Api, old.expose()).is_err());
    }

    #[test]
    fn a_token_without_signature_is_refused() {
        let signer = Signer::new(OLD);
        let token = token(&signer, Audience::Api, Timestamp::now());
        let claims = token.expose().split('.').nth(1).unwrap_or_default();
        for header in
            [r#"{"alg":"none","typ":"JWT"}"#.to_owned(), format!(r#"{{"alg":"none","kid":"{}"}}"#, signer.0[0].kid)]
        {
            let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
            assert_eq!(signer.read(Audience::Api, &format!("{header}.{claims}.")), Err(NotValid));
        }
    }
}
