//! `mooring check`.

use crate::environment::{Environment, Missing, Sources, Values, VariableState};
use crate::files::{File, Form, Plugin};
use crate::surroundings::Warning;
use crate::{Failure, Report, Verdict, time};
use clap::Args;
use mooring::carrier::AnyCarrier;
use mooring::carrier::cookie::CookieCarrier;
use mooring::config::{AppHeader, Config, ConfigError, ConfigErrors, Policy, Shared, version};
use mooring::headers::HeaderName;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Checks configurations as the plugin itself would, and what is around them.
///
/// Takes the plugin's JSON, or YAML with it: Envoy's, a WasmPlugin, TrafficExtension or EnvoyFilter of Istio, an
/// EnvoyExtensionPolicy of Envoy Gateway. Says what the plugin would do, or every rule that is broken.
#[derive(Args)]
pub(crate) struct CheckOptions {
    /// Files to check; - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    sources: Sources,

    /// Put made-up secrets in place of variables that are not set here, for a place that has no secrets, such as CI
    #[arg(long)]
    ignore_missing_env: bool,

    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// What was found out about a config.
struct Finding {
    place: String,
    result: Result<Summary, Vec<ConfigError>>,
    warnings: Vec<Warning>,
    notes: Vec<String>,
}

pub(crate) fn run(options: &CheckOptions) -> Result<Report, Failure> {
    let values = options.sources.read()?;
    let missing = if options.ignore_missing_env { Missing::MadeUp } else { Missing::Refused };
    let (mut text, mut files, mut fine) = (String::new(), Vec::new(), true);
    for path in &options.files {
        let name = path.display().to_string();
        match File::read(path) {
            Ok(file) => {
                let findings: Vec<_> = file.plugins.iter().map(|plugin| examine(plugin, &values, missing)).collect();
                fine &= findings
                    .iter()
                    .all(|finding| finding.result.is_ok() && (finding.warnings.is_empty() || !options.strict));
                findings.iter().for_each(|finding| finding.write(&name, &mut text));
                files.push(json!({"file": name, "configs": findings.iter().map(Finding::json).collect::<Vec<_>>()}));
            }
            Err(failure) => {
                fine = false;
                let _ = writeln!(text, "{failure}");
                files.push(json!({"file": name, "error": failure}));
            }
        }
    }
    let verdict = if fine { Verdict::Fine } else { Verdict::Refused };
    Ok(Report { text, aside: String::new(), json: json!({"fine": fine, "files": files}), verdict })
}

fn examine(plugin: &Plugin, values: &Values, missing: Missing) -> Finding {
    let json: Value = serde_json::from_str(&plugin.json).unwrap_or_default();
    let environment = Environment::new(plugin.passed.as_ref(), values, missing, &json);
    let result = if plugin.form == Form::OtherType {
        let rule = "is no google.protobuf.StringValue: a Struct, or another type, reaches the plugin as protobuf, which it \
                    refuses; accepted is a StringValue with the JSON as its value";
        Err(vec![ConfigError { path: String::new(), rule: rule.into() }])
    } else if plugin.form == Form::Object && plugin.json.is_empty() {
        Err(vec![ConfigError {
            path: String::new(),
            rule: "is missing; accepted is an object with the configuration".into(),
        }])
    } else {
        Config::parse(plugin.json.as_bytes(), &|name| environment.value(name)).map_err(|errors| errors.0)
    };
    let mut warnings = result.as_ref().map(|config| plugin.surroundings.warnings(config)).unwrap_or_default();
    let mut notes = Vec::new();
    for (name, found) in environment.asked() {
        match found {
            VariableState::Value => {}
            VariableState::MadeUp => notes.push(format!("{name} is not set here: a made-up secret stands in for it")),
            VariableState::NoValue => notes.push(format!(
                "{name} is not set here: set it, name a file that has it with --env-file, or say --ignore-missing-env"
            )),
            VariableState::NotPassed => warnings.push(Warning {
                kind: "variable_not_passed",
                text: format!("the VM does not get {name}: name it in {}", plugin.variables_are_in()),
            }),
        }
    }
    let result = result.map(|config| Summary::of(&config, &json, plugin));
    Finding { place: plugin.label.clone(), result, warnings, notes }
}

impl Plugin {
    fn variables_are_in(&self) -> &'static str {
        match (self.form, self.place.starts_with("spec.wasm[")) {
            (Form::Object, true) => "env.hostKeys",
            (Form::Object, false) => "vmConfig.env",
            (Form::Json | Form::StringValue | Form::OtherType, _) => "environment_variables of vm_config",
        }
    }
}

impl Finding {
    fn write(&self, file: &str, text: &mut String) {
        let place = if self.place.is_empty() { String::new() } else { format!(": {}", self.place) };
        // Writing to a string cannot fail.
        let _ = match &self.result {
            Ok(_) => writeln!(text, "{file}{place}: accepted"),
            Err(errors) => {
                let s = if errors.len() == 1 { "" } else { "s" };
                writeln!(text, "{file}{place}: refused, {} error{s}", errors.len())
            }
        };
        match &self.result {
            Ok(summary) => summary.lines.iter().for_each(|(label, line)| {
                let _ = writeln!(text, "  {label:<9} {line}");
            }),
            Err(errors) => errors.iter().for_each(|error| {
                let _ = writeln!(text, "  {error}");
            }),
        }
        self.warnings.iter().for_each(|warning| {
            let _ = writeln!(text, "  warning: {}", warning.text);
        });
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "  note: {note}");
        });
    }

    fn json(&self) -> Value {
        let warnings = self.warnings.iter().map(|Warning { kind, text }| json!({"kind": kind, "text": text}));
        let mut json = json!({
            "place": self.place,
            "accepted": self.result.is_ok(),
            "warnings": warnings.collect::<Vec<_>>(),
            "notes": self.notes,
        });
        let (name, value) = match &self.result {
            Ok(summary) => ("summary", summary.json.clone()),
            Err(errors) => {
                let errors = errors.iter().map(|error| json!({"path": error.path, "rule": error.rule}));
                ("errors", errors.collect())
            }
        };
        json.as_object_mut().map(|json| json.insert(name.into(), value));
        json
    }
}

