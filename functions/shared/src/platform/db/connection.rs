//! Connections: addresses as people write them, TLS that always verifies, and a timeout for opening.

use std::time::Duration;

use tokio_postgres::{Client, config::SslMode};

use super::error::DbError;
use crate::platform::secrets::Secret;

/// Opens a connection that the runtime drives until it breaks or its client is dropped.
pub(in crate::platform) async fn connect(
    address: &Secret,
    extra_roots: &str,
    timeout: Duration,
) -> Result<Client, DbError> {
    let mut config = parse_address(address.expose())?;
    config.application_name("tuberry");
    let opening = async {
        if matches!(config.get_ssl_mode(), SslMode::Disable) {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, DbError>(client)
        } else {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls_config(extra_roots)?);
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(connection);
            Ok(client)
        }
    };
    match tokio::time::timeout(timeout, opening).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(DbError::Statement(state))) => Err(DbError::Statement(state)),
        Ok(Err(_)) => Err(DbError::Unavailable("the connection was refused")),
        Err(_) => Err(DbError::Unavailable("connecting took too long")),
    }
}

/// Reads a database address. tokio-postgres knows no `verify-full`; our TLS always verifies, so `require` means the
/// same. Without `sslmode` the connection is plain.
pub fn parse_address(address: &str) -> Result<tokio_postgres::Config, DbError> {
    let known =
        address.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: tokio_postgres::Config =
        known.parse().map_err(|_| DbError::Unavailable("its address cannot be read"))?;
    if !known.contains("sslmode=") {
        config.ssl_mode(SslMode::Disable);
    }
    Ok(config)
}

fn tls_config(extra_roots: &str) -> Result<rustls::ClientConfig, DbError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(extra_roots.as_bytes()) {
        let certificate = certificate.map_err(|_| DbError::Unavailable("DATABASE_CA is not PEM"))?;
        roots.add(certificate).map_err(|_| DbError::Unavailable("DATABASE_CA holds a certificate that is none"))?;
    }
    rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|_| DbError::Unavailable("TLS could not be set up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_for_verification_is_verified() {
        for mode in ["require", "verify-full", "verify-ca"] {
            let config = parse_address(&format!("postgres://u@db.example/tuberry?sslmode={mode}"));
            assert_eq!(config.map(|config| config.get_ssl_mode()).ok(), Some(SslMode::Require));
        }
    }

    #[test]
    fn an_address_that_names_no_mode_is_plain() {
        let config = parse_address("postgres://u@127.0.0.1/tuberry");
        assert_eq!(config.map(|config| config.get_ssl_mode()).ok(), Some(SslMode::Disable));
    }
}
