//! The binary form of a session (`docs/token.md`, "Payload"): fixed fields, big-endian, no trailing bytes.

use crate::clock::UnixTime;
use crate::session::pin::{ClusterId, HostAddr, MAX_HOST_TEXT, MAX_PINS, Pin, Pins};
use crate::session::{Session, SessionId};

const TEXT: u8 = 0;
const V4: u8 = 4;
const V6: u8 = 6;

/// Packs a session.
///
/// Times after the year 36812 and spans over 136 years do not fit and are cut to what fits.
pub(crate) fn encode(session: &Session) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&session.id.0);
    let created = session.created.0.min(0xff_ffff_ffff);
    let [_, _, _, created_bytes @ ..] = created.to_be_bytes();
    out.extend_from_slice(&created_bytes);
    out.extend_from_slice(&seconds_after(created, session.renewed).to_be_bytes());
    let lifetime = session.end.map_or(0, |end| seconds_after(created, end).max(1));
    out.extend_from_slice(&lifetime.to_be_bytes());
    out.extend_from_slice(&session.generation.to_be_bytes());
    out.push(u8::try_from(session.pins.len()).unwrap_or(0));
    for pin in session.pins.iter() {
        out.extend_from_slice(&pin.cluster.0);
        encode_host(&pin.host, &mut out);
    }
    out
}

fn seconds_after(created: u64, time: UnixTime) -> u32 {
    u32::try_from(time.0.saturating_sub(created)).unwrap_or(u32::MAX)
}

fn encode_host(host: &HostAddr, out: &mut Vec<u8>) {
    match host {
        HostAddr::V4(ip, port) => {
            out.push(V4);
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&port.to_be_bytes());
        }
        HostAddr::V6(ip, port) => {
            out.push(V6);
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&port.to_be_bytes());
        }
        HostAddr::Text(text) => {
            out.push(TEXT);
            out.push(u8::try_from(text.as_str().len()).unwrap_or(0));
            out.extend_from_slice(text.as_str().as_bytes());
        }
    }
}

/// Unpacks a session. `None` when the bytes are not exactly what [`encode`] writes.
pub(crate) fn decode(bytes: &[u8]) -> Option<Session> {
    let mut input = Input(bytes);
    let id = SessionId(input.array()?);
    let [a, b, c, d, e] = input.array()?;
    let created = UnixTime(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]));
    let renewed = created.plus(u32::from_be_bytes(input.array()?));
    let lifetime = u32::from_be_bytes(input.array()?);
    let end = (lifetime != 0).then(|| created.plus(lifetime));
    let generation = u32::from_be_bytes(input.array()?);
    let count = usize::from(input.byte()?);
    if count > MAX_PINS {
        return None;
    }
    let mut pins = Vec::with_capacity(count);
    for _ in 0..count {
        pins.push(Pin { cluster: ClusterId(input.array()?), host: decode_host(&mut input)? });
    }
    let pins = Pins::from_vec(pins)?;
    input.0.is_empty().then_some(Session { id, created, renewed, end, generation, pins })
}

fn decode_host(input: &mut Input<'_>) -> Option<HostAddr> {
    match input.byte()? {
        V4 => Some(HostAddr::V4(input.array::<4>()?.into(), u16::from_be_bytes(input.array()?))),
        V6 => Some(HostAddr::V6(input.array::<16>()?.into(), u16::from_be_bytes(input.array()?))),
        TEXT => {
            let length = usize::from(input.byte()?);
            let text = input.take(length).filter(|_| length <= MAX_HOST_TEXT)?;
            HostAddr::parse(text).filter(|host| matches!(host, HostAddr::Text(_)))
        }
        _ => None,
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn session(hosts: &[&str]) -> Session {
        let pins = hosts.iter().enumerate().map(|(at, host)| Pin {
            cluster: ClusterId::of(format!("cluster {at}").as_bytes()),
            host: HostAddr::parse(host.as_bytes()).unwrap(),
        });
        Session {
            id: SessionId(*b"0123456789abcdef"),
            created: UnixTime(1_800_000_000),
            renewed: UnixTime(1_800_000_100),
            end: Some(UnixTime(1_800_028_800)),
            generation: 3,
            pins: Pins::from_vec(pins.collect()).unwrap(),
        }
    }

    #[test]
    fn a_session_comes_back_as_it_was() {
        let text = format!("/{}", "s".repeat(127));
        for hosts in [vec![], vec!["127.0.0.1:80"], vec!["[::1]:80", "/run/app.sock", text.as_str()]] {
            let whole = session(&hosts);
            assert_eq!(decode(&encode(&whole)), Some(whole));
        }
        let endless = Session { end: None, ..session(&[]) };
        assert_eq!(decode(&encode(&endless)), Some(endless));
    }

    #[test]
    fn eight_pins_of_the_longest_hosts_fit_a_cookie() {
        let longest: Vec<String> = (0..8).map(|at| format!("{at}{}", "h".repeat(127))).collect();
        let hosts: Vec<&str> = longest.iter().map(String::as_str).collect();
        assert_eq!(encode(&session(&hosts)).len(), 34 + 8 * (8 + 2 + 128));
    }

    #[test]
    fn bytes_that_are_cut_or_trail_are_refused() {
        let bytes = encode(&session(&["127.0.0.1:80", "[::1]:80", "/run/app.sock"]));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(decode(&[&bytes[..], b"\0"].concat()), None);
    }

    #[test]
    fn a_host_has_one_form() {
        let mut bytes = encode(&session(&["/run/app.sock"]));
        let at = bytes.len() - 13;
        bytes.splice(at.., *b"127.0.0.1:123");
        assert_eq!(decode(&bytes), None, "an address that packs must be packed");
    }

    #[test]
    fn times_that_do_not_fit_are_cut() {
        let odd = Session {
            created: UnixTime(u64::MAX),
            renewed: UnixTime(0),
            end: Some(UnixTime(0)),
            generation: u32::MAX,
            ..session(&[])
        };
        let cut = decode(&encode(&odd)).unwrap();
        assert_eq!(cut.created, UnixTime(0xff_ffff_ffff));
        assert_eq!(cut.renewed, cut.created);
        assert_eq!(cut.end, Some(cut.created.plus(1)));
    }
}
