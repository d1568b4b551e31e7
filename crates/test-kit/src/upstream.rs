//! The hosts behind Envoy: `examples/upstream`, in this process, each in a runtime of its own, so that one can die.

use crate::world::HostState;
use reqwest::blocking::Client;
use std::net::{SocketAddr, TcpListener};
use tokio::runtime::{Builder, Runtime};

/// An upstream host.
pub struct Upstream {
    /// What it calls itself.
    pub name: &'static str,
    /// Where it listens, for instance `127.0.0.1:40123`.
    pub address: String,
    runtime: Option<Runtime>,
}

impl Upstream {
    /// Starts a host that listens on `address`; port 0 takes a free one.
    pub fn start(name: &'static str, address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        Self { name, address, runtime: Some(serve(name, listener)) }
    }

    /// Lets it be healthy, fail its health check, or die with all its connections.
    pub fn set(&mut self, state: HostState) {
        if state == HostState::Dead {
            if let Some(runtime) = self.runtime.take() {
                runtime.shutdown_background();
            }
            let address: SocketAddr = self.address.parse().expect("an address");
            crate::rig::eventually("the host to be gone", || std::net::TcpStream::connect(address).err());
            return;
        }
        if self.runtime.is_none() {
            let listener = TcpListener::bind(&self.address).expect("its old port");
            self.runtime = Some(serve(self.name, listener));
        }
        self.control(if state == HostState::Healthy { "health/pass" } else { "health/fail" });
    }

    /// Posts to one of the host's controls.
    pub fn control(&self, what: &str) {
        let client = Client::builder().no_proxy().build().expect("a client");
        let done = client.post(format!("http://{}/control/{what}", self.address)).send().expect("the host");
        assert!(done.status().is_success());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn serve(name: &str, listener: TcpListener) -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    listener.set_nonblocking(true).expect("a listener");
    let name = name.to_owned();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        upstream::server::serve(listener, name, |_| axum::Router::new(), std::future::pending()).await
    });
    runtime
}
