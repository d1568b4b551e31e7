//! How long processes run, as `/proc` tells (Linux).

use std::fs::read_to_string;

/// For how many hundredths of a second a process has run so far.
pub fn processor_time(pid: u32) -> u64 {
    let stat = read_to_string(format!("/proc/{pid}/stat")).expect("the process's stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let field = |at| fields.split(' ').nth(at).and_then(|text: &str| text.parse::<u64>().ok()).expect("a number");
    field(11) + field(12)
}
