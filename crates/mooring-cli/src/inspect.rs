//! `mooring inspect`.

use crate::check::listed;
use crate::environment::{Environment, Missing, Sources};
use crate::files::{File, text_of};
use crate::{Failure, Report, Verdict, time};
use clap::Args;
use mooring::carrier::{MAX_CANDIDATES, cookie};
use mooring::clock::UnixTime;
use mooring::config::Config;
use mooring::credential::keyring::KeyPosition;
use mooring::credential::token::{self, MAX_TOKEN, Refusal, Visible};
use mooring::session::Session;
use mooring::session::pin::{ClusterId, Pin};
use mooring::store::protocol::StoreKey;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Looks into a cookie or another token: what it holds, and whether the plugin would accept it.
///
/// Reads a token, or a line of a header with one (Cookie, Set-Cookie, or that of a header token), from stdin: whoever has it has its session's place, so it is no argument.
/// With several of them, the newest that is valid counts, as in the plugin. The store is not asked: it may have revoked the
/// session.
#[derive(Args)]
pub(crate) struct InspectOptions {
    /// Read from this file, not from stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The configuration, with the keys. Without it, only what anybody can see is shown, and nothing is verified
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Which configuration of that file, if it has several: a place, as `mooring check` names it
    #[arg(long, value_name = "PLACE", requires = "config")]
    place: Option<String>,

    #[command(flatten)]
    sources: Sources,

    /// The time to judge by: 2026-11-21T20:00:00Z, or seconds since the Unix epoch. Default: now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<UnixTime>,

    /// A cluster that pins may be for: a token has only a hash of its name. Clusters in the configuration's file are known
    #[arg(long, value_name = "NAME")]
    cluster: Vec<String>,
}

/// What tokens are held against.
struct Judge {
    config: Option<Config>,
    clusters: Vec<String>,
    now: UnixTime,
}

/// What was found out about a token.
struct Finding {
    visible: Option<Visible>,
    /// What its tag vouches for, or why nothing of it counts.
    verified: Option<Result<(Session, KeyPosition), Refusal>>,
    /// Why its session is over, or has not begun.
    untimely: Option<Refusal>,
}

pub(crate) fn run(options: &InspectOptions) -> Result<Report, Failure> {
    let judge = Judge::new(options)?;
    let text = text_of(options.file.as_deref().unwrap_or_else(|| "-".as_ref()))?;
    let names = judge.config.as_ref().map(Names::of);
    let tokens = tokens_in(&text, names.as_ref());
    if tokens.is_empty() {
        return Err(match names {
            Some(names) => format!("there is no token: expected one, or {}", names.expected()),
            None => "there is no token: expected one, or a Cookie or Set-Cookie line with one".to_owned(),
        });
    }
    let found: Vec<Finding> = tokens.iter().take(MAX_CANDIDATES).map(|token| judge.look_at(token)).collect();
    let accepted = judge.newest(&found);
    let mut written = String::new();
    for (at, found) in found.iter().enumerate() {
        if tokens.len() > 1 {
            let chosen = if accepted == Some(at) { ", the one that counts" } else { "" };
            let _ = writeln!(written, "token {} of {}{chosen}", at.saturating_add(1), tokens.len());
        }
        judge.write(found, &mut written);
    }
    let ignored = tokens.len().saturating_sub(found.len());
    let aside = if ignored > 0 {
        format!("The plugin looks at {MAX_CANDIDATES} tokens of one way, and no further.\n")
    } else {
        String::new()
    };
    let described: Vec<Value> = found.iter().map(|found| judge.json(found)).collect();
    let json =
        json!({"at": judge.now.0, "accepted": judge.config.as_ref().map(|_| accepted.is_some()), "tokens": described});
    // Without keys nothing is judged.
    let fine = accepted.is_some() || judge.config.is_none() && found.iter().any(|found| found.visible.is_some());
    Ok(Report { text: written, aside, json, verdict: if fine { Verdict::Fine } else { Verdict::Refused } })
}

/// Under which names a configuration's tokens travel.
struct Names {
    cookie: Option<String>,
    headers: Vec<String>,
}

impl Names {
    fn of(config: &Config) -> Self {
        let policy = &config.policy;
        let headers = policy.identify.iter().filter(|carrier| carrier.owns_request_header());
        Self {
            cookie: policy.cookie().map(|cookie| cookie.set_cookie.name().to_owned()),
            headers: headers.map(|carrier| carrier.request_header().to_owned()).collect(),
        }
    }

    fn expected(&self) -> String {
        let cookie = self.cookie.iter().map(|name| format!("a Cookie or Set-Cookie line with {name}"));
        let headers = self.headers.iter().map(|name| format!("a line of {name}"));
        cookie.chain(headers).collect::<Vec<_>>().join(", or ")
    }
}

