//! `start-container runtime …`

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::image::{Bars, cancel_on_ctrl_c};
use super::{Context, output};
use crate::error::Result;
use crate::runtime;

#[derive(Debug, Subcommand)]
#[command(
    defer = true,
    after_help = "\
Packages whose code is TypeScript run in Deno. It is not part of this program; it is taken from npm, where its makers publish
it, and must be the release that this one was tested with:
  npm install --prefix /tmp/deno @deno/linux-x64-glibc@2.9.6
  start-container runtime add deno --from /tmp/deno/node_modules/@deno/linux-x64-glibc/deno"
)]
pub(super) enum Runtime {
    /// Make the image of a runtime, from its program and the machine's libraries that it needs
    Add {
        /// Which
        runtime: Which,
        /// Its program
        #[arg(long, value_name = "PATH")]
        from: PathBuf,
    },
    /// List what can run workers, and whether it is there
    Ls,
}

/// What runs workers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Which {
    Deno,
}

impl Runtime {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let machine = context.machine()?;
        let store = machine.store()?;
        match self {
            Self::Add { runtime: Which::Deno, from } => {
                let bars = Bars::new(!context.json);
                let image = runtime::add_deno(store, &from, &bars, &cancel_on_ctrl_c()?);
                bars.clear();
                let image = image?;
                if context.json {
                    return output::json(&image);
                }
                output::line(&format!("{} {}", runtime::IMAGE, image.digest));
                Ok(())
            }
            Self::Ls => {
                let image = runtime::find(store)?;
                if context.json {
                    let digest = image.map(|image| image.digest);
                    return output::json(
                        &json!([{ "runtime": "deno", "version": runtime::VERSION, "image": digest }]),
                    );
                }
                let digest = image.map_or_else(|| "-".to_owned(), |image| image.digest);
                output::table(
                    &["RUNTIME", "VERSION", "IMAGE"],
                    &[vec!["deno".into(), runtime::VERSION.into(), digest]],
                );
                Ok(())
            }
        }
    }
}
