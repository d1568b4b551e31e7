//! The rules of `keys`.

use super::Environment;
use super::reader::Object;
use crate::credential::keyring::{Key, KeyId, Keyring, MAX_KEYS, MAX_SECRET, MIN_SECRET, Secret};
use crate::text::base64;

/// Keys that kept every rule, not yet derived for a scope.
pub(super) struct Keys(Vec<(KeyId, Secret)>);

impl Keys {
    /// The keyring for `scope`: the first key signs. `None` without keys, or when the scope is too long.
    pub(super) fn derive(&self, scope: &str) -> Option<Keyring> {
        let mut keys = Vec::with_capacity(self.0.len());
        for (id, secret) in &self.0 {
            keys.push(Key::derive(id.clone(), secret, scope)?);
        }
        let mut keys = keys.into_iter();
        Some(Keyring::new(keys.next()?, keys.collect()))
    }
}

pub(super) fn read(config: &Object<'_>, environment: Environment<'_>) -> Option<Keys> {
    let items = config.required("keys", "an array of keys")?.items(1..=MAX_KEYS, "keys")?;
    let mut keys: Vec<(KeyId, Secret)> = Vec::new();
    let mut ids: Vec<KeyId> = Vec::new();
    for item in items {
        let Some(key) = item.object(&["id", "secret"]) else { continue };
        let id = read_id(&key, &ids);
        let secret = read_secret(&key, environment);
        ids.extend(id.clone());
        if let Some(secret) = &secret
            && keys.iter().any(|(_, known)| known == secret)
        {
            item.error::<()>("has the secret of an earlier key; accepted is a secret of its own");
        }
        keys.extend(id.zip(secret));
    }
    Some(Keys(keys))
}

fn read_id(key: &Object<'_>, earlier: &[KeyId]) -> Option<KeyId> {
    let accepted = "1 to 32 characters of A-Z a-z 0-9 _ -";
    let field = key.required("id", accepted)?;
    let Some(id) = KeyId::new(field.string(accepted)?) else {
        return field.error(format!("is not a key id; accepted is {accepted}"));
    };
    if earlier.contains(&id) {
        field.error::<()>("is the id of an earlier key; accepted is an id of its own");
    }
    Some(id)
}

/// Standard and URL-safe base64, with padding or without, white space around it: as `openssl rand -base64 32` or a mounted file gives it.
fn read_secret(key: &Object<'_>, environment: Environment<'_>) -> Option<Secret> {
    let field = key.required("secret", "{\"env\": \"NAME\"} or {\"base64\": \"…\"}")?;
    let (field, text) = field.source("base64", "base64", environment)?;
    let Some(bytes) = base64::from_any(text.trim_ascii()) else {
        return field.error("is not base64; accepted is base64 of the secret");
    };
    let length = bytes.len();
    Secret::new(bytes).or_else(|| {
        field.error(format!("has {length} bytes once decoded; accepted are {MIN_SECRET} to {MAX_SECRET} bytes"))
    })
}
