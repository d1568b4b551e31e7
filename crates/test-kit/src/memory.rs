//! What the plugin's VMs and Envoy itself take, read from outside.

use crate::rig::Envoy;
use serde_json::Value;

/// A page of a Wasm memory, in bytes.
pub const PAGE: u64 = 65_536;

/// What V8 reserves behind the used part of each Wasm memory, at the least.
const RESERVATION: u64 = 4 << 30;

/// The size of each Wasm memory of a process, in bytes, in the order of its addresses: one for each worker, and two of the main
/// thread's. Empty where the system does not tell, which Linux does.
///
/// V8 reserves 8 GiB of addresses for a memory and makes as many of them usable as the memory is long: a readable part, and
/// right behind it an enormous one that is not.
pub fn wasm_memories(pid: u32) -> Vec<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let regions: Vec<(u64, u64, &str)> = maps.lines().filter_map(region).collect();
    let is_memory = |pair: &[(u64, u64, &str)]| {
        let [(_, end, usable), (reserved, reserved_end, unusable)] = *pair else { return None };
        let reserved = (reserved == end && unusable == "---p").then_some(reserved_end.checked_sub(reserved)?)?;
        (usable == "rw-p" && reserved >= RESERVATION).then(|| pair[0].1 - pair[0].0)
    };
    let memories: Vec<u64> = regions.windows(2).filter_map(is_memory).collect();
    if memories.is_empty() {
        untold("how long a Wasm memory is");
    }
    memories
}

/// What of a process is in memory, in bytes. 0 where the system does not tell, which Linux does.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or_else(
        || {
            untold("what of a process is in memory");
            0
        },
        |kib: u64| kib * 1024,
    )
}

fn untold(what: &str) {
    assert_ne!(std::env::consts::OS, "linux", "Linux tells {what}");
    eprintln!("this system does not tell {what}: not checked");
}

/// Start, end and permissions.
fn region(line: &str) -> Option<(u64, u64, &str)> {
    let mut fields = line.split(' ');
    let (start, end) = fields.next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, fields.next()?))
}

/// What a process takes at one moment, in bytes.
#[derive(Clone, Debug)]
pub struct Footprint {
    /// Of each Wasm memory. Empty where the system does not say.
    pub wasm: Vec<u64>,
    /// What Envoy has allocated, by its own count.
    pub allocated: u64,
    /// What is in memory. 0 where the system does not say.
    pub resident: u64,
}

impl Footprint {
    /// Of this Envoy, now.
    pub fn of(envoy: &Envoy) -> Self {
        let told: Value = serde_json::from_str(&envoy.admin("/memory").expect("Envoy")).expect("JSON");
        let allocated = told["allocated"].as_str().and_then(|bytes| bytes.parse().ok()).expect("a number");
        Self { wasm: wasm_memories(envoy.pid()), allocated, resident: resident(envoy.pid()) }
    }

    /// No VM has grown by more than a page since `before`, and Envoy by no more than so many hundredths.
    pub fn assert_flat_since(&self, before: &Self, percent: u64) {
        assert_eq!(self.wasm.len(), before.wasm.len(), "VMs came or went: {before:?}, then {self:?}");
        let grown = self.wasm.iter().zip(&before.wasm).any(|(now, then)| *now > then + PAGE);
        assert!(!grown, "the plugin's memory grows: {before:?}, then {self:?}");
        let bounded = |now: u64, then: u64| now * 100 <= then * (100 + percent);
        let flat = bounded(self.allocated, before.allocated) && bounded(self.resident, before.resident);
        assert!(flat, "Envoy grows: {before:?}, then {self:?}");
    }
}
