//! How often Redis was asked: the one thing that is asked of it here. A script is one question, whatever it does.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

/// What one question here adds to the count.
pub(crate) const OWN: f64 = 1.0;

/// How often somebody sent something so far. Each such question is one more for the next, see [`OWN`].
pub(crate) async fn questions(address: &str) -> Outcome<f64> {
    let address: url::Url = address.parse()?;
    let server = (address.host_str().unwrap_or("127.0.0.1"), address.port().unwrap_or(6379));
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"INFO stats\r\nQUIT\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    Ok(line.ok_or("Redis does not count what it reads")?.trim().parse()?)
}
