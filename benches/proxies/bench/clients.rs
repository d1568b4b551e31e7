//! What clients send: the header lines of each, so that it gets to its host.

use super::hosts::Hosts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::token::{self, Protection};
use mooring::session::pin::{ClusterId, HostAddr, Pin};
use mooring::session::{Session, SessionId};
use mooring_test_kit::tokens;
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// A cookie that every client has besides.
const OTHER_COOKIE: &str = "theme=dark";

/// How many clients take turns.
pub const CLIENTS: usize = 10_000;

/// How clients say where they belong.
pub enum Affinity {
    /// They do not.
    None,
    /// By a header with the host, in base64.
    Header(&'static str),
    /// By a cookie of this name whose value the proxy hashes.
    Hashed(&'static str),
    /// By the cookie, name and value, that the proxy gave each of them.
    Issued(Vec<String>),
    /// By a token of Mooring's.
    Session(Box<Sessions>),
}

/// Those who send requests.
pub struct Clients {
    pub affinity: Affinity,
    pub count: usize,
    /// Further cookies that all of them have, each with a `; ` behind it.
    pub further: String,
}

impl Clients {
    /// As many as there are by default.
    pub fn with(affinity: Affinity) -> Self {
        Self { affinity, count: CLIENTS, further: String::new() }
    }

    /// The headers of a client, with tabs between the lines.
    pub fn headers(&self, client: usize, hosts: &Hosts) -> String {
        let (own, header) = match &self.affinity {
            Affinity::None => (None, None),
            Affinity::Header(name) => {
                let host = STANDARD.encode(format!("127.0.0.1:{}", hosts.of(client)));
                (None, Some(format!("\t{name}: {host}")))
            }
            Affinity::Hashed(name) => {
                let value = (client as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (Some(format!("; {name}={value:016x}")), None)
            }
            Affinity::Issued(cookies) => (Some(format!("; {}", cookies[client % cookies.len()])), None),
            Affinity::Session(sessions) => (Some(format!("; {}", sessions.cookie(client, hosts.of(client)))), None),
        };
        let [own, header] = [own, header].map(Option::unwrap_or_default);
        format!("Cookie: {}{OTHER_COOKIE}{own}{header}", self.further)
    }

    /// Whether the benchmark, not the proxy, chose the host of each client.
    pub fn know_their_hosts(&self) -> bool {
        match self.affinity {
            Affinity::Header(_) | Affinity::Session(_) => true,
            Affinity::None | Affinity::Hashed(_) | Affinity::Issued(_) => false,
        }
    }

    /// Writes a line for each client, all of one length.
    pub fn write(&self, path: &Path, hosts: &Hosts) {
        let mut file = BufWriter::new(File::create(path).expect("a file"));
        // Ports have four or five digits.
        let length = self.headers(0, hosts).len() + 4;
        let count = if matches!(self.affinity, Affinity::None) { 1 } else { self.count };
        for client in 0..count {
            let headers = self.headers(client, hosts);
            assert!(headers.len() <= length, "{headers:?} is longer than that of the first client");
            writeln!(file, "{headers:length$}").expect("room in the file");
        }
        file.flush().expect("room in the file");
    }
}

/// Sessions that began when the benchmark did, and tokens of them.
pub struct Sessions {
    config: Config,
    began: UnixTime,
}

impl Sessions {
    /// For a plugin with this configuration.
    pub fn new(plugin: &Value) -> Self {
        let config = Config::parse(plugin.to_string().as_bytes(), &|_| None).expect("the plugin's configuration");
        Self { config, began: UnixTime(tokens::now()) }
    }

    /// A token as the plugin issues it, renewed now.
    fn cookie(&self, client: usize, host: u16) -> String {
        // As random as the plugin's, and the same in every round.
        let id = (client as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let mut session = Session::begin(SessionId(id.to_be_bytes()), self.began, &self.config.policy.session);
        session.renewed = UnixTime(tokens::now());
        let host = HostAddr::parse(format!("127.0.0.1:{host}").as_bytes()).expect("an address");
        session.pins.set(Pin { cluster: ClusterId::of(b"app"), host });
        let mut nonce = [0; 24];
        fastrand::fill(&mut nonce);
        let protection = if self.config.policy.encrypt { Protection::Encrypted { nonce } } else { Protection::Signed };
        let token = token::seal(&session, &self.config.shared.keyring, &protection);
        let cookie = self.config.policy.cookie().expect("a cookie");
        format!("{}={token}", cookie.set_cookie.name())
    }
}
