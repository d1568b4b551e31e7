//! The environment variables that a plugin will have: what the file gives or passes on, and where their values come from here.

use crate::Failure;
use clap::Args;
use mooring::config::secret_text;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// Where values come from.
#[derive(Args)]
pub(crate) struct Sources {
    /// A file with lines of NAME=VALUE, which go before the environment's
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

/// What a Wasm VM gets, as the file says.
#[derive(Clone, Default)]
pub(crate) struct Passed {
    /// With a value in the file.
    pub given: BTreeMap<String, String>,
    /// From the proxy's own environment.
    pub from_host: BTreeSet<String>,
}

/// Variables with their values here, from files and the environment.
pub(crate) struct Values(BTreeMap<String, Vec<u8>>);

impl Sources {
    pub(crate) fn read(&self) -> Result<Values, Failure> {
        let mut values = BTreeMap::new();
        for path in &self.env_file {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("--env-file: cannot read {}: {error}", path.display()))?;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                let line = line.strip_prefix("export ").unwrap_or(line);
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (name, value) = line.split_once('=').ok_or_else(|| {
                    format!("--env-file: {}, line {number} is not of the form NAME=VALUE", path.display())
                })?;
                values.insert(name.trim().to_owned(), unquoted(value.trim()).as_bytes().to_vec());
            }
        }
        Ok(Values(values))
    }
}

fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

impl Values {
    /// No values but the environment's.
    pub(crate) fn of_environment() -> Self {
        Self(BTreeMap::new())
    }

    fn get(&self, name: &str) -> Option<Vec<u8>> {
        // A name with a zero or `=` is none that the environment could have.
        let plain = !name.is_empty() && !name.contains(['\0', '=']);
        self.0.get(name).cloned().or_else(|| plain.then(|| std::env::var_os(name))?.map(OsString::into_encoded_bytes))
    }
}

/// A plugin's environment, and what became of the variables that it asked for.
pub(crate) struct Environment<'a> {
    /// `None`: the file does not show it.
    passed: Option<&'a Passed>,
    values: &'a Values,
    missing: Missing,
    /// The variable with the token of the store.
    token: Option<&'a str>,
    asked: RefCell<BTreeMap<String, VariableState>>,
}

/// What becomes of a variable that has no value here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Refused,
    /// It gets a value made up for the occasion.
    MadeUp,
}

/// What became of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariableState {
    Value,
    MadeUp,
    /// The VM gets it, and here it has no value.
    NoValue,
    /// The VM does not get it.
    NotPassed,
}

impl<'a> Environment<'a> {
    /// For the plugin with this configuration.
    pub(crate) fn new(passed: Option<&'a Passed>, values: &'a Values, missing: Missing, config: &'a Value) -> Self {
        let token = config.pointer("/store/token/env").and_then(Value::as_str);
        Self { passed, values, missing, token, asked: RefCell::default() }
    }

    /// The value of a variable, as the plugin will ask for it.
    pub(crate) fn value(&self, name: &str) -> Option<Vec<u8>> {
        let given = self.passed.and_then(|passed| passed.given.get(name));
        let (found, value) = if let Some(given) = given {
            (VariableState::Value, Some(given.clone().into_bytes()))
        } else if self.passed.is_some_and(|passed| !passed.from_host.contains(name)) {
            (VariableState::NotPassed, None)
        } else {
            match (self.values.get(name), self.missing) {
                (Some(value), _) => (VariableState::Value, Some(value)),
                (None, Missing::MadeUp) => (VariableState::MadeUp, Some(self.made_up(name))),
                (None, Missing::Refused) => (VariableState::NoValue, None),
            }
        };
        self.asked.borrow_mut().insert(name.to_owned(), found);
        value
    }

    /// A secret of 32 bytes, another for each name, since no two keys may have one; or a token that any store takes.
    fn made_up(&self, name: &str) -> Vec<u8> {
        if self.token == Some(name) {
            return b"made:up".to_vec();
        }
        secret_text(&Sha256::digest(name.as_bytes())).into_bytes()
    }

    /// The variables that were asked for.
    pub(crate) fn asked(&self) -> BTreeMap<String, VariableState> {
        self.asked.borrow().clone()
    }
}
