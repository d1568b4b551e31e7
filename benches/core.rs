//! How long the core's parts take, natively: to compare one version with another. `make bench-core` runs them, the `unit` step
//! runs each once. What a request costs in the plugin is counted by `tests/built-plugin/cost`.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use mooring::carrier::cookie;
use mooring::clock::{Monotonic, UnixTime};
use mooring::config::Config;
use mooring::credential::keyring::{Key, KeyId, KeyPosition, Keyring, Secret};
use mooring::credential::token::{self, Protection};
use mooring::headers::Headers;
use mooring::session::pin::{ClusterId, HostAddr, Pin, Pins};
use mooring::session::{Session, SessionId};
use mooring::store::cache::{Cache, Entry, Record};
use mooring::store::protocol::StoreKey;
use mooring::store::value;
use mooring_test_kit::fake::Line;
use mooring_test_kit::proxy::{Proxy, ROOT};
use std::hint::black_box;
use std::time::Duration;

const NOW: UnixTime = UnixTime(1_800_000_000);
const CONFIG: &[u8] = br#"{
    "keys": [
        {"id": "2026-11", "secret": {"base64": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}},
        {"id": "2026-10", "secret": {"base64": "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI="}}
    ],
    "session": {"absolute_timeout": "8h", "idle_timeout": "30m"}
}"#;

fn keyring(keys: u8) -> Keyring {
    let key = |at: u8| {
        let (id, secret) = (KeyId::new(&format!("key-{at}")), Secret::new(vec![at; 32]));
        Key::derive(id.expect("a name"), &secret.expect("a secret"), "shop").expect("a scope")
    };
    Keyring::new(key(0), (1..keys).map(key).collect())
}

fn session() -> Session {
    let host = HostAddr::parse(b"10.1.2.3:8080").expect("a host");
    let mut pins = Pins::default();
    pins.set(Pin { cluster: ClusterId::of(b"shop"), host });
    Session {
        id: SessionId([7; 16]),
        created: NOW,
        renewed: NOW,
        end: Some(UnixTime(NOW.0 + 28_800)),
        generation: 0,
        pins,
    }
}

fn tokens(criterion: &mut Criterion) {
    let keyring = keyring(2);
    let mut group = criterion.benchmark_group("token");
    for (name, protection) in [("signed", Protection::Signed), ("encrypted", Protection::Encrypted { nonce: [9; 24] })]
    {
        let token = token::seal(&session(), &keyring, &protection);
        let session = session();
        group.bench_function(BenchmarkId::new("seal", name), |b| {
            b.iter(|| token::seal(black_box(&session), &keyring, &protection));
        });
        group.bench_function(BenchmarkId::new("open", name), |b| {
            b.iter(|| token::open(black_box(token.as_bytes()), &keyring).expect("a token"));
        });
    }
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keyring/find");
    for keys in [1, 16] {
        let (keyring, last) = (keyring(keys), format!("key-{}", keys - 1));
        group.bench_function(BenchmarkId::new("the last of", keys), |b| {
            b.iter(|| keyring.find(black_box(last.as_bytes())).expect("a key").1);
        });
    }
}

fn cookies(criterion: &mut Criterion) {
    let token = token::seal(&session(), &keyring(1), &Protection::Encrypted { nonce: [9; 24] });
    for size in [100, 1_000, 60_000] {
        // The session's comes last.
        let line = format!("{}__Host-mooring={token}", "theme=dark; ".repeat(size / 12));
        let line = line.as_bytes();
        let mut group = criterion.benchmark_group("cookie");
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(BenchmarkId::new("values", size), |b| {
            b.iter(|| cookie::values(black_box(line), "__Host-mooring").count());
        });
        group.bench_function(BenchmarkId::new("without", size), |b| {
            b.iter(|| cookie::without(black_box(line), "__Host-mooring"));
        });
    }
}