/// The tokens in lines of headers, also as `curl -v` shows them, in a cookie jar of curl's, or one that is there alone. Without names,
/// what begins as a token does.
fn tokens_in(text: &str, names: Option<&Names>) -> Vec<String> {
    let begins = |value: &str| value.starts_with("m1");
    let cookie_name = names.and_then(|names| names.cookie.as_deref());
    let mut tokens = Vec::new();
    for line in text.lines() {
        let in_jar = jar_line(line);
        let line = in_jar.as_deref().unwrap_or(line).trim_start_matches(['<', '>']).trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let field = line.split_once(':').filter(|(name, _)| !name.contains(['=', ' ']));
        let field = field.map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
        let header = field.as_ref().filter(|(name, _)| ["cookie", "set-cookie"].contains(&&**name));
        let token_header = field.as_ref().filter(|(name, value)| match names {
            Some(names) => names.headers.contains(name),
            None => header.is_none() && begins(value),
        });
        if let Some((_, value)) = token_header {
            tokens.extend(value.split(',').map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned));
            continue;
        }
        if field.is_some() && header.is_none() {
            continue;
        }
        let is_set = header.is_some_and(|(name, _)| name.len() > "cookie".len());
        let cookies = header.map_or(line, |(_, cookies)| cookies);
        // What follows in a Set-Cookie line are attributes.
        let cookies = if is_set { cookies.split(';').next().unwrap_or_default() } else { cookies };
        if !cookies.contains('=') {
            tokens.push(cookies.to_owned());
        } else if let Some(name) = cookie_name {
            let values = cookie::values(cookies.as_bytes(), name);
            tokens.extend(
                values.filter(|value| !value.is_empty()).map(|value| String::from_utf8_lossy(value).into_owned()),
            );
        } else if names.is_none() {
            let values = cookies
                .split(';')
                .filter_map(|pair| pair.split_once('='))
                .map(|(_, value)| value.trim().trim_matches('"'));
            tokens.extend(values.filter(|value| begins(value)).map(str::to_owned));
        }
    }
    tokens
}

/// The cookie in a line of a jar (Netscape's format): seven fields with tabs between them, name and value last.
fn jar_line(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [_, _, _, _, _, name, value] = fields.as_slice() else { return None };
    Some(format!("{name}={value}"))
}

impl Judge {
    fn new(options: &InspectOptions) -> Result<Self, Failure> {
        let now = options.at.unwrap_or_else(time::now);
        let mut clusters = options.cluster.clone();
        let Some(path) = &options.config else { return Ok(Self { config: None, clusters, now }) };
        let file = File::read(path)?;
        let plugin = file.plugin(options.place.as_deref())?;
        let values = options.sources.read()?;
        let json: Value = serde_json::from_str(&plugin.json).unwrap_or_default();
        // The secrets are to be had here, whatever the proxy's VM gets.
        let given = plugin.passed.as_ref().map(|passed| &passed.given);
        let environment = Environment::new(None, &values, Missing::Refused, &json);
        // The store is not asked.
        let store_token = json.pointer("/store/token/env").and_then(Value::as_str);
        let value = |name: &str| {
            let given = given.and_then(|given| given.get(name)).map(|value| value.clone().into_bytes());
            let token = || Some(b"unused:here".to_vec()).filter(|_| store_token == Some(name));
            given.or_else(|| environment.value(name)).or_else(token)
        };
        let config = Config::parse(plugin.json.as_bytes(), &value)
            .map_err(|errors| format!("{} is refused:{}", path.display(), listed(&errors)))?;
        clusters.extend(plugin.surroundings.clusters.iter().cloned());
        Ok(Self { config: Some(config), clusters, now })
    }

    fn look_at(&self, token: &str) -> Finding {
        let visible = token::look(token.as_bytes());
        let Some(config) = &self.config else { return Finding { visible, verified: None, untimely: None } };
        let verified = token::open(token.as_bytes(), &config.shared.keyring);
        let session = verified.as_ref().ok().map(|(session, _)| session);
        let untimely =
            session.and_then(|session| config.policy.session.check(session, self.now).err()).map(Refusal::from);
        Finding { visible, verified: Some(verified), untimely }
    }

    /// Which of them the plugin would take: the newest that it accepts.
    fn newest(&self, found: &[Finding]) -> Option<usize> {
        let accepted = found.iter().enumerate().filter_map(|(at, found)| Some((at, found.accepted()?)));
        let newest = accepted.reduce(
            |known, candidate| {
                if candidate.1.is_newer_than(known.1, self.now) { candidate } else { known }
            },
        );
        newest.map(|(at, _)| at)
    }

