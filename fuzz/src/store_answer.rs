//! Answers of the store: whatever comes back, to whatever was asked, over each protocol, only a value that was signed for this
//! key is believed.
//!
//! The first line of an input is the answer's status, the second its `ETag`, the rest its body. In it `@` and a digit stand for a
//! value: see `Setup::values`. An input that begins with `=` holds the body of a value, which gets a good tag.

use crate::input::Input;
use crate::keys::{self, Subkeys};
use mooring::clock::{Monotonic, UnixTime};
use mooring::config::Config;
use mooring::config::Protocol;
use mooring::credential::keyring::{KeyPosition, Keyring};
use mooring::credential::token;
use mooring::ids::{CallId, StreamId};
use mooring::observe::metrics::Counts;
use mooring::session::pin::{ClusterId, HostAddr, Pin, Pins};
use mooring::session::{Session, SessionId};
use mooring::store::client::{CallOutcome, Event, LookupOutcome, StoreClient};
use mooring::store::protocol::{Answer, Command, Failure, MAX_ANSWER, Reply, StoreKey};
use mooring::store::value::{self, Stored};
use serde_json::{Value, json};
use std::cell::LazyCell;
use std::rc::Rc;

const SCOPE: &str = "m";
const PROTOCOLS: [Protocol; 3] = [Protocol::Rest, Protocol::Webdis, Protocol::Upstash];
const STREAM: StreamId = StreamId(7);

struct Setup {
    configs: [Rc<Config>; 3],
    keyring: Keyring,
    subkeys: Subkeys,
    session: Session,
    key: StoreKey,
    /// What `@0`, `@1` … stand for. The first four were signed for `key`.
    values: [String; 8],
    commands: [Command; 5],
}

impl Setup {
    fn new() -> Self {
        let configs = ["rest", "webdis", "upstash"].map(|protocol| {
            let secret = |key| json!({"id": keys::IDS[key], "secret": {"base64": keys::secret_text(key)}});
            let json = json!({
                "keys": [secret(0), secret(1)],
                "scope": SCOPE,
                "store": {"cluster": "store", "protocol": protocol},
            });
            Rc::new(Config::parse(json.to_string().as_bytes(), &|_| None).expect("a config"))
        });
        let keyring = keys::keyring(&[0, 1], SCOPE);
        let session = session(0, 2, "127.0.0.1:9001");
        let key = StoreKey::of(&session.id, SCOPE, "mooring");
        let other = StoreKey::of(&SessionId([9; 16]), SCOPE, "mooring");
        let values = [
            value::seal(&session, &key, &keyring),
            value::seal(&self::session(0, 5, "/run/app.sock"), &key, &keyring),
            value::seal(&self::session(0, 3, "[::1]:80"), &key, &keys::keyring(&[1], SCOPE)),
            value::tombstone(&key, &keyring),
            value::seal(&session, &other, &keyring),
            value::tombstone(&other, &keyring),
            value::seal(&session, &key, &keys::keyring(&[3], SCOPE)),
            value::seal(&session, &key, &keys::keyring(&[0], "another scope")),
        ];
        let commands = [
            Command::Lookup,
            Command::Create { value: values[0].clone(), ttl: 60 },
            Command::Move { expected: mooring::store::protocol::Version::OfNothing, value: values[0].clone(), ttl: 60 },
            Command::Touch { ttl: 60 },
            Command::Revoke { tombstone: values[3].clone(), ttl: 60 },
        ];
        Self { configs, keyring, subkeys: Subkeys::of(0, SCOPE), session, key, values, commands }
    }

    /// The values that stand for this session in the store.
    fn signed(&self) -> &[String] {
        &self.values[..4]
    }
}

fn session(id: u8, generation: u32, host: &str) -> Session {
    let created = UnixTime(1_800_000_000);
    let pin = Pin { cluster: ClusterId::of(b"app"), host: HostAddr::parse(host.as_bytes()).expect("a host") };
    Session {
        id: SessionId([id; 16]),
        created,
        renewed: created,
        end: Some(created.plus(28_800)),
        generation,
        pins: Pins::from_vec(vec![pin]).expect("one pin"),
    }
}

thread_local! {
    static SETUP: LazyCell<Setup> = const { LazyCell::new(Setup::new) };
}

/// Checks an input.
pub fn check(data: &[u8]) {
    SETUP.with(|setup| match data.split_first() {
        Some((b'=', body)) => signed_body(body, setup),
        _ => answer(data, setup),
    });
}

/// A body that nobody would write, under a good tag: read as the payload of a token is, or not at all.
fn signed_body(body: &[u8], setup: &Setup) {
    let value = setup.subkeys.value(setup.key.as_str(), body);
    let opened = value::open(value.as_bytes(), &setup.key, &setup.keyring);
    let expected = match body.split_first() {
        Some((0, [])) => Some(Stored::Tombstone),
        Some((1, rest)) => {
            let token = setup.subkeys.token(&[&[0; 16], rest].concat(), None);
            let session = token::open(token.as_bytes(), &setup.keyring).ok();
            session.map(|(session, _)| Stored::Session { generation: session.generation, pins: session.pins })
        }
        _ => None,
    };
    assert_eq!(opened, expected.map(|stored| (stored, KeyPosition::Current)));
}