/// What a browser sends.
fn browser(cookie: &str) -> Vec<Line> {
    let lines = [
        (":authority", "shop.example.com"),
        (":path", "/cart/items?sort=price"),
        (":method", "GET"),
        (":scheme", "https"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://shop.example.com/cart"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-request-id", "6b3e9a0e-0d4c-4c51-8a57-2f6b1e7d9c11"),
        ("cookie", cookie),
    ];
    lines.map(|(name, value)| (name.into(), value.into())).into()
}

fn headers(criterion: &mut Criterion) {
    let lines = browser("theme=dark; lang=en");
    let lines = lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let headers = Headers::from_pairs(lines);
    let serialized = headers.as_bytes().to_vec();
    criterion.bench_function("headers/new", |b| {
        b.iter_batched(|| serialized.clone(), |bytes| Headers::new(bytes).expect("a map"), BatchSize::SmallInput);
    });
    criterion.bench_function("headers/values", |b| b.iter(|| headers.values(black_box("cookie")).count()));
}

fn hosts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("host");
    for text in ["10.1.2.3:8080", "[2001:db8::1]:8080"] {
        let host = HostAddr::parse(text.as_bytes()).expect("a host");
        group.bench_function(BenchmarkId::new("parse", text), |b| {
            b.iter(|| HostAddr::parse(black_box(text.as_bytes())))
        });
        group.bench_function(BenchmarkId::new("to_text", text), |b| b.iter(|| black_box(&host).to_text()));
    }
    group.finish();
    let id = SessionId([7; 16]);
    criterion.bench_function("session_id/to_text", |b| b.iter(|| black_box(id).to_text()));
}

fn cache(criterion: &mut Criterion) {
    let id = |number: u32| {
        SessionId((u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
    };
    let known =
        || Entry::Session(Record { generation: 0, pins: session().pins, version: None, age: KeyPosition::Current });
    let now = Monotonic(Duration::from_secs(1));
    let mut cache = Cache::new(10_000, Duration::from_secs(30));
    for number in 0..10_000 {
        cache.learn(id(number), known(), now, now);
    }
    let mut numbers = (0..10_000).cycle();
    criterion.bench_function("cache/get of 10,000", |b| {
        b.iter(|| cache.get(&id(numbers.next().unwrap()), now).expect("it is there").clone());
    });
    let mut numbers = 10_000..;
    criterion.bench_function("cache/learn in place of 1 of 10,000", |b| {
        b.iter(|| cache.learn(id(numbers.next().unwrap()), known(), now, now));
    });
}

fn store_values(criterion: &mut Criterion) {
    let (session, keyring) = (session(), keyring(2));
    let key = StoreKey::of(&session.id, "shop", "mooring");
    let sealed = value::seal(&session, &key, &keyring);
    criterion.bench_function("store/key", |b| b.iter(|| StoreKey::of(black_box(&session.id), "shop", "mooring")));
    criterion.bench_function("store/value/seal", |b| b.iter(|| value::seal(black_box(&session), &key, &keyring)));
    criterion.bench_function("store/value/open", |b| {
        b.iter(|| value::open(black_box(sealed.as_bytes()), &key, &keyring).expect("a value"));
    });
}

fn config(criterion: &mut Criterion) {
    criterion
        .bench_function("config/parse", |b| b.iter(|| Config::parse(black_box(CONFIG), &|_| None).expect("valid")));
}

/// A request of a session that stays where it is, and its response. The fake proxy's own part is in it.
fn request(criterion: &mut Criterion) {
    let mut proxy = Proxy::default();
    proxy.host.state().now = NOW;
    assert!(proxy.set_up_with(ROOT, CONFIG.into()));
    let keyring = Config::parse(CONFIG, &|_| None).expect("a configuration").shared.keyring.clone();
    let token = token::seal(&session(), &keyring, &Protection::Encrypted { nonce: [9; 24] });
    let lines = browser(&format!("theme=dark; __Host-mooring={token}; lang=en"));
    criterion.bench_function("request/resumed", |b| {
        b.iter_batched(
            || lines.clone(),
            |lines| {
                let (id, _) = proxy.receive(ROOT, lines);
                proxy.respond(id, vec![(b":status".into(), b"200".into())], "via_upstream", None, None);
                proxy.end(id)
            },
            BatchSize::SmallInput,
        );
    });
    proxy.tick(ROOT);
    let counters = &proxy.host.state().counters;
    let outcomes = counters.keys().filter(|name| name.starts_with("mooring_sessions."));
    assert!(outcomes.eq(["mooring_sessions.outcome=resumed.by=cookie"]), "{counters:?}");
}

fn main() {
    let brief = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    let mut criterion = brief.configure_from_args();
    for benchmarks in [tokens, keys, cookies, headers, hosts, cache, store_values, config, request] {
        benchmarks(&mut criterion);
    }
    criterion.final_summary();
}