    /// The fields of a token and its session, for people.
    fn write(&self, found: &Finding, text: &mut String) {
        let mut line = |label: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {label:<10} {value}");
        };
        match &found.visible {
            Some(Visible { encrypted, key_id, .. }) => {
                let protection = if *encrypted { "signed and encrypted" } else { "signed" };
                line("token", format!("{protection}, with the key {key_id}"));
            }
            None => line(
                "token",
                format!("not of the form m1s.KEY.BODY.TAG or m1e.KEY.BODY.TAG, or over {MAX_TOKEN} characters"),
            ),
        }
        let verdict = match (found.refusal(), &found.verified) {
            (Some(refusal), _) => format!("no: {}, {}", refusal.word(), meaning(refusal)),
            (None, Some(Ok((_, KeyPosition::Current)))) => "yes".to_owned(),
            (None, Some(_)) => "yes; its key does not sign any more, so the next response issues it anew".to_owned(),
            (None, None) => "not verified: there are no keys without --config".to_owned(),
        };
        line("accepted", verdict);
        let Some(session) = found.session() else { return };
        line("session", session.id.to_text());
        if let Some(config) = &self.config
            && let Some(store) = &config.shared.store
        {
            line(
                "store key",
                StoreKey::of(&session.id, &config.shared.scope, &store.endpoint.namespace).as_str().to_owned(),
            );
        }
        let moment = |time: UnixTime| format!("{} ({})", time::written(time), time::beside(time, self.now));
        line("created", moment(session.created));
        line("renewed", moment(session.renewed));
        line("ends", self.end(session).map_or("never".to_owned(), moment));
        if let Some(idle) = self.idle_end(session) {
            line("idle until", moment(idle));
        }
        line("generation", session.generation.to_string());
        for Pin { cluster, host } in session.pins.iter() {
            line(
                "pin",
                format!(
                    "{} in {}",
                    host.to_text(),
                    self.cluster(*cluster).unwrap_or_else(|| format!("the cluster {}", hash(*cluster)))
                ),
            );
        }
    }

    fn json(&self, found: &Finding) -> Value {
        let visible = found.visible.as_ref();
        let session = found.session().map(|session| {
            let pins = session.pins.iter().map(|pin| {
                json!({"host": pin.host.to_text(), "cluster": self.cluster(pin.cluster), "cluster_hash": hash(pin.cluster)})
            });
            let store = self.config.as_ref().and_then(|config| {
                let key = StoreKey::of(&session.id, &config.shared.scope, &config.shared.store.as_ref()?.endpoint.namespace);
                Some(key.as_str().to_owned())
            });
            json!({
                "id": session.id.to_text(),
                "store_key": store,
                "created": session.created.0,
                "renewed": session.renewed.0,
                "ends": self.end(session).map(|end| end.0),
                "idle_until": self.idle_end(session).map(|end| end.0),
                "generation": session.generation,
                "pins": pins.collect::<Vec<_>>(),
            })
        });
        json!({
            "encrypted": visible.map(|visible| visible.encrypted),
            "key": visible.map(|visible| visible.key_id.clone()),
            "verified": found.verified.as_ref().is_some_and(Result::is_ok),
            "accepted": found.verified.as_ref().map(|_| found.refusal().is_none()),
            "refused": found.refusal().map(Refusal::word),
            "session": session,
        })
    }

    fn end(&self, session: &Session) -> Option<UnixTime> {
        self.config.as_ref().map_or(session.end, |config| config.policy.session.end(session))
    }

    fn idle_end(&self, session: &Session) -> Option<UnixTime> {
        Some(session.renewed.plus(self.config.as_ref()?.policy.session.idle?))
    }

    fn cluster(&self, id: ClusterId) -> Option<String> {
        self.clusters.iter().find(|name| ClusterId::of(name.as_bytes()) == id).cloned()
    }
}

impl Finding {
    fn refusal(&self) -> Option<Refusal> {
        self.verified.as_ref().and_then(|verified| verified.as_ref().err().copied()).or(self.untimely)
    }

    /// What is known of the session, verified or not.
    fn session(&self) -> Option<&Session> {
        let verified = self.verified.as_ref().and_then(|verified| verified.as_ref().ok()).map(|(session, _)| session);
        verified.or_else(|| self.visible.as_ref()?.session.as_ref())
    }

    /// The session, if the plugin would go by it.
    fn accepted(&self) -> Option<&Session> {
        let verified = self.verified.as_ref()?.as_ref().ok()?;
        Some(&verified.0).filter(|_| self.untimely.is_none())
    }
}

fn hash(cluster: ClusterId) -> String {
    cluster.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn meaning(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed => "it is no token of this version, or too long",
        Refusal::UnknownKey => "its key is not in the configuration",
        Refusal::BadTag => "it was altered, or is of another scope or secret",
        Refusal::ExpiredAbsolute => "it is past its absolute timeout",
        Refusal::ExpiredIdle => "it was not renewed for the idle timeout",
        Refusal::Future => "it was created later than clock_skew allows",
        Refusal::Revoked => "the store says that it ended",
    }
}
