//! The one client that fetches files from addresses others gave us: known hosts only, public addresses only, no
//! redirects, nothing of ours sent along, and never more bytes than the caller can take.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::{Host, Url};

use super::idle::{HttpClient, MAX_HTTP_IDLE};

/// The reason that there is no file. It names no address, because an address may contain a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The address is not one that we fetch from.
    #[error("the file is at an address that is not fetched from")]
    NotAllowed,
    /// The file is larger than the caller can take.
    #[error("the file is too large")]
    TooLarge,
    /// The host refuses the file, for good.
    #[error("the file is refused ({0})")]
    Refused(u16),
    /// The file could not be had now.
    #[error("the file cannot be had now")]
    Unavailable,
}

impl MediaError {
    /// True if another try may succeed.
    pub fn may_pass(self) -> bool {
        self == Self::Unavailable
    }
}

/// The most time that a file takes, from connecting to its last byte; a lease lasts longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The hosts that files are fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// A domain and its subdomains, by https, at public addresses only.
    Domain(String),
    /// One host and port at any address, also without TLS, for a simulator.
    Exactly(String, u16),
}

impl Hosts {
    /// Reads `avito.ru,avito.st,127.0.0.1:8090`. None: an entry is no host.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(Rule::parse)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Adds the server at this address, with its port, also without TLS and at an inner address: whoever deploys has
    /// chosen it.
    #[must_use]
    pub fn and_server_of(mut self, address: &str) -> Self {
        let server = Url::parse(address).ok();
        let rule = server.and_then(|url| Some(Rule::Exactly(url.host_str()?.to_owned(), url.port_or_known_default()?)));
        self.0.extend(rule);
        self
    }

    /// True if files are fetched from this address.
    fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().filter(|_| url.username().is_empty() && url.password().is_none()) else {
            return false;
        };
        let port = url.port_or_known_default();
        self.0.iter().any(|rule| match rule {
            Rule::Exactly(name, at) => matches!(url.scheme(), "http" | "https") && name == host && Some(*at) == port,
            Rule::Domain(domain) => {
                let below =
                    host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                url.scheme() == "https" && port == Some(443) && matches!(url.host(), Some(Host::Domain(_))) && below
            }
        })
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        match entry.rsplit_once(':') {
            Some((name, port)) => {
                is_name(name).then_some(())?;
                Some(Self::Exactly(name.to_ascii_lowercase(), port.parse().ok()?))
            }
            None => is_name(entry).then(|| Self::Domain(entry.to_ascii_lowercase())),
        }
    }
}

