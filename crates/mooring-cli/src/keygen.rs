//! `mooring keygen`.

use crate::keys::{key_id, variable_for};
use crate::{Failure, Report, Verdict, time};
use clap::Args;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Makes a new secret: 32 random bytes, as base64.
#[derive(Args)]
pub(crate) struct KeygenOptions {
    /// The id that its key will have. Default: this month, as in 2026-11
    #[arg(long, value_name = "ID", value_parser = key_id)]
    id: Option<String>,

    /// Write the secret into this file, which only its owner can read, and not to stdout. A file that exists is left alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(options: &KeygenOptions) -> Result<Report, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    let secret = mooring::config::secret_text(&bytes);
    let id = options.id.clone().unwrap_or_else(|| time::written(time::now()).chars().take("2026-11".len()).collect());
    let variable = variable_for(&id);
    let entry = json!({"id": id, "secret": {"env": variable}});
    let mut json = json!({"id": id, "variable": variable, "key": entry});
    let told = match &options.out {
        Some(path) => {
            write_new(path, &secret).map_err(|error| format!("--out: cannot write {}: {error}", path.display()))?;
            json.as_object_mut().map(|json| json.insert("file".into(), path.display().to_string().into()));
            format!("The secret is in {}. ", path.display())
        }
        None => {
            json.as_object_mut().map(|json| json.insert("secret".into(), secret.clone().into()));
            String::new()
        }
    };
    let aside = format!(
        "{told}Give it to every proxy in the environment variable {variable}, and name that in the configuration:\n  {}\n",
        crate::keys::written(&id, &variable),
    );
    let text = if options.out.is_some() { String::new() } else { format!("{secret}\n") };
    Ok(Report { text, aside, json, verdict: Verdict::Fine })
}

fn write_new(path: &PathBuf, secret: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{secret}\n").as_bytes())
}
