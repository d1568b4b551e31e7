//! What the system knows of processes: the processor time that they took, their memory, and the core that they run on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use std::time::Duration;

/// Two cores: one for the proxy, one for whatever loads it.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    proxy: Option<usize>,
    load: Option<usize>,
}

impl Cores {
    /// The first two that this process may use. Keeps this process, and all that it starts from now on, to the second.
    pub fn share_out() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| CpuSet::new());
        let mut allowed = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or_default());
        let (Some(proxy), Some(load)) = (allowed.next(), allowed.next()) else {
            eprintln!("one core only: proxies, load and hosts share it, and nothing is pinned");
            return Self { proxy: None, load: None };
        };
        if let Err(error) = pin(std::process::id(), load) {
            eprintln!("this system lets nobody choose a core ({error}): nothing is pinned");
            return Self { proxy: None, load: None };
        }
        Self { proxy: Some(proxy), load: Some(load) }
    }

    /// Keeps processes that run already to the proxy's core.
    pub fn give_to_proxy(&self, processes: &[u32]) {
        if let Some(core) = self.proxy {
            processes.iter().for_each(|&process| pin(process, core).expect("a process on the proxy's core"));
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match (self.proxy, self.load) {
            (Some(proxy), Some(load)) => format!("proxy on core {proxy}, load and hosts on core {load}"),
            _ => "nothing pinned".to_owned(),
        }
    }
}

/// Every thread of the process, and those that they start.
fn pin(process: u32, core: usize) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process").flatten();
    let threads = threads.filter_map(|thread| thread.file_name().to_string_lossy().parse().ok());
    threads.map(Pid::from_raw).try_for_each(|thread| sched_setaffinity(thread, &cores))
}

/// The processor time that all threads of these processes took so far, ended ones included.
pub fn cpu_time(processes: &[u32]) -> Duration {
    let of = |&process: &u32| {
        let clock = ClockId::pid_cpu_clock_id(pid(process)).expect("a process");
        Duration::from(clock.now().expect("its clock"))
    };
    processes.iter().map(of).sum()
}

/// What of these processes is in memory, in bytes.
pub fn resident(processes: &[u32]) -> u64 {
    processes.iter().map(|&process| mooring_test_kit::memory::resident(process)).sum()
}

/// Stops processes, so that their timers disturb no other's round.
pub fn pause(processes: &[u32]) {
    signal(processes, Signal::SIGSTOP);
}

pub fn resume(processes: &[u32]) {
    signal(processes, Signal::SIGCONT);
}

/// Ends processes, stopped or not. Those that are gone already are none's concern.
pub fn end(processes: &[u32]) {
    for &process in processes {
        let _ = kill(pid(process), Signal::SIGKILL);
    }
}

fn signal(processes: &[u32], signal: Signal) {
    processes.iter().for_each(|&process| kill(pid(process), signal).expect("a process"));
}

/// A process and those that it started.
pub fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    for other in all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok()) {
        let stat = std::fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(process) {
            family.push(other);
        }
    }
    family
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.try_into().expect("a process id"))
}