/// Resolves names to public addresses only: a name must not lead into our own network.
struct PublicOnly {
    hosts: Arc<Hosts>,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let listed = self.hosts.0.iter().any(|rule| matches!(rule, Rule::Exactly(host, _) if host == name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let usable: Vec<_> = found.into_iter().filter(|address| listed || is_public(address.ip())).collect();
            if usable.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 224
        || shared
        || protocols
        || benchmarks
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

/// True for addresses that are assigned for use on the Internet, except those that lead to IPv4 addresses (6to4,
/// Teredo) and those for documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    (first & 0xe000) == 0x2000 && first != 0x2002 && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
}

/// Fetches files.
pub struct Media {
    http: HttpClient,
    hosts: Arc<Hosts>,
    permits: Semaphore,
}

impl Media {
    /// Fetches from `hosts`.
    pub fn new(hosts: Hosts) -> Self {
        let hosts = Arc::new(hosts);
        let resolved = Arc::clone(&hosts);
        let http = HttpClient::new(MAX_HTTP_IDLE, move || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(FETCH_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(PublicOnly { hosts: Arc::clone(&resolved) })
                // A proxy would look the name up itself.
                .no_proxy()
        });
        Self { http, hosts, permits: Semaphore::new(1) }
    }

    /// The permit to have files in memory. A process gives it to one bot or dialog at a time, however many it works
    /// for.
    pub async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// The file at `address`, if it has at most `limit` bytes.
    pub async fn fetch(&self, address: &str, limit: usize) -> Result<Bytes, MediaError> {
        let url = Url::parse(address).map_err(|_| MediaError::NotAllowed)?;
        if !self.hosts.allow(&url) {
            return Err(MediaError::NotAllowed);
        }
        let mut response = self.http.get().get(url).send().await.map_err(|_| MediaError::Unavailable)?;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            408 | 429 | 500.. => return Err(MediaError::Unavailable),
            number => return Err(MediaError::Refused(number)),
        }
        let announced = usize::try_from(response.content_length().unwrap_or_default()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(MediaError::TooLarge);
        }
        let mut file = BytesMut::with_capacity(announced);
        while let Some(chunk) = response.chunk().await.map_err(|_| MediaError::Unavailable)? {
            if chunk.len() > limit - file.len() {
                return Err(MediaError::TooLarge);
            }
            file.extend_from_slice(&chunk);
        }
        Ok(file.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn allows(hosts: &str, address: &str) -> bool {
        Hosts::parse(hosts).expect("hosts").allow(&Url::parse(address).expect("an address"))
    }

    #[test]
    fn only_https_on_listed_domains_and_listed_ports_are_fetched_from() {
        let hosts = "avito.ru, avito.st,127.0.0.1:8090";
        for address in ["https://avito.ru/a", "https://img.k.AVITO.ru/chat/1.jpg", "http://127.0.0.1:8090/media/1"] {
            assert!(allows(hosts, address), "{address}");
        }
        for address in [
            "http://avito.ru/a",
            "https://notavito.ru/a",
            "https://avito.ru.example.com/a",
            "https://avito.ru:8443/a",
            "https://me:secret@avito.ru/a",
            "https://127.0.0.1/a",
            "http://127.0.0.1:8091/a",
            "ftp://avito.ru/a",
            "file:///etc/passwd",
        ] {
            assert!(!allows(hosts, address), "{address}");
        }
        assert_eq!(Hosts::parse("avito.ru:high"), None);
        assert_eq!(Hosts::parse("https://avito.ru"), None);
    }

    #[test]
    fn the_server_of_an_api_is_fetched_from_at_its_port_alone() {
        let hosts = Hosts::parse("avito.ru").expect("hosts");
        let hosts = hosts.and_server_of("http://bot-api.internal:8081/prefix").and_server_of("https://avito.example");
        for (address, is_allowed) in [
            ("http://bot-api.internal:8081/file/bot1:a/voice.oga", true),
            ("https://avito.example/voice.mp4", true),
            ("https://img.avito.ru/1.jpg", true),
            ("http://bot-api.internal/file", false),
            ("http://other.internal:8081/file", false),
            ("https://files.avito.example/voice.mp4", false),
            ("https://avito.example:8443/voice.mp4", false),
        ] {
            assert_eq!(hosts.allow(&Url::parse(address).expect("an address")), is_allowed, "{address}");
        }
    }

    #[test]
    fn addresses_of_inner_networks_are_not_public() {
        let inner = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.168.1.1 \
                     198.18.0.1 224.0.0.1 255.255.255.255 ::1 :: fe80::1 fc00::1 ::ffff:10.0.0.1 2001:db8::1 2002:a00:1::1 \
                     2001::1 64:ff9b::a00:1 ff02::1";
        for address in inner.split_whitespace() {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    /// Answers one request with `answer`. Returns a client that may send it, the address, and the request.
    async fn served(answer: &'static [u8]) -> (Media, String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer).await.ok();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (Media::new(Hosts::parse(&host).expect("hosts")), format!("http://{host}/file"), asked)
    }

    #[tokio::test]
    async fn a_file_comes_whole_and_nothing_of_ours_is_sent_along() {
        let (media, address, asked) = served(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(media.fetch(&address, 5).await, Ok(Bytes::from_static(b"hello")));
        let asked = asked.await.expect("a request").to_lowercase();
        assert!(asked.starts_with("get /file") && !asked.contains("authorization") && !asked.contains("cookie"));
    }

    #[tokio::test]
    async fn a_file_above_the_limit_is_refused_whatever_its_length_says() {
        let (media, address, _asked) = served(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(media.fetch(&address, 4).await, Err(MediaError::TooLarge));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let (media, address, _asked) = served(chunked).await;
        assert_eq!(media.fetch(&address, 4).await, Err(MediaError::TooLarge));
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_failures_say_if_they_may_pass() {
        let (media, address, _asked) =
            served(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(media.fetch(&address, 9).await, Err(MediaError::Refused(302)));
        let (media, address, _asked) = served(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(media.fetch(&address, 9).await, Err(MediaError::Unavailable));
        let (media, address, _asked) = served(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
        assert_eq!(media.fetch(&address, 9).await, Err(MediaError::Unavailable));
        assert_eq!(media.fetch("http://localhost:1/file", 9).await, Err(MediaError::NotAllowed));
    }
}
