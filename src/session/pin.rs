//! Pins: which host of which cluster a session prefers.
//!
//! The packed form of a host is part of the token (`docs/token.md`).

use crate::text;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// How many pins a session may hold.
pub const MAX_PINS: usize = 8;

/// Longest host text that is pinned, in bytes.
pub const MAX_HOST_TEXT: usize = 128;

/// A short hash of a cluster's name: the first 8 bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(pub [u8; 8]);

impl ClusterId {
    /// The id of the cluster with this name.
    pub fn of(name: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(name).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self([a, b, c, d, e, f, g, h])
    }
}

/// The address of an upstream host, as Envoy writes it.
#[derive(Clone, PartialEq, Eq)]
pub enum HostAddr {
    /// `192.0.2.1:80`
    V4(Ipv4Addr, u16),
    /// `[2001:db8::1]:80`
    V6(Ipv6Addr, u16),
    /// Whatever else Envoy calls an address: a socket's path, an internal listener.
    Text(HostText),
}

/// A host that does not pack: 1 to [`MAX_HOST_TEXT`] visible ASCII characters, no comma. Made by [`HostAddr::parse`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct HostText(Box<str>);

impl HostText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostAddr {
    /// Takes an address as Envoy writes it. `None` when it cannot stand in a header or is too long to pin.
    ///
    /// An address is packed only when unpacking gives the same bytes again: Envoy compares hosts as text.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let packed = match (text.parse::<SocketAddrV4>(), text.parse::<SocketAddrV6>()) {
            (Ok(v4), _) => Some(Self::V4(*v4.ip(), v4.port())),
            (_, Ok(v6)) => Some(Self::V6(*v6.ip(), v6.port())),
            (Err(_), Err(_)) => None,
        };
        packed.filter(|host| host.to_text() == text).or_else(|| Self::text(text))
    }

    /// The address as Envoy writes it. (`to_string` would panic where formatting fails, and takes its time.)
    pub fn to_text(&self) -> String {
        match self {
            Self::V4(ip, port) => {
                let [a, b, c, d] = ip.octets();
                let mut text = Vec::with_capacity(21); // 255.255.255.255:65535
                for (octet, after) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
                    text::push_decimal(&mut text, octet);
                    text.push(after);
                }
                text::push_decimal(&mut text, *port);
                String::from_utf8(text).unwrap_or_default()
            }
            Self::V6(ip, port) => {
                let mut text = String::new();
                // Writing to a string cannot fail.
                let _ = write!(text, "[{ip}]:{port}");
                text
            }
            Self::Text(text) => text.as_str().into(),
        }
    }

    fn text(text: &str) -> Option<Self> {
        let fits = (1..=MAX_HOST_TEXT).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')).then(|| Self::Text(HostText(text.into())))
    }
}

/// Hosts are not logged.
impl fmt::Debug for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostAddr(…)")
    }
}

/// One preference: in this cluster, this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The cluster that the host belongs to.
    pub cluster: ClusterId,
    /// The preferred host.
    pub host: HostAddr,
}

/// The pins of a session, one a cluster, at most [`MAX_PINS`], the most recently used first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

