//! `mooring`, the command line: checks configs, makes and rotates keys, and looks into cookies (`docs/cli.md`).
//!
//! `files` finds the plugin's configs in a file, `surroundings` looks at what is around them there, `environment` knows the
//! variables; each command has a module of its own. What reads configs and tokens is the library, as it is in the plugin.
#![warn(unreachable_pub)]

mod check;
mod completions;
mod environment;
mod files;
mod inspect;
mod keygen;
mod keys;
mod rotate;
mod schema;
mod surroundings;
mod time;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::process::ExitCode;

const AFTER_HELP: &str = "\
Secrets are no arguments: they come from the environment and from files.

Exit codes: 0 when all is well; 1 when something is refused, or cannot be read or written; 2 when the command line is wrong.";

/// Checks configurations of Mooring, makes and rotates its keys, and looks into its cookies.
#[derive(Parser)]
#[command(name = "mooring", version, after_help = AFTER_HELP, max_term_width = 120, arg_required_else_help = true)]
struct CommandLine {
    /// Answer with one JSON object on stdout
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckOptions),
    Keygen(keygen::KeygenOptions),
    Rotate(rotate::RotateOptions),
    Inspect(inspect::InspectOptions),
    Schema(schema::SchemaOptions),
    Completions(completions::CompletionsOptions),
}

/// What a command has to say.
struct Report {
    /// For people, or the next command in a pipe.
    text: String,
    /// What people should know beside it; goes to stderr.
    aside: String,
    /// All of it for programs.
    json: Value,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Refused,
}

/// Why a command could not do what it is for: one line that says what to do.
type Failure = String;

fn main() -> ExitCode {
    let CommandLine { json, command } = CommandLine::parse();
    let said = match command {
        Command::Check(options) => check::run(&options),
        Command::Keygen(options) => keygen::run(&options),
        Command::Rotate(options) => rotate::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Schema(_) => Ok(schema::run()),
        Command::Completions(options) => Ok(completions::run(&options)),
    };
    let fine = matches!(&said, Ok(said) if said.verdict == Verdict::Fine);
    let (text, aside) = match (said, json) {
        (Ok(said), true) => (format!("{:#}\n", said.json), String::new()),
        (Ok(said), false) => (said.text, said.aside),
        (Err(failure), true) => (format!("{:#}\n", json!({"error": failure})), String::new()),
        (Err(failure), false) => (String::new(), format!("mooring: {failure}\n")),
    };
    let printed = print(&text);
    warn(&aside);
    if let Err(error) = &printed {
        warn(&format!("mooring: cannot write to stdout: {error}\n"));
    }
    if fine && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Who reads it may have read enough: that is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Where this cannot be said, nothing can.
fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
