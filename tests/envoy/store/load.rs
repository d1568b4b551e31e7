//! Many requests at once, through every proxy of a fleet.

use mooring_test_kit::fleet::Fleet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Clients whose sessions have homes.
pub struct Load {
    /// `name=value` of the cookie, and the host.
    sessions: Vec<(String, String)>,
    urls: Vec<String>,
}

/// What went wrong.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: usize,
    pub failed: Vec<String>,
    pub misplaced: usize,
}

impl Outcome {
    pub fn assert_flawless(&self) {
        let shown = &self.failed[..self.failed.len().min(5)];
        assert!(self.failed.is_empty(), "{} of {} failed: {shown:?}", self.failed.len(), self.requests);
        assert_eq!(self.misplaced, 0, "of {} requests", self.requests);
    }
}

impl Load {
    /// So many sessions, which have come back to each proxy.
    pub fn of(fleet: &mut Fleet, sessions: usize) -> Self {
        let sessions = (0..sessions).map(|at| {
            let (browser, home) = fleet.browser(at % 2);
            (format!("m={}", browser.cookie().expect("a cookie")), home)
        });
        let sessions = sessions.collect();
        Self { sessions, urls: fleet.iter_mut().map(|proxy| proxy.url("/")).collect() }
    }

    /// These sessions, `name=value` of the cookie and the host, at these URLs.
    pub fn with(sessions: Vec<(String, String)>, urls: Vec<String>) -> Self {
        Self { sessions, urls }
    }

    /// Sends so many requests over so many connections. `meanwhile` learns how many were answered until all are.
    pub fn run(&self, requests: usize, connections: usize, mut meanwhile: impl FnMut(usize)) -> Outcome {
        let runtime = Runtime::new().expect("a runtime");
        let next = Arc::new(AtomicUsize::new(0));
        let answered = Arc::new(AtomicUsize::new(0));
        let outcome = Arc::new(Mutex::new(Outcome { requests, ..Outcome::default() }));
        let tasks: Vec<_> = (0..connections)
            .map(|_| {
                let (next, answered, outcome) = (Arc::clone(&next), Arc::clone(&answered), Arc::clone(&outcome));
                let (sessions, urls) = (self.sessions.clone(), self.urls.clone());
                runtime.spawn(async move {
                    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20));
                    let client = client.build().expect("a client");
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= requests {
                            return;
                        }
                        let (cookie, home) = &sessions[at % sessions.len()];
                        let url = &urls[at / sessions.len() % urls.len()];
                        let response = client.get(url).header("cookie", cookie).send().await;
                        let mut outcome = outcome.lock().expect("a lock");
                        match response {
                            Ok(response) if response.status() == 200 => {
                                let host = response.headers().get("x-served-by");
                                outcome.misplaced += usize::from(host.is_none_or(|host| host != home.as_str()));
                            }
                            Ok(response) => outcome.failed.push(response.status().to_string()),
                            Err(error) => outcome.failed.push(format!("{error:?}")),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            meanwhile(answered.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(2));
        }
        runtime.block_on(async {
            for task in tasks {
                task.await.expect("a client");
            }
        });
        std::mem::take(&mut *outcome.lock().expect("a lock"))
    }
}
