//! `mooring rotate`: a key is added, promoted and retired, each as a configuration of its own, for every proxy to have before
//! the next.

use crate::check::{listed, version_of};
use crate::environment::{Environment, Missing, Values};
use crate::files::{File, Form, Plugin, documents_of};
use crate::keys::{Keys, key_id, variable_for};
use crate::{Failure, Report, Verdict, time};
use clap::{Args, Subcommand};
use mooring::config::Config;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Changes the key, in three steps that lose no session.
///
/// add puts a new key behind the others, promote puts it first, retire removes an old one. Each step prints the next
/// configuration, and says what to wait for before the step after it. Nothing but the keys changes.
#[derive(Args)]
pub(crate) struct RotateOptions {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Step 1: a new key that verifies and does not sign yet
    Add {
        /// What the key is called
        #[arg(long, value_name = "ID", value_parser = key_id)]
        id: String,

        /// The environment variable with its secret. Default: MOORING_KEY_ and the id, as in MOORING_KEY_2026_12
        #[arg(long, value_name = "NAME")]
        env: Option<String>,

        #[command(flatten)]
        target: Target,
    },
    /// Step 2: the key signs from now on
    Promote {
        /// Which key
        id: String,

        #[command(flatten)]
        target: Target,
    },
    /// Step 3: the key is gone
    Retire {
        /// Which key: not the one that signs
        id: String,

        #[command(flatten)]
        target: Target,
    },
}

#[derive(Args)]
struct Target {
    /// The configuration: JSON, or YAML with it; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Which configuration of the file, if it has several: a place, as `mooring check` names it
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,

    /// Write the file, instead of stdout
    #[arg(long)]
    in_place: bool,
}

pub(crate) fn run(options: &RotateOptions) -> Result<Report, Failure> {
    let (Step::Add { target, .. } | Step::Promote { target, .. } | Step::Retire { target, .. }) = &options.step;
    let file = File::read(&target.file)?;
    let plugin = file.plugin(target.place.as_deref())?;
    let name = target.file.display();
    let before = accepted(plugin, &plugin.json).map_err(|errors| format!("{name} is refused:{errors}"))?;
    let keys = Keys::find(&plugin.json).ok_or_else(|| format!("{name}: its keys cannot be found"))?;
    let json = options.step.apply(&keys)?;
    let after = accepted(plugin, &json).map_err(|errors| format!("that would be refused:{errors}"))?;

    let ids = Keys::find(&json).map(|keys| keys.ids().into_iter().map(str::to_owned).collect::<Vec<_>>());
    let ids = ids.unwrap_or_default();
    let written = match plugin.form {
        Form::Json => Written::File(json.clone()),
        Form::StringValue => within(&file, plugin, &json)
            .map_or_else(|| Written::Part("The value of its configuration is to be", json.clone()), Written::File),
        Form::OtherType | Form::Object => Written::Part("Its keys are to be", yaml_of(&json)),
    };
    let version = version_of(&json, plugin.form);
    let next = options.step.next(target, &keys, &after, before.shared.store.is_some(), version.as_deref());
    let mut text = String::new();
    let mut aside = String::new();
    match (&written, target.in_place) {
        (Written::File(content), true) => {
            replace(&target.file, content).map_err(|error| format!("--in-place: cannot write {name}: {error}"))?;
            aside = format!("{name} is written.\n");
        }
        (Written::Part(..), true) => {
            return Err(format!(
                "--in-place: {name} is left alone, because the JSON is no block (value: |) there: without --in-place the part \
                 that changes is printed"
            ));
        }
        (Written::File(content), false) => text.clone_from(content),
        (Written::Part(what, part), false) => {
            let at = if plugin.label.is_empty() { String::new() } else { format!(", at {}", plugin.label) };
            aside = format!("{what}{at}:\n");
            text = format!("{}\n", part.trim_end());
        }
    }
    aside.push_str(&next);
    aside.push('\n');
    let json = json!({
        "keys": ids,
        "version": version,
        // Not what was written to a file: there may be secrets in it.
        "output": Some(&text).filter(|_| !target.in_place),
        "written": target.in_place,
        "next": next,
    });
    Ok(Report { text, aside, json, verdict: Verdict::Fine })
}

