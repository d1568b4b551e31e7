//! `mooring completions`.

use crate::{Said, Verdict};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

/// Prints what a shell needs to complete this command's arguments.
#[derive(Args)]
pub struct Options {
    /// Which shell
    shell: Shell,
}

pub fn run(options: &Options) -> Said {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut crate::Options::command(), "mooring", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Said { json: json!({"completions": text}), text, aside: String::new(), verdict: Verdict::Fine }
}
