//! Secrets that cannot be printed by accident, and their encryption at rest.
//! A ciphertext names its key, so keys can rotate. It is bound to its context, so rows cannot be swapped.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A text that must never reach a log: it has neither `Debug` nor `Display`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new unguessable text of 43 characters `[A-Za-z0-9_-]`: 256 random bits.
    pub fn random() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The text itself, for the one use that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the text, stored for a secret that is only compared.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Compares in constant time, so that the time does not show how much was equal.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The context of a ciphertext: it does not open in another one.
#[derive(Clone, Copy)]
pub struct SealContext {
    /// The table's name.
    pub table: &'static str,
    /// The column's name.
    pub column: &'static str,
    /// The tenant whose row it is.
    pub client_id: i64,
}

impl SealContext {
    fn associated_data(&self) -> String {
        format!("{}.{}.{}", self.table, self.column, self.client_id)
    }
}

/// The failures of keys and ciphertexts. They contain nothing of either.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretsError {
    /// `SECRETS_KEY` is not usable.
    #[error(
        "SECRETS_KEY must be one or more keys, newest first, as `id:text,id:text`: ids 0-255, texts of 32 characters or more"
    )]
    BadKeys,
    /// The ciphertext belongs to another key or context, or was changed.
    #[error("a stored secret does not open with the keys at hand")]
    DoesNotOpen,
}

struct NamedKey {
    id: u8,
    cipher: XChaCha20Poly1305,
    signing: [u8; 32],
}

/// The keys of the deployment, newest first: the first seals, all open.
pub struct Keyring(Vec<NamedKey>);

const NONCE_BYTES: usize = 24;

impl Keyring {
    /// Reads `SECRETS_KEY`: `id:text,id:text`, newest first; a single text without an id has id 0.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let keys = text.split(',').map(str::trim).map(NamedKey::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(keys))
    }

    /// Encrypts `secret` for `context`. Returns key id, nonce and ciphertext with its tag.
    pub fn seal(&self, secret: &Secret, context: SealContext) -> Vec<u8> {
        let key = &self.0[0];
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let associated = context.associated_data();
        let payload = Payload { msg: secret.expose().as_bytes(), aad: associated.as_bytes() };
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("XChaCha20-Poly1305 refuses only texts of hundreds of gigabytes");
        [&[key.id], nonce.as_slice(), &sealed].concat()
    }

    /// Decrypts the result of [`Keyring::seal`] for the same context.
    pub fn open(&self, sealed: &[u8], context: SealContext) -> Result<Secret, SecretsError> {
        let (&id, rest) = sealed.split_first().ok_or(SecretsError::DoesNotOpen)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SecretsError::DoesNotOpen)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or(SecretsError::DoesNotOpen)?;
        let associated = context.associated_data();
        let payload = Payload { msg: body, aad: associated.as_bytes() };
        let text = key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SecretsError::DoesNotOpen)?;
        String::from_utf8(text).map(Secret).map_err(|_| SecretsError::DoesNotOpen)
    }

    /// Derives a second secret from the first, for a header beside a path: 64 hex digits.
    pub fn derive(&self, secret: &Secret) -> Secret {
        Secret(hex::encode(self.0[0].sign(secret)))
    }

    /// True if `derived` is [`Keyring::derive`] of `secret` under any of the keys.
    pub fn derives(&self, secret: &Secret, derived: &str) -> bool {
        self.0.iter().any(|key| same(hex::encode(key.sign(secret)).as_bytes(), derived.as_bytes()))
    }
}

impl NamedKey {
    fn parse(text: &str) -> Result<Self, SecretsError> {
        let (id, key) = match text.split_once(':') {
            Some((id, key)) => (id.parse().map_err(|_| SecretsError::BadKeys)?, key),
            None => (0, text),
        };
        if key.len() < 32 {
            return Err(SecretsError::BadKeys);
        }
        let expand = |info: &[u8]| {
            let mut bytes = [0; 32];
            Hkdf::<Sha256>::new(None, key.as_bytes())
                .expand(info, &mut bytes)
                .expect("32 bytes are within HKDF's limit");
            bytes
        };
        let cipher = XChaCha20Poly1305::new(&Key::from(expand(b"tuberry secrets at rest")));
        Ok(Self { id, cipher, signing: expand(b"tuberry derived secrets") })
    }

    fn sign(&self, secret: &Secret) -> [u8; 32] {
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.signing).expect("HMAC takes keys of any length");
        mac.update(secret.expose().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "1:an old key of at least thirty-two characters";
    const NEW: &str = "2:a newer key of at least thirty-two characters";
    const HERE: SealContext = SealContext { table: "bots", column: "token", client_id: 7 };

    fn keys(text: &str) -> Keyring {
        Keyring::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    proptest! {
        #[test]
        fn a_sealed_text_opens_to_the_same_text(text in ".{0,300}") {
            let keys = keys(OLD);
            let opened = keys.open(&keys.seal(&Secret::new(text.clone()), HERE), HERE).map(|secret| secret.0);
            prop_assert_eq!(opened, Ok(text));
        }

        #[test]
        fn a_changed_ciphertext_does_not_open(byte in 0usize..60, flip in 1u8..=255) {
            let keys = keys(OLD);
            let mut sealed = keys.seal(&Secret::new("twenty letters here!"), HERE);
            let index = byte % sealed.len();
            sealed[index] ^= flip;
            prop_assert!(keys.open(&sealed, HERE).is_err());
        }
    }

    #[test]
    fn a_ciphertext_moved_to_another_tenant_does_not_open() {
        let keys = keys(OLD);
        let sealed = keys.seal(&Secret::new("token"), HERE);
        assert!(keys.open(&sealed, SealContext { client_id: 8, ..HERE }).is_err());
    }

    #[test]
    fn after_a_rotation_old_ciphertexts_open_and_new_ones_use_the_new_key() {
        let sealed = keys(OLD).seal(&Secret::new("token"), HERE);
        let rotated = keys(&format!("{NEW},{OLD}"));
        assert!(rotated.open(&sealed, HERE).is_ok_and(|secret| secret.0 == "token"));
        assert_eq!(rotated.seal(&Secret::new("token"), HERE)[0], 2);
    }

    #[test]
    fn a_header_secret_made_before_a_rotation_is_still_accepted() {
        let path = Secret::new("path");
        let header = keys(OLD).derive(&path);
        assert!(keys(&format!("{NEW},{OLD}")).derives(&path, header.expose()));
        assert!(!keys(NEW).derives(&path, header.expose()));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert_eq!(Keyring::parse("1:short").err(), Some(SecretsError::BadKeys));
    }
}
