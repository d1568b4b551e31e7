//! A client that keeps cookies as RFC 6265 says, as far as one site needs it.

use crate::world::{Request, Response, World};

/// A client that keeps cookies.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Names and values.
    pub cookies: Vec<(String, String)>,
}

impl Browser {
    /// A browser that holds the affinity cookie `value`.
    pub fn holding(value: &str) -> Self {
        Self { cookies: vec![("m".into(), value.into())] }
    }

    /// A GET with its cookies; it keeps those that come back.
    pub fn get(&mut self, world: &mut impl World, path: &str) -> Response {
        self.send(world, Request::get(path))
    }

    /// As [`Self::get`], for any request.
    pub fn send(&mut self, world: &mut impl World, mut request: Request) -> Response {
        if let Some(line) = self.line() {
            request = request.header("cookie", line);
        }
        let response = world.send(&request);
        response.header("set-cookie").iter().for_each(|line| self.take(line));
        response
    }

    /// The `Cookie` line, where there are cookies.
    pub fn line(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(pairs.join("; ")).filter(|line| !line.is_empty())
    }

    /// Does what a `Set-Cookie` line says.
    pub fn take(&mut self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        self.cookies.retain(|(known, _)| known != name);
        if !attributes.split(';').any(|attribute| attribute.trim() == "Max-Age=0") {
            self.cookies.push((name.into(), value.into()));
        }
    }

    /// The affinity cookie's value.
    pub fn cookie(&self) -> Option<&str> {
        self.cookies.iter().find(|(name, _)| name == "m").map(|(_, value)| value.as_str())
    }
}
