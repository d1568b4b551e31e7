//! HTTP/1.1 as bytes, for ends that keep no rules: heads and bodies are found, nothing is checked.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;

/// The beginning of a message, as it came.
pub struct Head(pub Vec<u8>);

impl Head {
    /// The first line.
    pub fn first_line(&self) -> &[u8] {
        self.0.split(|byte| *byte == b'\r').next().unwrap_or_default()
    }

    /// The path of a request, the status of a response.
    pub fn second_word(&self) -> String {
        String::from_utf8_lossy(self.first_line().split(|byte| *byte == b' ').nth(1).unwrap_or_default()).into_owned()
    }

    /// Every header line: its name in lower case, and its value.
    pub fn lines(&self) -> impl Iterator<Item = (String, &[u8])> {
        header_lines(&self.0[self.first_line().len()..])
    }

    /// The first line of this name.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let of_name =
            |line: &&[u8]| line.get(..name.len()).is_some_and(|key| key.eq_ignore_ascii_case(name.as_bytes()));
        let mut lines = self.0.split(|byte| *byte == b'\n').filter(of_name);
        lines.find_map(|line| line[name.len()..].strip_prefix(b":")).map(<[u8]>::trim_ascii)
    }
}

/// The header lines in `bytes`: names in lower case, and values.
pub fn header_lines(bytes: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), line[colon + 1..].trim_ascii()))
    })
}

/// Reads message after message.
pub struct Reader<R> {
    stream: R,
    unread: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, unread: Vec::new() }
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread[searched..], end) {
                return Ok(self.unread.drain(..searched + at + end.len()).collect());
            }
            searched = (self.unread.len() + 1).saturating_sub(end.len());
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.more().await?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    /// The next head.
    pub async fn head(&mut self) -> io::Result<Head> {
        self.until(b"\r\n\r\n").await.map(Head)
    }

    /// The body that belongs to `head`, by its own lines, and the trailers. `to_the_end`: a body of no known length goes on until
    /// the connection ends.
    pub async fn body(&mut self, head: &Head, to_the_end: bool) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if head.value("transfer-encoding").is_some() {
            return self.chunks().await;
        }
        if let Some(length) = head.value("content-length") {
            let length = String::from_utf8_lossy(length).parse().map_err(|_| io::ErrorKind::InvalidData)?;
            return Ok((self.exactly(length).await?, Vec::new()));
        }
        if to_the_end {
            while self.more().await.is_ok() {}
            return Ok((std::mem::take(&mut self.unread), Vec::new()));
        }
        Ok((Vec::new(), Vec::new()))
    }

    async fn chunks(&mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8_lossy(&self.until(b"\r\n").await?).trim().to_owned();
            let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size + 2).await?);
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            if line == b"\r\n" {
                return Ok((body, trailers));
            }
            trailers.extend(line);
        }
    }
}

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    // Without this it would be a FIN.
    let _ = stream.set_zero_linger();
}

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