/// What is printed or written.
enum Written {
    /// All of the file.
    File(String),
    /// What it is, and a part of the file.
    Part(&'static str, String),
}

/// As the plugin reads it. No secret is needed: one is made up for each variable that is not set here.
fn accepted(plugin: &Plugin, json: &str) -> Result<Config, String> {
    if plugin.form == Form::OtherType {
        return Err(" it is no google.protobuf.StringValue. mooring check says more".to_owned());
    }
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    let values = Values::of_environment();
    let environment = Environment::new(None, &values, Missing::MadeUp, &value);
    Config::parse(json.as_bytes(), &|name| environment.value(name)).map_err(|errors| listed(&errors))
}

impl Step {
    /// The next configuration.
    fn apply(&self, keys: &Keys<'_>) -> Result<String, Failure> {
        let ids = keys.ids();
        let position = |id: &str| {
            ids.iter()
                .position(|known| *known == id)
                .ok_or_else(|| format!("there is no key {id}, but {}", ids.join(", ")))
        };
        let changed = match self {
            Self::Add { id, .. } if ids.contains(&id.as_str()) => {
                return Err(format!("there is a key {id} already: a new key has an id of its own"));
            }
            Self::Add { id, env, .. } => keys.added(id, &env.clone().unwrap_or_else(|| variable_for(id))),
            Self::Promote { id, .. } => match position(id)? {
                0 => return Err(format!("{id} is the first key already, the one that signs")),
                position => keys.promoted(position),
            },
            Self::Retire { id, .. } => match position(id)? {
                0 if ids.len() == 1 => return Err(format!("{id} is the only key: add another first")),
                0 => return Err(format!("{id} is the key that signs: promote another first")),
                position => keys.retired(position),
            },
        };
        changed.ok_or_else(|| "the keys cannot be changed".to_owned())
    }

    /// What to do, to watch and to wait for.
    fn next(&self, target: &Target, keys: &Keys<'_>, config: &Config, store: bool, version: Option<&str>) -> String {
        let file = match &target.place {
            Some(place) => format!("--place '{place}' {}", target.file.display()),
            None => target.file.display().to_string(),
        };
        let rolled_out = match version {
            Some(version) => {
                format!("when every proxy has it (mooring_config{{version=\"{version}\"}}, and no other version)")
            }
            None => "when every proxy has it (mooring_config has one version, and that is new)".to_owned(),
        };
        match self {
            Self::Add { id, env, .. } => {
                let variable = env.clone().unwrap_or_else(|| variable_for(id));
                format!(
                    "Step 1 of 3: {id} verifies, and does not sign yet.\n\
                     Every proxy needs the variable {variable} first (mooring keygen --id {id} makes a secret), and its VM as well.\n\
                     Next, {rolled_out}:\n  mooring rotate promote {id} {file}"
                )
            }
            Self::Promote { id, .. } => {
                let old = keys.ids().first().map(|old| (*old).to_owned()).unwrap_or_default();
                format!(
                    "Step 2 of 3: {id} signs, and a session gets a new token at its next response.\n\
                     Next, {rolled_out},\n{}:\n  mooring rotate retire {old} {file}",
                    wait(config, store, &old)
                )
            }
            Self::Retire { id, .. } => {
                format!("Step 3 of 3: {id} is gone, and its tokens are refused.\nIts variable can go {rolled_out}.")
            }
        }
    }
}

/// How long an old key is kept: until no valid token of it is left, and with a store, no value either.
fn wait(config: &Config, store: bool, old: &str) -> String {
    let span = |seconds: u32| time::span(seconds.into());
    let unused = format!("and mooring_tokens_accepted{{key=\"{old}\"}} has not risen");
    match (store, config.policy.session.idle, config.policy.session.absolute) {
        (true, _, Some(absolute)) => format!(
            "{unused}, and {} have passed (values in the store are signed with it too)",
            span(absolute.saturating_add(120))
        ),
        (_, Some(idle), _) => format!("{unused} for {}", span(idle)),
        (_, None, Some(absolute)) => format!("{unused} for {}", span(absolute)),
        (_, None, None) => format!("{unused} for as long as clients may stay away, since sessions have no timeout"),
    }
}

/// The keys as YAML: JSON on lines of their own, which needs no quotes beyond its own.
fn yaml_of(json: &str) -> String {
    let config: Value = serde_json::from_str(json).unwrap_or_default();
    let keys = config.get("keys").and_then(Value::as_array).into_iter().flatten().map(|key| format!("- {key}\n"));
    format!("keys:\n{}", keys.collect::<String>())
}

/// The file with `json` in place of the plugin's, where that stands in a block of its own (`value: |`).
fn within(file: &File, plugin: &Plugin, json: &str) -> Option<String> {
    let lines: Vec<&str> = file.text.split_inclusive('\n').collect();
    let blocks = (0..lines.len()).filter_map(|header| Block::under(header, &lines));
    let same = blocks.filter(|block| block.content().trim_end() == plugin.json.trim_end());
    // Of the same JSON in several places, one is the plugin's: which, reading the result tells.
    let mut written = same.filter_map(|block| block.replaced(&lines, json));
    written.find(|text| differs_only_at(&file.text, text, plugin, json))
}

/// A block of YAML: lines that are indented, and stand for themselves.
struct Block<'a> {
    from: usize,
    lines: &'a [&'a str],
    indent: usize,
}

