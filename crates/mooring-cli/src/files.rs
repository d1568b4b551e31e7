//! Finds the plugin's configs in a file: the JSON itself, or within the YAML of Envoy, Istio or Envoy Gateway.

use crate::Failure;
use crate::environment::Passed;
use crate::surroundings::Surroundings;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// A config of the plugin, and where it is.
pub(crate) struct Plugin {
    /// What it is called: its place, with the number of its document in front where there are several, as in
    /// `2:spec.pluginConfig`.
    pub label: String,
    /// In which of a file's documents, from 1.
    pub document: usize,
    /// Where in it: `spec.pluginConfig`. Empty where the file is the config.
    pub place: String,
    pub form: Form,
    /// What the plugin gets, as far as it can be told.
    pub json: String,
    /// The variables that its VM gets. `None`: the file does not show them.
    pub passed: Option<Passed>,
    pub surroundings: Surroundings,
}

/// How a config is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The file is the JSON.
    Json,
    /// Envoy's `google.protobuf.StringValue`, which the plugin gets as it is.
    StringValue,
    /// Another type of Envoy's, which the plugin cannot read.
    OtherType,
    /// An object of Kubernetes, which its controller turns into JSON.
    Object,
}

/// A file, and the configs in it.
pub(crate) struct File {
    pub text: String,
    pub plugins: Vec<Plugin>,
}

/// YAML may begin with one, JSON may not.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file; `-` is stdin.
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        fs::read(path).map(|read| bytes = read)
    };
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

impl File {
    /// Reads a file, and finds the plugin's configs in it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = text_of(path)?;
        Self::find(text).map_err(|reason| format!("{}: {reason}", path.display()))
    }

    fn find(text: String) -> Result<Self, String> {
        let json = serde_json::from_str::<Value>(&text).ok();
        // What begins as JSON is a config with a mistake: its reader says which.
        let start = text.trim_start_matches(BYTE_ORDER_MARK).trim_start();
        if json.is_none() && (start.starts_with(['{', '[']) || start.is_empty()) {
            return Ok(Self { plugins: vec![Plugin::whole(Form::Json, &text)], text });
        }
        let is_json = json.is_some();
        let documents = json.map_or_else(|| documents_of(&text), |json| Ok(vec![json]))?;
        let mut plugins = Vec::new();
        for (document, value) in (1..).zip(&documents) {
            let mut search = Search { document, root: value, plugins: &mut plugins };
            search.look(value, &Place::default(), None);
        }
        // Or the document is the config itself.
        if let ([], [document]) = (plugins.as_slice(), documents.as_slice()) {
            if is_json && !is_known(document) {
                plugins.push(Plugin::whole(Form::Json, &text));
            } else if document.get("keys").is_some() {
                plugins.push(Plugin::whole(Form::Object, &document.to_string()));
            }
        }
        if plugins.is_empty() {
            return Err("has no configuration of Mooring: accepted is its JSON, or YAML with a Wasm filter of Envoy, a \
                        WasmPlugin, TrafficExtension or EnvoyFilter of Istio, or an EnvoyExtensionPolicy of Envoy Gateway"
                .to_owned());
        }
        for plugin in plugins.iter_mut().filter(|_| documents.len() > 1) {
            plugin.label = format!("{}:{}", plugin.document, plugin.place);
        }
        Ok(Self { text, plugins })
    }

    /// The one config that is meant: the only one, or the one at this place.
    pub(crate) fn plugin(&self, place: Option<&str>) -> Result<&Plugin, Failure> {
        let named = self.plugins.iter().filter(|plugin| place.is_none_or(|place| plugin.label == place));
        match named.collect::<Vec<_>>().as_slice() {
            [plugin] => Ok(plugin),
            [] => Err(format!("--place: no configuration is there, but at {}", self.places())),
            _ => Err(format!("there are several configurations: say which with --place, one of {}", self.places())),
        }
    }

    fn places(&self) -> String {
        self.plugins.iter().map(|plugin| plugin.label.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Plugin {
    /// One that is all of a file.
    fn whole(form: Form, json: &str) -> Self {
        Self {
            label: String::new(),
            document: 1,
            place: String::new(),
            form,
            json: json.to_owned(),
            passed: None,
            surroundings: Surroundings::default(),
        }
    }
}

/// Whether a document is something else that is known: Envoy's, or an object of Kubernetes.
fn is_known(document: &Value) -> bool {
    let members = ["apiVersion", "kind", "static_resources", "dynamic_resources", "resources", "configs", "admin"];
    members.iter().any(|name| document.get(name).is_some())
}

/// The documents of a YAML text.
pub(crate) fn documents_of(text: &str) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_norway::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        documents.push(as_json(value.map_err(|error| format!("is neither JSON nor YAML: {error}"))?));
    }
    Ok(documents)
}

fn as_json(value: serde_norway::Value) -> Value {
    use serde_norway::Value as Yaml;
    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
        Yaml::String(text) => text.into(),
        Yaml::Sequence(items) => items.into_iter().map(as_json).collect(),
        Yaml::Mapping(members) => {
            let name = |name| {
                let name = as_json(name);
                name.as_str().map_or_else(|| name.to_string(), str::to_owned)
            };
            Value::Object(members.into_iter().map(|(key, value)| (name(key), as_json(value))).collect())
        }
        Yaml::Tagged(tagged) => as_json(tagged.value),
    }
}

/// A place in a document.
#[derive(Clone, Default)]
struct Place(String);

impl Place {
    fn member(&self, name: &str) -> Self {
        Self(if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) })
    }

    fn item(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }
}

