//! One client, from its first request to its last, and what it knows of its session.

use super::tally::{Count, Tally};
use super::{ABSOLUTE, IDLE, TTL};
use crate::clients::{Answer, Client};
use crate::rotation::{Rotation, now};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What all clients share.
pub struct Site {
    /// Where the proxies listen.
    pub proxies: RwLock<[String; 2]>,
    pub rotation: Rotation,
    pub tally: Tally,
}

/// A session, as its client follows it.
struct Session {
    begun: Instant,
    /// The last answer.
    heard: Instant,
    /// The host that it is on, for each cluster that it met.
    homes: BTreeMap<&'static str, String>,
    renewals: u32,
    /// When a worker was last told of this session by the store: one for each connection.
    lookups: BTreeMap<(usize, u32), Instant>,
}

impl Session {
    fn new(begun: Instant) -> Self {
        Self { begun, heard: begun, homes: BTreeMap::new(), renewals: 0, lookups: BTreeMap::new() }
    }

    /// Whether a request at this instant may find it expired. Times in tokens are whole seconds, and the last renewal may have
    /// been a tenth of the idle timeout ago.
    fn may_be_over(&self, at: Instant) -> bool {
        let near = |since: Instant, timeout| at - since + IDLE / 10 + Duration::from_secs(2) >= timeout;
        near(self.begun, ABSOLUTE) || near(self.heard, IDLE)
    }
}

/// A client.
pub struct Life {
    site: Arc<Site>,
    client: Client,
    proxy: usize,
    session: Option<Session>,
}

impl Life {
    pub fn begin(site: Arc<Site>) -> Self {
        Self { site, client: Client::default(), proxy: fastrand::usize(0..2), session: None }
    }

    pub async fn live(mut self) {
        self.pages().await;
        match fastrand::u32(0..100) {
            0..35 => self.end().await,
            35..42 => self.come_back_too_late().await,
            _ => {
                self.site.tally.add(Count::Abandoned);
                self.forget();
            }
        }
    }

    /// Some requests in a row, a pause, and so on. Most leave soon, some stay beyond the absolute timeout.
    async fn pages(&mut self) {
        let pages = if fastrand::u32(0..20) == 0 { 30 } else { fastrand::u32(1..9) };
        for _ in 0..pages {
            let elsewhere = fastrand::u32(0..10) == 0;
            let proxy = if elsewhere { 1 - self.proxy } else { self.proxy };
            for _ in 0..fastrand::u32(1..7) {
                let (cluster, path) = if fastrand::u32(0..10) == 0 { ("other", "/other") } else { ("app", "/") };
                match fastrand::u32(0..200) {
                    0..4 => self.visit(proxy, cluster, &format!("{path}?action=rotate")).await,
                    4..6 => self.visit(proxy, cluster, &format!("{path}?action=release")).await,
                    6..12 => self.garbage(proxy, cluster, path).await,
                    _ => self.visit(proxy, cluster, path).await,
                }
                sleep(Duration::from_millis(fastrand::u64(20..150))).await;
            }
            sleep(Duration::from_millis(fastrand::u64(500..7000))).await;
        }
    }

    /// Logs out; and then somebody tries the old cookie, on the worker that knows.
    async fn end(&mut self) {
        let old = self.client.jar.line();
        self.visit(self.proxy, "app", "/?action=end").await;
        if self.client.jar.cookie().is_some() {
            return; // The request failed.
        }
        let told = self.client.connection(self.proxy);
        let (site, address) = (Arc::clone(&self.site), self.address(self.proxy));
        let again = self.client.get_with(self.proxy, &address, "/", old.unwrap_or_default().as_bytes()).await;
        site.tally.add(Count::Requests);
        if self.client.connection(self.proxy) == told
            && let Ok(again) = again
            && again.status == 200
            && again.decision != "created"
        {
            site.tally.wrong(Count::Revived, || format!("{again:?}"));
        }
    }

    async fn come_back_too_late(&mut self) {
        sleep(IDLE + Duration::from_secs(2)).await;
        self.visit(self.proxy, "app", "/").await;
        self.forget();
    }

    /// Sends what no browser would, instead of the cookie or beside it. It must be served.
    async fn garbage(&mut self, proxy: usize, cluster: &'static str, path: &str) {
        self.site.tally.add(Count::Garbage);
        // Anything but what no header line may contain.
        let bytes = std::iter::repeat_with(|| fastrand::u8(b' '..=255)).filter(|byte| *byte != 0x7f);
        let bytes: Vec<u8> = bytes.take(fastrand::usize(1..300)).collect();
        let line = match fastrand::u32(0..4) {
            0 => bytes,
            1 => [b"m=", bytes.as_slice()].concat(),
            2 => return self.visit_beside(proxy, cluster, path, [b"m=", bytes.as_slice()].concat().trim_ascii()).await,
            // A token that was tampered with.
            _ => {
                let mut token = self.client.jar.line().unwrap_or_default().into_bytes();
                let at = fastrand::usize(0..token.len().max(1));
                token.get_mut(at).into_iter().for_each(|byte| *byte = if *byte == b'A' { b'B' } else { b'A' });
                token
            }
        };
        let (address, began) = (self.address(proxy), now());
        let answer = self.client.get_with(proxy, &address, path, line.trim_ascii()).await;
        self.site.tally.add(Count::Requests);
        if let Some(answer) = self.served(path, None, began, answer)
            && answer.decision != "created"
        {
            self.site.tally.wrong(Count::Revived, || format!("{}: {answer:?}", line.escape_ascii()));
        }
    }

