//! The pages under `docs/` and those beside the README, and the fenced blocks in them.

use serde::Deserialize as _;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A page.
pub struct Page {
    /// Where it is.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// Where it begins, for messages.
    pub place: String,
    /// What the comment in front of it says.
    pub marker: Option<String>,
    /// What it says it is written in.
    pub language: String,
    /// All of it.
    pub text: String,
}

pub use crate::root;

fn markdown_in(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            markdown_in(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// Every page under `docs/`, and those beside the README.
pub fn pages() -> Vec<Page> {
    let mut paths = ["CONTRIBUTING.md", "README.md", "SECURITY.md"].map(|name| root().join(name)).to_vec();
    markdown_in(&root().join("docs"), &mut paths);
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).expect("UTF-8"), path }).collect()
}

impl Page {
    /// Its path, from the project's root.
    pub fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap_or(&self.path).display().to_string()
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut marker = None;
        for (at, line) in self.text.lines().enumerate() {
            match (open.take(), line.trim_start().strip_prefix("```")) {
                (Some(block), Some(_)) => blocks.push(block),
                (Some(block), None) => open = Some(Block { text: block.text + line + "\n", ..block }),
                (None, Some(language)) => {
                    let place = format!("{}, line {}", self.name(), at.saturating_add(1));
                    let (marker, language) = (marker.take(), language.trim().to_owned());
                    open = Some(Block { place, marker, language, text: String::new() });
                }
                (None, None) if line.trim().is_empty() => {}
                (None, None) => {
                    let comment = line.trim().strip_prefix("<!--").and_then(|line| line.strip_suffix("-->"));
                    marker = comment.map(|comment| comment.trim().to_owned());
                }
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.name());
        blocks
    }

    /// What stands in backticks, line by line, outside of fenced blocks.
    pub fn code(&self) -> Vec<&str> {
        let (mut code, mut fenced) = (Vec::new(), false);
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                code.extend(line.split('`').skip(1).step_by(2));
            }
        }
        code
    }

    /// The rows of the tables that begin with this column.
    pub fn rows(&self, column: &str) -> Vec<Vec<&str>> {
        let (mut rows, mut within) = (Vec::new(), false);
        for line in self.text.lines() {
            let cells = line.strip_prefix('|').map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
            within = match &cells {
                Some(cells) => within || cells[0] == column,
                None => false,
            };
            rows.extend(cells.filter(|cells| within && cells[0] != column && !cells[0].starts_with("---")));
        }
        rows
    }
}

/// The blocks of every page in this language.
pub fn blocks(language: &str) -> Vec<Block> {
    let blocks = pages().into_iter().flat_map(|page| page.blocks());
    blocks.filter(|block| block.language == language).collect()
}

/// The plugin's configs within the documents of YAML.
pub fn configs_within(yaml: &str) -> Result<Vec<String>, serde_norway::Error> {
    let mut configs = Vec::new();
    for document in serde_norway::Deserializer::from_str(yaml) {
        collect(&Value::deserialize(document)?, &mut configs);
    }
    Ok(configs)
}

/// A `StringValue` of Envoy's, or Istio's `pluginConfig`.
fn collect(value: &Value, configs: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member["@type"].as_str(), &member["value"]) {
                    ("configuration", Some("type.googleapis.com/google.protobuf.StringValue"), Value::String(json)) => {
                        configs.push(json.clone());
                    }
                    ("pluginConfig", _, _) => configs.push(member.to_string()),
                    _ => collect(member, configs),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, configs)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