/// What a plugin would do.
struct Summary {
    lines: Vec<(&'static str, String)>,
    json: Value,
}

impl Summary {
    fn of(config: &Config, json: &Value, plugin: &Plugin) -> Self {
        // Whole, so that a new field is not forgotten here.
        let Config { shared, policy } = config;
        let Shared { keyring: _, scope, store, cache } = &**shared;
        let Policy { identify, encrypt, session, upstream, app, access_log, debug_header } = &**policy;
        let timeout = |seconds: Option<u32>| seconds.map_or("none".to_owned(), |seconds| time::span(seconds.into()));
        let (absolute, idle) = (timeout(session.absolute), timeout(session.idle));
        let keys = json["keys"].as_array().into_iter().flatten();
        let keys: Vec<&str> = keys.filter_map(|key| key["id"].as_str()).collect();
        let via = upstream.via.word();
        let failover = upstream.failover.word();
        let header = upstream.header.as_str();
        let version = version_of(&plugin.json, plugin.form);
        let mut lines: Vec<(&str, String)> = identify.iter().flat_map(way_lines).collect();
        lines.push(("tokens", if *encrypt { "encrypted and signed" } else { "signed, not encrypted" }.to_owned()));
        lines.extend([
            (
                "keys",
                match keys.as_slice() {
                    [] => String::new(),
                    [signs] => format!("{signs} signs and verifies"),
                    [signs, others @ ..] => format!("{signs} signs; {} verify too", others.join(", ")),
                },
            ),
            ("scope", scope.clone()),
            ("session", format!("absolute timeout {absolute}, idle timeout {idle}")),
            ("upstream", format!("{header}, for {via}; failover {failover}")),
            (
                "store",
                match store {
                    Some(store) => {
                        format!("the cluster {}, as {}", store.endpoint.cluster, store.endpoint.protocol.word())
                    }
                    None => "none: sessions live in their tokens alone".to_owned(),
                },
            ),
        ]);
        lines.extend(version.clone().map(|version| ("version", version)));
        let json = json!({
            "identify": identify.iter().map(|carrier| json!({"way": carrier.way().word(), "is": carrier.describe()}))
                .collect::<Vec<_>>(),
            "cookie": policy.cookie().map(cookie_json),
            "encrypted": encrypt,
            "keys": keys,
            "scope": scope,
            "session": {"absolute_timeout": session.absolute, "idle_timeout": session.idle,
                "clock_skew": session.clock_skew},
            "upstream": {"via": via, "header": header, "failover": failover},
            "store": store.as_ref().map(|store| json!({
                "protocol": store.endpoint.protocol.word(), "cluster": store.endpoint.cluster,
                "authority": store.endpoint.authority, "namespace": store.endpoint.namespace,
                "timeout_ms": millis(store.endpoint.timeout), "create": store.create.word(),
                "on_missing": store.on_missing.word(), "on_error": store.on_error.word(), "write": store.write.word(),
            })),
            "cache": {"entries": cache.entries, "ttl_ms": millis(cache.ttl)},
            "app": {"action_header": app_header(&app.action_header), "session_header": app_header(&app.session_header)},
            "access_log": access_log.word(),
            "debug_header": debug_header.as_ref().map(HeaderName::as_str),
            "version": version,
        });
        Self { lines, json }
    }
}

/// How clients carry their sessions, in words: of the cookie more than of others.
fn way_lines(carrier: &AnyCarrier) -> Vec<(&'static str, String)> {
    let AnyCarrier::Cookie(cookie) = carrier else { return vec![(carrier.way().word(), carrier.describe())] };
    let kept = if cookie.persistent { "kept as long as the session" } else { "kept until the browser is closed" };
    let seen = if cookie.forward { "seen" } else { "not seen" };
    vec![("cookie", cookie.set_cookie.issue("…", None)), ("", format!("{kept}; {seen} by the upstream"))]
}

fn cookie_json(cookie: &CookieCarrier) -> Value {
    let CookieCarrier { set_cookie, path, persistent, forward } = cookie;
    json!({"set_cookie": set_cookie.issue("…", None), "name": set_cookie.name(), "path": path, "persistent": persistent,
        "forwarded": forward})
}

/// The errors of a config, each on a line of its own.
pub(crate) fn listed(errors: &ConfigErrors) -> String {
    errors.0.iter().map(|error| format!("\n  {error}")).collect()
}

/// What `mooring_config` has as its version, where the plugin gets the JSON as it is: a controller of Kubernetes writes its own.
pub(crate) fn version_of(json: &str, form: Form) -> Option<String> {
    matches!(form, Form::Json | Form::StringValue).then(|| version(json.as_bytes()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `None`: it is switched off.
fn app_header(header: &AppHeader) -> Option<&str> {
    header.enabled.then(|| header.name.as_str())
}