impl<'a> Block<'a> {
    /// The block under this line, if one begins there.
    fn under(header: usize, lines: &'a [&'a str]) -> Option<Self> {
        let begins = lines.get(header)?.split(" #").next()?.trim_end().trim_end_matches(['-', '+']);
        let from = header.checked_add(1).filter(|_| begins.ends_with(": |"))?;
        let below = lines.get(from..)?;
        let indent = below.iter().find(|line| !line.trim().is_empty()).map(|line| spaces(line))?;
        let length = below.iter().take_while(|line| line.trim().is_empty() || spaces(line) >= indent).count();
        Some(Self { from, lines: below.get(..length)?, indent })
    }

    fn content(&self) -> String {
        self.lines.iter().map(|line| line.get(self.indent..).unwrap_or("\n")).collect()
    }

    /// The file with another content in this block. Empty lines at its end stay.
    fn replaced(&self, file: &[&str], content: &str) -> Option<String> {
        let (before, rest) = file.split_at_checked(self.from)?;
        let (block, after) = rest.split_at_checked(self.lines.len())?;
        let block = block.concat();
        let end = block.get(block.trim_end().len()..)?;
        let margin = " ".repeat(self.indent);
        let indented = |line: &str| if line.is_empty() { String::new() } else { format!("{margin}{line}") };
        let content: Vec<String> = content.trim_end().split('\n').map(indented).collect();
        Some([&before.concat(), &content.join("\n"), end, &after.concat()].concat())
    }
}

fn spaces(line: &str) -> usize {
    line.len().saturating_sub(line.trim_start_matches(' ').len())
}

/// Whether two texts of YAML are the same but for the plugin's JSON.
fn differs_only_at(before: &str, after: &str, plugin: &Plugin, json: &str) -> bool {
    let (Ok(mut before), Ok(after)) = (documents_of(before), documents_of(after)) else { return false };
    let pointer = format!("/{}", plugin.place.replace('[', ".").replace(']', "").replace('.', "/"));
    let value = plugin.document.checked_sub(1).and_then(|at| before.get_mut(at)?.pointer_mut(&pointer));
    let Some(value) = value else { return false };
    *value = json.into();
    before == after
}

/// Puts a new file in the old one's place: whoever reads it sees one or the other.
fn replace(path: &Path, content: &str) -> std::io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let before = fs::metadata(&path)?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).open(&partial).map_err(|error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", Path::new(&partial).display()))
        })?;
    let written = keep_owner(&file, &before)
        .and_then(|()| file.set_permissions(before.permissions()))
        .and_then(|()| file.write_all(content.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Whoever could read the file can read the new one.
#[cfg(unix)]
fn keep_owner(file: &fs::File, before: &fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let now = file.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    fchown(file, Some(before.uid()), Some(before.gid()))
}

#[cfg(not(unix))]
fn keep_owner(_file: &fs::File, _before: &fs::Metadata) -> std::io::Result<()> {
    Ok(())
}
