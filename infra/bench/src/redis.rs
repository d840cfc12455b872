//! The number of requests to Redis, which is all that the bench reads there. A script is one request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// The count that one call of [`requests`] adds.
pub(crate) const OWN: f64 = 1.0;

/// The number of requests so far. Each call adds to the count of the next one, see [`OWN`].
pub(crate) async fn requests(address: &str) -> Outcome<f64> {
    let address: url::Url = address.parse()?;
    let server = (address.host_str().unwrap_or("127.0.0.1"), address.port().unwrap_or(6379));
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"INFO stats\r\nQUIT\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    Ok(line.ok_or("Redis does not count what it reads")?.trim().parse()?)
}