fn answer(data: &[u8], setup: &Setup) {
    let mut input = Input(data);
    let status = input.line();
    let Some(status) = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()) else { return };
    let etag = Some(input.line()).filter(|etag| !etag.is_empty()).map(<[u8]>::to_vec);
    let body = body(input, setup);

    let opened = value::open(&body, &setup.key, &setup.keyring);
    assert_eq!(opened.is_some(), setup.signed().iter().any(|signed| signed.as_bytes() == body));

    let answer = Answer::Response { status, etag, body };
    for (protocol, config) in PROTOCOLS.into_iter().zip(&setup.configs) {
        let gateway = &config.shared.store.as_ref().expect("a store").endpoint;
        for command in &setup.commands {
            replied(protocol, command, &answer, gateway.reply(command, answer.clone()));
        }
        looked_up(config, &answer, setup);
    }
}

fn body(mut input: Input<'_>, setup: &Setup) -> Vec<u8> {
    let mut body = Vec::new();
    while !input.0.is_empty() {
        match input.byte() {
            b'@' => body.extend_from_slice(setup.values[input.choice(8)].as_bytes()),
            byte => body.push(byte),
        }
    }
    body.truncate(MAX_ANSWER);
    body
}

/// What a reply may be, by the protocol's own documents.
fn replied(protocol: Protocol, command: &Command, answer: &Answer, reply: Result<Reply, Failure>) {
    let Answer::Response { status, etag, body } = answer else { return };
    let rest = protocol == Protocol::Rest;
    let writes = matches!(command, Command::Create { .. } | Command::Move { .. });
    if *status >= 500 {
        assert_eq!(reply, Err(Failure::Unavailable));
        return;
    }
    // The result of a gateway's answer: its only member.
    let result = || match serde_json::from_slice(body) {
        Ok(Value::Object(members)) if members.len() == 1 => members.into_iter().next().expect("one").1,
        _ => panic!("{protocol:?} {command:?}: {reply:?} of {body:?}"),
    };
    match &reply {
        Err(failure) => assert!(matches!(failure, Failure::Refused | Failure::Senseless)),
        Ok(Reply::Done(version)) => {
            assert!(*command != Command::Lookup);
            assert_eq!(version.is_some(), writes);
            if rest {
                assert!([200, 201, 204].contains(status));
                assert!(!writes || etag.is_some());
            } else {
                let result = result();
                assert!(*status == 200 && (result == json!(1) || result == json!(1.0)) == writes, "{result}");
            }
        }
        Ok(Reply::Value(value, _)) => {
            assert!(!matches!(command, Command::Revoke { .. }));
            if rest {
                assert_eq!(*status, if writes { 412 } else { 200 });
                assert!(etag.is_some() && value == body && !matches!(command, Command::Touch { .. }));
            } else {
                assert!(*status == 200 && !value.is_empty() && result().as_str().map(str::as_bytes) == Some(value));
            }
        }
        Ok(Reply::Missing) => {
            assert!(!matches!(command, Command::Create { .. } | Command::Revoke { .. }));
            if rest {
                assert!(*status == if writes { 412 } else { 404 });
            } else {
                assert!(*status == 200 && result().is_null());
            }
        }
        Ok(Reply::Revoked) => {
            if rest {
                assert_eq!(*status, 410);
            } else {
                assert!(*status == 200 && result() == json!("") && !matches!(command, Command::Revoke { .. }));
            }
        }
    }
}

/// A lookup of a worker's: found is what was signed for the session, and nothing else.
fn looked_up(config: &Rc<Config>, answer: &Answer, setup: &Setup) {
    let mut client = StoreClient::new(config, 0).expect("a store");
    let mut counts = Counts::default();
    let event = &mut Event { now: Some(Monotonic::default()), counts: &mut counts };
    assert_eq!(client.lookup(&setup.session, STREAM, event), None);
    assert!(client.admit(event).is_empty());
    let call = client.outgoing().expect("a lookup");
    client.sent(CallId(1), call);
    let wakes = client.answered(CallId(1), answer.clone(), event);
    let [(STREAM, CallOutcome::Lookup(found))] = wakes.as_slice() else {
        panic!("one stream waits, and is told: {wakes:?}")
    };
    let Answer::Response { body, .. } = answer else { return };
    let holds = |value: &String| body.windows(value.len()).any(|part| part == value.as_bytes());
    match found {
        LookupOutcome::Session(record) => {
            let generations = [2, 5, 3].into_iter().zip(setup.signed());
            let told = generations.into_iter().filter(|(_, value)| holds(value) || escaped(body));
            assert!(told.into_iter().any(|(generation, _)| generation == record.generation));
        }
        LookupOutcome::Revoked | LookupOutcome::Missing | LookupOutcome::Unreadable | LookupOutcome::Failed => {}
    }
    assert!(client.answered(CallId(1), answer.clone(), event).is_empty(), "an answer counts once");
}

/// JSON can spell a letter in many ways.
fn escaped(body: &[u8]) -> bool {
    body.windows(2).any(|part| part == b"\\u")
}