/// A member of a message of Envoy's, which may have either of two names.
pub(crate) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let camel = name.split('_').enumerate().map(|(at, word)| match (at, word.split_at_checked(1)) {
        (1.., Some((first, rest))) => format!("{}{rest}", first.to_ascii_uppercase()),
        _ => word.to_owned(),
    });
    value.get(name).or_else(|| value.get(camel.collect::<String>())).unwrap_or(&Value::Null)
}

/// Whether the type of a message ends with this.
pub(crate) fn is_type(value: &Value, name: &str) -> bool {
    value["@type"].as_str().is_some_and(|kind| kind.ends_with(name))
}

struct Search<'a> {
    document: usize,
    root: &'a Value,
    plugins: &'a mut Vec<Plugin>,
}

/// The filter chain that something is in: its connection manager, and the position there.
type Chain<'a> = (&'a Value, usize);

impl Search<'_> {
    fn look(&mut self, value: &Value, place: &Place, chain: Option<Chain<'_>>) {
        match value {
            Value::Object(members) => {
                if !self.kubernetes(value, place) && !self.envoy(value, place, chain) {
                    for (name, inner) in members {
                        let place = place.member(name);
                        let is_chain = ["http_filters", "httpFilters"].contains(&name.as_str());
                        if let Some(filters) = inner.as_array().filter(|_| is_chain) {
                            for (at, filter) in filters.iter().enumerate() {
                                self.look(filter, &place.item(at), Some((value, at)));
                            }
                        } else {
                            self.look(inner, &place, chain);
                        }
                    }
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| self.look(item, &place.item(at), chain));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Objects of Kubernetes whose controllers configure Wasm plugins. Whether this is one.
    fn kubernetes(&mut self, value: &Value, place: &Place) -> bool {
        let (spec, at) = (&value["spec"], place.member("spec"));
        match value["kind"].as_str() {
            Some("WasmPlugin") => self.istio(spec, &at, value),
            Some("TrafficExtension") => self.istio(&spec["wasm"], &at.member("wasm"), value),
            Some("EnvoyExtensionPolicy") => {
                for (number, plugin) in spec["wasm"].as_array().into_iter().flatten().enumerate() {
                    let names = [&plugin["name"], &plugin["rootID"], &plugin["code"]];
                    let from_host = strings(plugin.pointer("/env/hostKeys").unwrap_or(&Value::Null));
                    let passed = Passed { from_host, ..Passed::default() };
                    self.object(&plugin["config"], &at.member("wasm").item(number).member("config"), &names, passed);
                }
            }
            _ => return false,
        }
        true
    }

    fn istio(&mut self, plugin: &Value, place: &Place, object: &Value) {
        let mut passed = Passed::default();
        for variable in plugin.pointer("/vmConfig/env").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = variable["name"].as_str() else { continue };
            if variable["valueFrom"] == "HOST" {
                passed.from_host.insert(name.to_owned());
            } else {
                passed.given.insert(name.to_owned(), variable["value"].as_str().unwrap_or_default().to_owned());
            }
        }
        let names = [object.pointer("/metadata/name").unwrap_or(&Value::Null), &plugin["url"], &plugin["pluginName"]];
        self.object(&plugin["pluginConfig"], &place.member("pluginConfig"), &names, passed);
    }

    fn object(&mut self, config: &Value, place: &Place, names: &[&Value], passed: Passed) {
        if is_ours(names, config) {
            let json = if config.is_null() { String::new() } else { config.to_string() };
            self.add(place, Form::Object, json, Some(passed), Surroundings::default());
        }
    }

    /// Envoy's configuration of a Wasm plugin. Whether this is one, ours or not.
    fn envoy(&mut self, value: &Value, place: &Place, chain: Option<Chain<'_>>) -> bool {
        let (configuration, vm) = (member(value, "configuration"), member(value, "vm_config"));
        if !configuration.is_object() && !vm.is_object() {
            return false;
        }
        let (form, json, config) = match configuration["value"].as_str() {
            Some(json) if is_type(configuration, "google.protobuf.StringValue") => {
                (Form::StringValue, json.to_owned(), serde_json::from_str(json).unwrap_or_default())
            }
            // A plugin without a configuration gets none.
            _ if configuration.is_null() => (Form::StringValue, String::new(), Value::Null),
            _ => (Form::OtherType, configuration["value"].to_string(), configuration["value"].clone()),
        };
        let names = [&value["name"], member(value, "root_id"), member(vm, "vm_id"), member(vm, "code")];
        if is_ours(&names, &config) {
            let variables = member(vm, "environment_variables");
            let given = member(variables, "key_values").as_object().into_iter().flatten();
            let given = given.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
            let passed = Passed { given: given.collect(), from_host: strings(member(variables, "host_env_keys")) };
            let place = if form == Form::StringValue {
                place.member("configuration").member("value")
            } else {
                place.member("configuration")
            };
            let surroundings = Surroundings::of(self.root, chain);
            self.add(&place, form, json, vm.is_object().then_some(passed), surroundings);
        }
        true
    }

    fn add(&mut self, place: &Place, form: Form, json: String, passed: Option<Passed>, surroundings: Surroundings) {
        let (document, place) = (self.document, place.0.clone());
        self.plugins.push(Plugin { label: place.clone(), document, place, form, json, passed, surroundings });
    }
}

fn strings<T: FromIterator<String>>(value: &Value) -> T {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a Wasm plugin is Mooring: it is called so, or its configuration has keys.
fn is_ours(names: &[&Value], config: &Value) -> bool {
    let called = names.iter().any(|name| name.to_string().to_ascii_lowercase().contains("mooring"));
    called || config.as_object().is_some_and(|config: &Map<_, _>| config.get("keys").is_some_and(Value::is_array))
}
