//! Envoy as browsers need it: with TLS, under several names, over HTTP/1.1 and HTTP/2; and the cookie as it is by default.

use mooring_test_kit::rig::{Bootstrap, EnvoyWorld};
use mooring_test_kit::servers::certs::Certificates;
use mooring_test_kit::world::{Setup, World as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where the application lives: a site of its own.
pub const APP: &str = "app.test";
/// Two other sites that have to do with it.
pub const PORTAL: &str = "portal.test";
pub const SHOP: &str = "shop.test";

/// A running Envoy, and what its clients trust.
pub struct Stage {
    pub world: EnvoyWorld,
    pub certificates: Certificates,
    scheme: &'static str,
}

impl Stage {
    /// With TLS, and these members of the plugin's configuration in place of the defaults.
    pub fn tls(members: Value) -> Self {
        Self::adjusted(members, |_| ())
    }

    /// As [`Self::tls`], with a config that `adjust` has changed.
    pub fn adjusted(members: Value, adjust: impl FnOnce(&mut Bootstrap)) -> Self {
        let certificates = Certificates::naming(&[APP, PORTAL, SHOP]);
        let world = EnvoyWorld::adjusted(&setup(members), |bootstrap| {
            encrypt(bootstrap, &certificates);
            adjust(bootstrap);
        });
        Self::new(world, certificates)
    }

    /// Of an Envoy with TLS.
    pub fn new(world: EnvoyWorld, certificates: Certificates) -> Self {
        Self { world, certificates, scheme: "https" }
    }

    /// Without TLS.
    pub fn plain() -> Self {
        let world = EnvoyWorld::start(setup(json!({})));
        Self { world, certificates: Certificates::new(), scheme: "http" }
    }

    /// The URL of a path at one of Envoy's names.
    pub fn url(&self, name: &str, path: &str) -> String {
        let (_, port) = self.world.envoy.address.rsplit_once(':').expect("a port");
        format!("{}://{name}:{port}{path}", self.scheme)
    }

    /// Waits until the responses that have these outcomes are counted, and there are no others.
    pub fn assert_outcomes(&self, expected: &[(&str, u64)]) {
        let expected: BTreeMap<String, u64> = expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(self.outcomes(expected.values().sum()), expected);
    }

    /// Waits until that many responses are counted: all were of one session. (Browsers also ask for an icon, when they like.)
    pub fn assert_one_session(&self, responses: u64) {
        let outcomes = self.outcomes(responses);
        assert_eq!(outcomes.get("created"), Some(&1), "{outcomes:?}");
        assert!(outcomes.keys().eq(["created", "resumed"]), "{outcomes:?}");
    }

    /// Waits until that many responses are counted. Returns how many had which outcome.
    fn outcomes(&self, responses: u64) -> BTreeMap<String, u64> {
        mooring_test_kit::rig::eventually("the plugin's counts", || {
            let stats = self.world.envoy.admin("/stats?filter=mooring_sessions.outcome")?;
            let mut seen: BTreeMap<String, u64> = BTreeMap::new();
            for (name, count) in stats.lines().filter_map(outcome).filter(|(_, count)| *count > 0) {
                *seen.entry(name).or_default() += count;
            }
            (seen.values().sum::<u64>() >= responses).then_some(seen)
        })
    }
}

fn outcome(line: &str) -> Option<(String, u64)> {
    let (name, count) = line.strip_prefix("wasmcustom.mooring_sessions.outcome=")?.split_once(": ")?;
    Some((name.split('.').next()?.to_owned(), count.parse().ok()?))
}

/// The plugin with its cookie by default, unless these members say otherwise.
pub fn setup(members: Value) -> Setup {
    let mut all = json!({"cookie": {}});
    if let (Some(all), Value::Object(members)) = (all.as_object_mut(), members) {
        all.extend(members);
    }
    Setup::with(all)
}

/// Has the listener speak TLS.
pub fn encrypt(bootstrap: &mut Bootstrap, certificates: &Certificates) {
    let certificate = json!({"certificate_chain": {"filename": certificates.path("server.pem")},
        "private_key": {"filename": certificates.path("server.key")}});
    bootstrap.listener()["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]}}});
}
