//! `mooring schema`.

use crate::{Report, Verdict};
use clap::Args;
use mooring::config::schema::schema;

/// Prints the JSON Schema of the plugin's configuration, for editors.
#[derive(Args)]
pub(crate) struct SchemaOptions {}

pub(crate) fn run() -> Report {
    let json = schema();
    Report { text: format!("{json:#}\n"), aside: String::new(), json, verdict: Verdict::Fine }
}