    async fn visit(&mut self, proxy: usize, cluster: &'static str, path: &str) {
        self.visit_beside(proxy, cluster, path, b"").await;
    }

    /// Sends a request, and holds what comes of it against what this client knows.
    async fn visit_beside(&mut self, proxy: usize, cluster: &'static str, path: &str, beside: &[u8]) {
        let address = self.address(proxy);
        self.may_look_up(proxy);
        let before = self.client.connection(proxy);
        let began = now();
        let answer = self.client.get_beside(proxy, &address, path, beside).await;
        if self.client.connection(proxy) != before {
            self.may_look_up(proxy);
        }
        self.site.tally.add(Count::Requests);
        let session = self.session.as_ref().filter(|session| !session.may_be_over(began));
        let home = session.and_then(|session| session.homes.get(cluster)).map(String::as_str);
        if let Some(answer) = self.served(path, home, began, answer) {
            self.judge(cluster, path, began, &answer);
        }
    }

    /// The answer to a request of a session at home on `home`, if it is as it should be.
    fn served(
        &self,
        path: &str,
        home: Option<&str>,
        began: Instant,
        answer: Result<Answer, crate::clients::Failure>,
    ) -> Option<Answer> {
        let tally = &self.site.tally;
        match answer {
            Ok(answer) if answer.status == 200 => return Some(answer),
            Ok(answer)
                if answer.status == 503
                    && answer.body.contains("reset reason: connection termination")
                    && self.site.rotation.explains(home, began, now()) =>
            {
                tally.add(Count::DiedWithHost);
            }
            Ok(answer) => tally.wrong(Count::Failed, || format!("{path}: {answer:?}")),
            Err(failure) => tally.wrong(Count::Failed, || format!("{path}: {failure}")),
        }
        None
    }

    fn judge(&mut self, cluster: &'static str, path: &str, began: Instant, answer: &Answer) {
        let site = Arc::clone(&self.site);
        let tally = &site.tally;
        let word = answer.decision.as_str();
        if answer.cookie {
            tally.cookie(word);
        }
        if word == "created" {
            self.begin_session(began);
        }
        if word == "ended" {
            tally.add(Count::Ended);
            self.forget();
        }
        let Some(session) = &mut self.session else { return };
        let host = answer.host.clone().unwrap_or_default();
        if let Some(home) = session.homes.get(cluster).filter(|home| **home != host) {
            if site.rotation.was_out(home, began, now()) {
                tally.add(Count::Moved);
            } else {
                tally.wrong(Count::Misplaced, || format!("{cluster}, at home on {home}: {answer:?}"));
            }
        }
        session.heard = now();
        if path.ends_with("release") {
            // Nor is there a home where there was none.
            session.homes.remove(cluster);
        } else if !["pin_ignored", "untouched"].contains(&word) {
            // Else the session was not told to follow.
            session.homes.insert(cluster, host);
        }
        match word {
            "rotated" => {
                tally.add(Count::Rotated);
                session.lookups.clear();
            }
            "released" => {
                tally.add(Count::Released);
                session.lookups.clear();
            }
            // Workers that know an older generation ask the store.
            "moved" | "pinned" | "adopted" => session.lookups.clear(),
            "renewed" => {
                session.renewals += 1;
                let most = (began.elapsed() + (began - session.begun)).as_secs() / (IDLE.as_secs() / 10) + 1;
                if u64::from(session.renewals) > most {
                    tally.wrong(Count::OverRenewed, || format!("{} renewals, {most} at most", session.renewals));
                }
            }
            _ => {}
        }
    }

    /// A session began: because there was none, or none that still counts.
    fn begin_session(&mut self, began: Instant) {
        let site = Arc::clone(&self.site);
        let tally = &site.tally;
        tally.add(Count::Born);
        if let Some(old) = self.session.replace(Session::new(began)) {
            if old.may_be_over(began) {
                tally.add(Count::Expired);
            } else {
                tally.wrong(Count::Lost, || format!("after {:?}", began - old.begun));
            }
        } else {
            tally.add(Count::Alive);
        }
    }

    fn forget(&mut self) {
        if self.session.take().is_some() {
            self.site.tally.remove(Count::Alive);
        }
    }

    /// Notes that a request is about to go to a worker that may have to ask the store for the session.
    fn may_look_up(&mut self, proxy: usize) {
        let (Some(session), Some(connection)) = (&mut self.session, self.client.connection(proxy)) else { return };
        let known = session.lookups.get(&(proxy, connection)).is_some_and(|since| since.elapsed() < TTL);
        if !known {
            session.lookups.insert((proxy, connection), now());
            self.site.tally.add(Count::LookupsAllowed);
        }
    }

    fn address(&self, proxy: usize) -> String {
        self.site.proxies.read().expect("a lock")[proxy].clone()
    }
}
