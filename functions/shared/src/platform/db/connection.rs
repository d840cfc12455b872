//! Connections: addresses as people write them, TLS that always verifies, and a timeout for opening.

use std::{net::IpAddr, time::Duration};

use tokio_postgres::{
    Client,
    config::{Host, SslMode},
};

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

/// Reads a database address. Without TLS is only what stays on this machine, or says `sslmode=disable`. tokio-postgres
/// knows no `verify-full`; our TLS always verifies, so `require` means the same.
pub fn parse_address(address: &str) -> Result<tokio_postgres::Config, DbError> {
    let mut config: tokio_postgres::Config =
        with_known_mode(address).parse().map_err(|_| DbError::Unavailable("its address cannot be read"))?;
    config.ssl_mode(match config.get_ssl_mode() {
        SslMode::Disable => SslMode::Disable,
        // The mode if the address names none. libpq would go on without TLS then.
        SslMode::Prefer if is_local(&config) => SslMode::Disable,
        _ => SslMode::Require,
    });
    Ok(config)
}

/// Rewrites the modes of libpq that tokio-postgres does not know. A password may contain such words, so in a URL only
/// its query is touched.
fn with_known_mode(address: &str) -> String {
    let known = |text: &str| {
        let modes = [("verify-full", "require"), ("verify-ca", "require"), ("allow", "prefer")];
        modes.iter().fold(text.to_owned(), |text, (mode, same)| {
            text.replace(&format!("sslmode={mode}"), &format!("sslmode={same}"))
        })
    };
    match address.rsplit_once('?') {
        Some((server, query)) => format!("{server}?{}", known(query)),
        None if address.contains("://") => address.to_owned(),
        None => known(address),
    }
}

/// True if every server of the address is on this machine: at a loopback address, or behind a socket file.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let is_loopback = |name: &str| name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    config.get_hostaddrs().iter().all(IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => is_loopback(name.trim_matches(['[', ']'])),
            Host::Unix(_) => true,
        })
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

    fn mode(address: &str) -> Option<SslMode> {
        parse_address(address).ok().map(|config| config.get_ssl_mode())
    }

    #[test]
    fn an_address_that_leaves_this_machine_is_verified_whatever_it_says_but_disable() {
        for server in ["db.example", "10.0.0.7", "[2001:db8::7]", "localhost.example", "127.0.0.1,db.example"] {
            for query in [
                "",
                "?sslmode=prefer",
                "?sslmode=allow",
                "?sslmode=require",
                "?sslmode=verify-full",
                "?sslmode=verify-ca",
            ] {
                let address = format!("postgres://u@{server}/tuberry{query}");
                assert_eq!(mode(&address), Some(SslMode::Require), "{address}");
            }
            let address = format!("postgres://u@{server}/tuberry?sslmode=disable&connect_timeout=3");
            assert_eq!(mode(&address), Some(SslMode::Disable), "{address}");
        }
        assert_eq!(mode("host=db.example user=u sslmode=verify-full"), Some(SslMode::Require));
        assert_eq!(mode("host=localhost hostaddr=10.0.0.7 user=u"), Some(SslMode::Require));
    }

    #[test]
    fn an_address_on_this_machine_is_plain_unless_it_asks_for_verification() {
        for server in ["127.0.0.1", "127.0.0.2:5433", "localhost", "[::1]", "%2Ftmp%2Fsockets"] {
            assert_eq!(mode(&format!("postgres://u@{server}/tuberry")), Some(SslMode::Disable), "{server}");
            let verified = format!("postgres://u@{server}/tuberry?sslmode=verify-full");
            assert_eq!(mode(&verified), Some(SslMode::Require), "{server}");
        }
    }

    #[test]
    fn a_password_that_reads_like_a_mode_changes_nothing() {
        let config = parse_address("postgres://u:sslmode=disable@db.example/tuberry");
        assert_eq!(config.map(|config| config.get_ssl_mode()).ok(), Some(SslMode::Require));
        let config = parse_address("postgres://u:sslmode=verify-full@db.example/tuberry?sslmode=verify-full");
        assert_eq!(
            config.ok().and_then(|config| config.get_password().map(<[u8]>::to_vec)),
            Some(b"sslmode=verify-full".to_vec())
        );
    }
}
