//! Checks that need no machine: the generated files, the table of the rooms, licences, the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{place, say};

/// What is generated: path from the root of the repository, and content.
fn files() -> Vec<(&'static str, String)> {
    let mut files = protocol::schema::files();
    files.push(("packages/schema/manifest.json", packages::Manifest::json_schema()));
    files
}

/// Fails when a generated file is not what the types would give.
pub(crate) fn generated_files() -> Result<()> {
    let mut stale = Vec::new();
    for (path, content) in files() {
        let path = place::root().join(path);
        if fs::read_to_string(&path).ok().as_deref() != Some(content.as_str()) {
            stale.push(path.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!("run `cargo xtask schema`; these are not what the types say:\n{}", stale.join("\n"));
    }
    Ok(())
}

/// Writes the generated files.
pub(crate) fn write_generated_files() -> Result<()> {
    for (path, content) in files() {
        let path = place::root().join(path);
        fs::create_dir_all(path.parent().context("it has a directory")?)?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        say::note(&format!("{}", path.display()));
    }
    Ok(())
}

/// Fails when a room uses a sibling that the table in ARCHITECTURE.md does not allow it. `xtask` is no part of the
/// product and may use what it builds and checks.
pub(crate) fn rooms() -> Result<()> {
    let architecture =
        fs::read_to_string(place::root().join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    let allowed = parse_rooms(&architecture);
    let metadata = metadata(&["--no-deps"])?;
    let mut wrong = Vec::new();
    for package in packages(&metadata)? {
        let name = text(package, "name")?;
        let Some(siblings) = allowed.get(name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let used = text(dependency, "name")?;
            let sibling = allowed.contains_key(used) && !dependency["path"].is_null() && used != name;
            if sibling && !siblings.contains(used) && name != "xtask" {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("against the table of the rooms in ARCHITECTURE.md:\n{}", wrong.join("\n"));
    }
    Ok(())
}

/// The rows `| `room/` | what it owns | may use |`.
fn parse_rooms(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in architecture.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (Some(room), Some(may_use)) = (cells.get(1), cells.get(3)) else { continue };
        let room = room.trim_matches(['`', '/']).to_owned();
        let siblings = if *may_use == "all of the above" {
            rooms.keys().cloned().collect()
        } else {
            may_use.split([',', ' ']).map(str::to_owned).collect()
        };
        rooms.insert(room, siblings);
    }
    rooms
}

/// Fails when a dependency has a licence that `deny.toml` does not allow. `cargo deny` reads the same list where it
/// is installed; this works offline and without it.
pub(crate) fn licences() -> Result<()> {
    let config = fs::read_to_string(place::root().join("deny.toml")).context("read deny.toml")?;
    let list = config
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("find `allow = [`")?
        .0;
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let metadata =
        metadata(&["--filter-platform", &format!("{}-unknown-linux-musl", std::env::consts::ARCH)])?;
    let mut wrong = Vec::new();
    for package in packages(&metadata)? {
        let (name, version) = (text(package, "name")?, text(package, "version")?);
        let Some(licence) = package["license"].as_str() else {
            wrong.push(format!("{name} {version}: no licence"));
            continue;
        };
        if !acceptable(licence, &allowed) {
            wrong.push(format!("{name} {version}: {licence}"));
        }
    }
    if !wrong.is_empty() {
        bail!("licences that deny.toml does not allow:\n{}", wrong.join("\n"));
    }
    Ok(())
}

/// Every part joined by AND must have one alternative, joined by OR or `/`, that is allowed.
fn acceptable(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    licence.split(" AND ").all(|part| {
        part.trim_matches(['(', ')'])
            .split(" OR ")
            .flat_map(|alternative| alternative.split('/'))
            .any(|alternative| allowed.contains(alternative.trim_matches(['(', ')', ' '])))
    })
}

/// Fails when the program in the README is not the example that the demo runs.
pub(crate) fn readme() -> Result<()> {
    let readme = fs::read_to_string(place::root().join("README.md")).context("read README.md")?;
    let example =
        fs::read_to_string(place::root().join("sdk/examples/postgres.ts")).context("read the example")?;
    let program = readme
        .split_once("```ts\n")
        .and_then(|(_, rest)| rest.split_once("```\n"))
        .context("find the first ```ts block in README.md")?
        .0;
    if program.trim_end() != example.trim_end() {
        bail!("the program in README.md is not sdk/examples/postgres.ts");
    }
    Ok(())
}

fn metadata(arguments: &[&str]) -> Result<Value> {
    let text = say::output(
        Command::new(cargo()).args(["metadata", "--format-version=1", "--locked"]).args(arguments),
    )?;
    serde_json::from_str(&text).context("parse cargo's metadata")
}

fn packages(metadata: &Value) -> Result<&Vec<Value>> {
    metadata["packages"].as_array().context("packages")
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name}"))
}

/// The cargo that runs us.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_rooms_is_read_from_top_to_bottom() {
        let rooms =
            parse_rooms("| `a/` | x | no sibling |\n| `b/` | y | a, c |\n| `c/` | z | all of the above |\n");
        assert!(!rooms["a"].contains("b") && rooms["b"].contains("a") && rooms["b"].contains("c"));
        assert!(rooms["c"].contains("a") && rooms["c"].contains("b") && !rooms["c"].contains("c"));
    }

    #[test]
    fn a_licence_is_acceptable_when_one_alternative_of_each_part_is() {
        let allowed = BTreeSet::from(["MIT", "Unicode-3.0"]);
        for good in ["MIT", "MIT OR GPL-3.0", "Apache-2.0/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert!(acceptable(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", ""] {
            assert!(!acceptable(bad, &allowed), "{bad}");
        }
    }
}
