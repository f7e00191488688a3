//! The TypeScript side: checks, vitest, other runtimes, the package as a stranger installs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Context;
use super::counts::Counts;
use crate::{place, say, setup};

fn in_sdk(context: &Context, program: &str) -> Command {
    let mut command = context.command(program);
    command.current_dir(place::root().join("sdk"));
    command
}

pub(super) fn build_and_check(context: &Context) -> Result<Counts> {
    let mut counts = Counts::default();
    for (name, arguments) in [
        ("npm run build", &["run", "build"][..]),
        ("biome", &["exec", "--", "biome", "ci", "."]),
        ("tsc", &["exec", "--", "tsc", "-p", "tsconfig.json"]),
        ("tsc of what waits for modules", &["exec", "--", "tsc", "-p", "src/worker"]),
        ("publint", &["exec", "--", "publint", "--strict"]),
    ] {
        let result = say::run(name, in_sdk(context, "npm").args(arguments));
        counts.add(Counts::of(&format!("sdk: {name}"), result));
    }
    Ok(counts)
}

pub(super) fn vitest(context: &Context) -> Result<Counts> {
    let report = place::cache().join("vitest.json");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut vitest = in_sdk(context, "npm");
    vitest.args([
        "exec",
        "--",
        "vitest",
        "run",
        "--retry=1",
        "--passWithNoTests",
        "--reporter=default",
        "--reporter=json",
    ]);
    vitest.arg(format!("--outputFile.json={}", report.display()));
    if let Some(filter) = &context.filter {
        vitest.args(["-t", filter]);
    }
    // Its failures are in the report; it speaks for itself meanwhile.
    let status = vitest.stdin(Stdio::null()).status().context("start vitest")?;
    if !report.exists() {
        bail!("vitest wrote no report: {status}");
    }
    let mut counts = read_vitest(&fs::read_to_string(&report)?, context.filter.is_some())?;
    let nothing = counts.passed == 0 && context.filter.is_none();
    if counts.failed == 0 && (!status.success() || nothing) {
        // An error outside of any test, which the report does not hold.
        counts.add(Counts::failure(&format!("vitest itself: {status}")));
    }
    Ok(counts)
}

fn read_vitest(report: &str, filtered: bool) -> Result<Counts> {
    let report: Value = serde_json::from_str(report).context("parse vitest's report")?;
    let mut counts = Counts::default();
    for file in report["testResults"].as_array().context("testResults")? {
        let path = file["name"].as_str().unwrap_or("");
        let path = path.rsplit_once("/sdk/").map_or(path, |(_, rest)| rest);
        let tests = file["assertionResults"].as_array().context("assertionResults")?;
        if file["status"] == "failed" && !tests.iter().any(|test| test["status"] == "failed") {
            counts.add(Counts::failure(&format!("{path}: {}", file["message"].as_str().unwrap_or(""))));
        }
        for test in tests {
            let name = format!("{path} {}", test["fullName"].as_str().unwrap_or(""));
            match test["status"].as_str() {
                Some("passed") => {
                    counts.passed += 1;
                    // What went wrong at the first try stays with it.
                    if test["failureMessages"].as_array().is_some_and(|messages| !messages.is_empty()) {
                        counts.second_tries.push(name);
                    }
                }
                Some("failed") => counts.add(Counts::failure(&name)),
                Some(_) if filtered => {}
                status => counts.skips.push((name, status.unwrap_or("no status").to_owned())),
            }
        }
    }
    Ok(counts)
}

/// The same program on each runtime. It prints `ok NAME` or `not ok NAME` for each check.
pub(super) fn runtimes(context: &Context) -> Result<Counts> {
    let mut counts = Counts::default();
    for runtime in setup::all_runtimes() {
        let mut command = in_sdk(context, "node");
        command.arg("test/runtimes/run.mjs").env("RUNTIME", runtime.path());
        let mut own = Counts::default();
        for line in say::follow(&mut command)? {
            if line.starts_with("ok ") {
                own.passed += 1;
            } else if let Some(name) = line.strip_prefix("not ok ") {
                own.add(Counts::failure(&format!("sdk on {}: {name}", runtime.name)));
            }
        }
        if own.passed == 0 && own.failed == 0 {
            own.add(Counts::failure(&format!("sdk on {}: nothing was run", runtime.name)));
        }
        counts.add(own);
    }
    Ok(counts)
}

/// `npm pack`, and the result in an empty project.
pub(super) fn package(context: &Context) -> Result<Counts> {
    let project = tempfile::tempdir_in(&context.temporary)?;
    let result = (|| {
        let mut pack = in_sdk(context, "npm");
        pack.args(["pack", "--json", "--ignore-scripts", "--pack-destination"]).arg(project.path());
        let packed: Value =
            serde_json::from_str(&say::output(&mut pack)?).context("parse what npm pack says")?;
        let file = packed[0]["filename"].as_str().context("npm pack names its file")?;
        install(context, project.path(), file)
    })();
    Ok(Counts::of("sdk: installs into an empty project", result))
}

fn install(context: &Context, project: &Path, file: &str) -> Result<()> {
    fs::write(project.join("package.json"), r#"{"private": true, "type": "module"}"#)?;
    let mut npm = context.command("npm");
    npm.current_dir(project).args([
        "install",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        &format!("./{file}"),
    ]);
    say::run(&format!("npm install {file}"), &mut npm)?;
    let lines =
        fs::read_dir(project.join("node_modules"))?.flatten().filter(|entry| entry.path().is_dir()).count();
    if lines != 1 {
        bail!("it brought {lines} packages: it promises to have no dependencies");
    }
    let program = "import * as sdk from 'start-container'; if (!sdk.SubContainerRc) throw new Error('no SubContainerRc')";
    fs::write(project.join("try.mjs"), program)?;
    let mut node = context.command("node");
    say::run("import it", node.current_dir(project).arg("try.mjs"))
}
