//! The request's half: find the session, ask for its host.

use super::{Affinity, Asked, Edit, Exchange, Inputs, Standing, carried};
use crate::clock::UnixTime;
use crate::config::{Failover, Via};
use crate::cookie::{self, MAX_CANDIDATES, Without};
use crate::headers::Headers;
use crate::keyring::KeyAge;
use crate::metrics::{Counter, Fault};
use crate::pin::{ClusterId, HostAddr};
use crate::session::Session;
use crate::token::{self, Refusal};
use crate::worker::Worker;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

impl Affinity {
    /// Decides on a request. `headers` are `None` when the proxy did not give them.
    pub fn on_request(
        &self,
        worker: &mut Worker,
        headers: Option<&Headers>,
        inputs: &dyn Inputs,
    ) -> (Exchange, Vec<Edit<'_>>) {
        let began = worker.step();
        let (Some(headers), Some(now)) = (headers, inputs.now()) else {
            // Nothing is known of what the client sent: whatever it may have sent under our names goes.
            let edits = self.internal_headers().map(Edit::Remove).to_vec();
            let exchange = Exchange { began, presented: false, standing: Standing::Unknown, asked: Asked::default() };
            return (exchange, edits);
        };
        let cookies: Vec<&[u8]> = headers.values("cookie").collect();
        let path = headers.values(":path").next().unwrap_or(b"/");
        let (presented, standing) = if cookie::path_matches(&self.config.cookie.path, path) {
            self.standing(worker, &cookies, now, inputs)
        } else {
            self.carried(now, inputs).unwrap_or((false, Standing::Elsewhere))
        };
        let asked = match &standing {
            Standing::Resumed(session, _) => self.ask(session, inputs),
            Standing::Fresh(_) | Standing::Unknown | Standing::Elsewhere => Asked::default(),
        };

        let mut edits = Vec::new();
        if !self.config.cookie.forward {
            self.take_cookie_out(&cookies, &mut edits);
        }
        self.set_internal_headers(headers, &standing, &asked, &mut edits);
        (Exchange { began, presented, standing, asked }, edits)
    }

    /// Whether a cookie of our name was there, and what session the request has.
    fn standing(&self, worker: &mut Worker, cookies: &[&[u8]], now: UnixTime, inputs: &dyn Inputs) -> (bool, Standing) {
        let (presented, found) = self.newest(worker, cookies, now);
        if let Some((session, age)) = found {
            return (presented, Standing::Resumed(session, age));
        }
        if let Some((before, standing)) = self.carried(now, inputs) {
            return (presented || before, standing);
        }
        let fresh = inputs.random_id().map(Standing::Fresh);
        let standing = fresh.unwrap_or_else(|| {
            worker.count(Counter::Fault(Fault::Randomness));
            Standing::Unknown
        });
        (presented, standing)
    }

    /// What an earlier pass of this stream left: whether the cookie was there, and the session.
    fn carried(&self, now: UnixTime, inputs: &dyn Inputs) -> Option<(bool, Standing)> {
        inputs.carried().and_then(|bytes| carried::read(&bytes)).filter(|(_, standing)| match standing {
            Standing::Resumed(session, _) => self.config.session.check(session, now).is_ok(),
            Standing::Fresh(_) | Standing::Unknown | Standing::Elsewhere => true,
        })
    }

    /// Of the first few cookies of our name, the newest that verifies. The first of several that are equally new.
    fn newest(&self, worker: &mut Worker, cookies: &[&[u8]], now: UnixTime) -> (bool, Option<(Session, KeyAge)>) {
        let name = self.config.cookie.set_cookie.name();
        let mut presented = false;
        let mut newest: Option<(Session, KeyAge)> = None;
        for value in cookies.iter().flat_map(|line| cookie::values(line, name)).take(MAX_CANDIDATES) {
            presented = true;
            match self.open(value, now) {
                Ok(candidate) => {
                    if newest.as_ref().is_none_or(|(known, _)| is_newer(&candidate.0, known, now)) {
                        newest = Some(candidate);
                    }
                }
                Err(refusal) => worker.count(Counter::Refused(refusal)),
            }
        }
        (presented, newest)
    }

