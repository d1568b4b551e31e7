//! `mooring schema`.

use crate::{Said, Verdict};
use clap::Args;
use mooring::config::schema::schema;

/// Prints the JSON Schema of the plugin's configuration, for editors.
#[derive(Args)]
pub struct Options {}

pub fn run() -> Said {
    let json = schema();
    Said { text: format!("{json:#}\n"), aside: String::new(), json, verdict: Verdict::Fine }
}