impl Pins {
    /// The pins, the most recently used first.
    pub fn iter(&self) -> std::slice::Iter<'_, Pin> {
        self.0.iter()
    }

    /// How many there are, 0 to [`MAX_PINS`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The host that is preferred in `cluster`.
    pub fn host_in(&self, cluster: ClusterId) -> Option<&HostAddr> {
        self.0.iter().find(|pin| pin.cluster == cluster).map(|pin| &pin.host)
    }

    /// Whether the same hosts are preferred, whichever was used last.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|pin| other.host_in(pin.cluster) == Some(&pin.host))
    }

    /// Prefers `host` in its cluster from now on. Where there is no room, the least recently used pin goes.
    pub fn set(&mut self, pin: Pin) {
        self.remove(pin.cluster);
        self.0.insert(0, pin);
        self.0.truncate(MAX_PINS);
    }

    /// Marks the pin of `cluster`, if there is one, as the most recently used.
    pub fn touch(&mut self, cluster: ClusterId) {
        if let Some(used) = self.0.iter().position(|pin| pin.cluster == cluster).and_then(|at| self.0.get_mut(..=at)) {
            used.rotate_right(1);
        }
    }

    /// Forgets the host of `cluster`.
    pub fn remove(&mut self, cluster: ClusterId) {
        self.0.retain(|pin| pin.cluster != cluster);
    }

    /// Takes pins as they stand in a token. `None` when there are too many or two of one cluster.
    pub fn from_vec(pins: Vec<Pin>) -> Option<Self> {
        let distinct = pins.iter().enumerate().all(|(at, pin)| !pins.iter().take(at).any(|p| p.cluster == pin.cluster));
        (pins.len() <= MAX_PINS && distinct).then_some(Self(pins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn pin(cluster: u8, port: u16) -> Pin {
        Pin { cluster: ClusterId([cluster; 8]), host: HostAddr::V4(Ipv4Addr::LOCALHOST, port) }
    }

    #[test]
    fn an_address_comes_back_byte_for_byte() {
        for text in [
            "127.0.0.1:9002",
            "0.0.0.0:0",
            "[::1]:80",
            "[2001:db8::1]:65535",
            "[::ffff:192.0.2.1]:80",
            "[::192.0.2.1]:80",
            "[2001:0db8::1]:80",
            "[fe80::1%2]:80",
            "127.0.0.1",
            "127.0.0.1:080",
            "/var/run/app.sock",
            "@abstract",
            "envoy://internal/endpoint",
        ] {
            let host = HostAddr::parse(text.as_bytes()).unwrap();
            assert_eq!(host.to_text(), text);
        }
        assert!(matches!(HostAddr::parse(b"[::1]:80"), Some(HostAddr::V6(_, 80))));
        assert!(matches!(HostAddr::parse(b"[2001:0db8::1]:80"), Some(HostAddr::Text(_))));
    }

    #[test]
    fn an_address_that_cannot_stand_in_a_header_is_not_pinned() {
        let long = "x".repeat(MAX_HOST_TEXT + 1);
        for text in [&b""[..], b"a b", b"a,b", b"a\r\nb", b"\xff", b"\x00", "é:80".as_bytes(), long.as_bytes()] {
            assert_eq!(HostAddr::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_least_recently_used_pin_goes_first() {
        let mut pins = Pins::default();
        for cluster in 0..8 {
            pins.set(pin(cluster, 80));
        }
        pins.touch(ClusterId([0; 8]));
        pins.set(pin(8, 80));
        assert_eq!(pins.len(), MAX_PINS);
        assert_eq!(pins.host_in(ClusterId([1; 8])), None);
        assert_eq!(pins.host_in(ClusterId([0; 8])), Some(&pin(0, 80).host));
        assert_eq!(pins.iter().next(), Some(&pin(8, 80)));
    }

    #[test]
    fn a_cluster_has_one_pin() {
        let mut pins = Pins::default();
        pins.set(pin(1, 80));
        pins.set(pin(2, 80));
        pins.set(pin(1, 81));
        assert_eq!(pins.iter().cloned().collect::<Vec<_>>(), [pin(1, 81), pin(2, 80)]);
        pins.remove(ClusterId([1; 8]));
        assert_eq!(pins.len(), 1);
        assert_eq!(Pins::from_vec(vec![pin(1, 80), pin(1, 81)]), None);
        assert_eq!(Pins::from_vec((0..9).map(|cluster| pin(cluster, 80)).collect()), None);
    }

    #[test]
    fn pins_agree_whatever_their_order() {
        let pins = |pins: &[Pin]| Pins::from_vec(pins.to_vec()).unwrap();
        let both = pins(&[pin(1, 80), pin(2, 80)]);
        assert!(both.agrees_with(&pins(&[pin(2, 80), pin(1, 80)])));
        for other in [&[pin(1, 80)][..], &[pin(1, 80), pin(2, 81)], &[pin(1, 80), pin(3, 80)], &[]] {
            assert!(!both.agrees_with(&pins(other)) && !pins(other).agrees_with(&both));
        }
    }

    #[test]
    fn a_host_is_not_shown_by_debug() {
        assert!(!format!("{:?}", pin(1, 8080)).contains("8080"));
    }
}