    fn open(&self, value: &[u8], now: UnixTime) -> Result<(Session, KeyAge), Refusal> {
        let (session, age) = token::open(value, &self.config.keyring)?;
        self.config.session.check(&session, now)?;
        Ok((session, age))
    }

    /// The host to ask for. The cluster is looked up only where the answer depends on it: with several pins, or where a
    /// strict bridge would refuse a host of another cluster. Any other bridge ignores such a host, and clusters may share
    /// hosts: without a pin for the cluster, the one used last is worth asking for.
    fn ask(&self, session: &Session, inputs: &dyn Inputs) -> Asked {
        let strict = self.config.upstream.failover == Failover::None;
        let mut pins = session.pins.iter();
        match (pins.next(), pins.next()) {
            (None, _) => Asked::default(),
            (Some(only), None) if !strict => Asked { cluster: None, host: Some(only.host.clone()) },
            (Some(latest), _) => {
                let cluster = inputs.cluster_name().map(|name| ClusterId::of(&name));
                let pinned = cluster.and_then(|cluster| session.pins.host_in(cluster));
                let host = pinned.or(Some(&latest.host).filter(|_| !strict)).cloned();
                Asked { cluster, host }
            }
        }
    }

    fn take_cookie_out(&self, cookies: &[&[u8]], edits: &mut Vec<Edit<'_>>) {
        let name = self.config.cookie.set_cookie.name();
        let without: Vec<Without> = cookies.iter().map(|line| cookie::without(line, name)).collect();
        if without.iter().all(|line| *line == Without::Untouched) {
            return;
        }
        let mut left: Vec<Vec<u8>> = cookies
            .iter()
            .zip(without)
            .filter_map(|(line, without)| match without {
                Without::Untouched => Some(line.to_vec()),
                Without::Rest(rest) => Some(rest),
                Without::Nothing => None,
            })
            .collect();
        // Setting a header leaves one line of it, so several lines are removed and added again.
        match (left.pop(), left.is_empty()) {
            (Some(only), true) => edits.push(Edit::Set("cookie", only)),
            (last, _) => {
                edits.push(Edit::Remove("cookie"));
                edits.extend(left.into_iter().chain(last).map(|line| Edit::Add("cookie", line)));
            }
        }
    }

    /// Sets what this request has, and removes what the client sent. A header that is not there is not touched: that alone
    /// would make Envoy match routes again.
    fn set_internal_headers<'a>(
        &'a self,
        headers: &Headers,
        standing: &Standing,
        asked: &Asked,
        edits: &mut Vec<Edit<'a>>,
    ) {
        let id = match standing {
            Standing::Resumed(session, _) => Some(session.id),
            Standing::Fresh(id) => Some(*id),
            Standing::Unknown | Standing::Elsewhere => None,
        };
        let host = asked.host.as_ref().map(|host| self.override_value(host));
        let id = id.filter(|_| self.config.app.session_header.enabled).map(|id| id.to_text().into_bytes());
        let [host_header, action_header, session_header] = self.internal_headers();
        for (name, value) in [(host_header, host), (session_header, id), (action_header, None)] {
            match value {
                Some(value) => edits.push(Edit::Set(name, value)),
                None if headers.values(name).next().is_some() => edits.push(Edit::Remove(name)),
                None => {}
            }
        }
    }

    /// The override header, as the bridge reads it.
    fn override_value(&self, host: &HostAddr) -> Vec<u8> {
        let host = host.to_string();
        match self.config.upstream.via {
            Via::StatefulSession => STANDARD.encode(host).into_bytes(),
            Via::OverrideHost => host.into_bytes(),
        }
    }
}

/// Of two copies of one session, the higher generation is the newer; else what was renewed last, then what began last.
fn is_newer(candidate: &Session, known: &Session, now: UnixTime) -> bool {
    let renewed = (candidate.renewed.min(now), candidate.created).cmp(&(known.renewed.min(now), known.created));
    if candidate.id == known.id {
        candidate.generation.cmp(&known.generation).then(renewed).is_gt()
    } else {
        renewed.is_gt()
    }
}
