//! `sessile health`: asks a running server whether it is ready, for containers that have nothing else to ask with.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use anyhow::bail;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Longest time for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the answer has.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Asks the server at `address`.
///
/// # Errors
///
/// That it is not ready, or why it cannot be asked.
pub(super) async fn check(address: SocketAddr) -> anyhow::Result<()> {
    let ask = async {
        let mut wire = TcpStream::connect(address).await?;
        wire.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        wire.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await;
    let answer = answer.with_context(|| format!("{address} does not answer within 3 s"))?;
    let answer = answer.with_context(|| format!("asking {address}, where http.listen points"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the server at {address} is not ready: it answers {status}");
    }
    Ok(())
}
