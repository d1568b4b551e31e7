//! A client as browsers are: a cookie jar, and a kept-alive connection to each proxy that it has met.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mooring_test_kit::browser::Browser;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longer than anything is meant to take: what has no answer by then has none.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client got.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The host that served; `None`: the proxy itself.
    pub host: Option<String>,
    /// The plugin's word; empty where it said nothing.
    pub decision: String,
    /// The affinity cookie came, or was cleared.
    pub cookie: bool,
    /// Of a response that is no success.
    pub body: String,
}

/// Why a client got nothing.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The connection broke.
    Broken(String),
    TimedOut,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => formatter.write_str("nobody listens"),
            Self::Broken(why) => write!(formatter, "the connection broke: {why}"),
            Self::TimedOut => formatter.write_str("no answer"),
        }
    }
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Counts the client's connections: a worker of a proxy has each of them for its whole life.
    number: u32,
}

/// A client.
#[derive(Default)]
pub struct Client {
    pub jar: Browser,
    connections: Vec<Option<Connection>>,
    opened: u32,
}

impl Client {
    /// The connection that the last request to this proxy went over.
    pub fn connection(&self, proxy: usize) -> Option<u32> {
        self.connections.get(proxy)?.as_ref().map(|connection| connection.number)
    }

    /// Closes the connection to this proxy.
    pub fn leave(&mut self, proxy: usize) {
        self.connections.get_mut(proxy).map(Option::take);
    }

    /// Sends a `GET` to the proxy at `address`, and keeps the cookies of the answer.
    pub async fn get(&mut self, proxy: usize, address: &str, path: &str) -> Result<Answer, Failure> {
        self.get_beside(proxy, address, path, b"").await
    }

    /// The same, with these bytes in front of the cookies.
    pub async fn get_beside(
        &mut self,
        proxy: usize,
        address: &str,
        path: &str,
        beside: &[u8],
    ) -> Result<Answer, Failure> {
        let own = self.jar.line().unwrap_or_default();
        let separator: &[u8] = if beside.is_empty() || own.is_empty() { b"" } else { b"; " };
        let line = [beside, separator, own.as_bytes()].concat();
        let (answer, cookies) = self.send(proxy, address, path, &line).await?;
        cookies.iter().for_each(|line| self.jar.take(line));
        Ok(answer)
    }

    /// Sends a `GET` with this `Cookie` line instead, and keeps nothing of the answer.
    pub async fn get_with(&mut self, proxy: usize, address: &str, path: &str, line: &[u8]) -> Result<Answer, Failure> {
        self.send(proxy, address, path, line).await.map(|(answer, _)| answer)
    }

    /// A kept-alive connection may be closed just as a request is sent: as browsers do, it is sent once more over a new one.
    async fn send(
        &mut self,
        proxy: usize,
        address: &str,
        path: &str,
        line: &[u8],
    ) -> Result<(Answer, Vec<String>), Failure> {
        if self.connections.len() <= proxy {
            self.connections.resize_with(proxy + 1, || None);
        }
        loop {
            let kept = self.connections[proxy].take().filter(|connection| !connection.sender.is_closed());
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect(address).await?,
            };
            match exchange(&mut connection.sender, address, path, line).await {
                Ok(answer) => {
                    self.connections[proxy] = Some(connection);
                    return Ok(answer);
                }
                Err(Failure::Broken(_)) if reused => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn connect(&mut self, address: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|_| Failure::Refused)?;
        stream.set_nodelay(true).map_err(broken)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // An error of the connection is an error of the request that is on it.
        tokio::spawn(connection);
        self.opened += 1;
        Ok(Connection { sender, number: self.opened })
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Broken(error.to_string())
}

async fn exchange(
    sender: &mut SendRequest<Empty<Bytes>>,
    address: &str,
    path: &str,
    line: &[u8],
) -> Result<(Answer, Vec<String>), Failure> {
    let mut request = hyper::Request::get(path).header("host", address);
    if !line.is_empty() {
        request = request.header("cookie", line);
    }
    let request = request.body(Empty::new()).expect("a request");
    let answered = async {
        sender.ready().await.map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        let text = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let cookies = head.headers.get_all("set-cookie").iter();
        let cookies: Vec<String> = cookies.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
        let answer = Answer {
            status: head.status.as_u16(),
            host: text("x-served-by"),
            decision: text("x-decision").unwrap_or_default(),
            cookie: cookies.iter().any(|line| line.starts_with("m=")),
            body: if head.status.is_success() { String::new() } else { String::from_utf8_lossy(&body).into_owned() },
        };
        Ok((answer, cookies))
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Err(Failure::TimedOut))
}
