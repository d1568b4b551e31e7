//! `mooring completions`.

use crate::{Report, Verdict};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

/// Prints what a shell needs to complete this command's arguments.
#[derive(Args)]
pub(crate) struct CompletionsOptions {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(options: &CompletionsOptions) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut crate::CommandLine::command(), "mooring", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Report { json: json!({"completions": text}), text, aside: String::new(), verdict: Verdict::Fine }
}
