//! Rounds: every contestant in turn, one at a time, so that what the machine does meanwhile hits all of them alike.

use super::accounting::Cores;
use super::clients::CLIENTS;
use super::contestant::{Contestant, Measured};
use super::hosts::Hosts;
use std::path::{Path, PathBuf};

/// Of more clients than that, `clients.lua` draws at random.
pub const KEPT: usize = 100_000;

/// How long, how often, and where.
pub struct Course<'a> {
    pub rounds: usize,
    pub seconds: u64,
    pub cores: Cores,
    pub hosts: &'a Hosts,
    /// For the files with what clients send.
    pub folder: &'a Path,
}

/// What each round told, for each contestant, in the contestants' order.
pub type Results = Vec<Vec<Measured>>;

impl Course<'_> {
    /// Sees a contestant do what it should, and leaves it stopped.
    pub fn prepare(&self, contestant: &mut Contestant) {
        eprintln!("checking {}", contestant.name);
        contestant.pin(&self.cores);
        contestant.check(self.hosts);
        let clients = self.file(contestant);
        if contestant.clients.count <= KEPT {
            contestant.meet_all(&clients);
        } else {
            contestant.warm_up(&clients);
        }
        contestant.begin_to_count();
        contestant.warm_up(&clients);
        contestant.check_counters();
        contestant.pause();
    }

    /// What the clients of a contestant send. Tokens are renewed each time, or they would come to be renewed in a round; those
    /// that are too many for that must last as they are.
    fn file(&self, contestant: &Contestant) -> PathBuf {
        let path = self.folder.join(contestant.address());
        if contestant.clients.count <= CLIENTS || !path.exists() {
            contestant.clients.write(&path, self.hosts);
        }
        path
    }

    /// The rounds. Each begins with another contestant, and ends with all of them measured once.
    pub fn run(&self, contestants: &mut [Contestant]) -> Results {
        let mut results: Results = contestants.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            let first = round * contestants.len() / self.rounds;
            for turn in 0..contestants.len() {
                let at = (first + turn) % contestants.len();
                let contestant = &mut contestants[at];
                let clients = self.file(contestant);
                contestant.resume();
                contestant.warm_up(&clients);
                let measured = contestant.measure(&clients, self.seconds);
                contestant.pause();
                eprintln!("round {} of {}: {}: {:.1} µs", round + 1, self.rounds, contestant.name, measured.cost());
                results[at].push(measured);
            }
        }
        for contestant in contestants {
            contestant.resume();
            contestant.check_counters();
            contestant.pause();
        }
        results
    }
}
