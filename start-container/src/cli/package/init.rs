//! `package init`: a package in TypeScript to begin with.

use std::path::PathBuf;

use packages::manifest::PackageId;
use protocol::ErrorKind;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;

use super::author::name_of;
use super::{Context, output};
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
  start-container package init my-service && cd my-service
  cp IMAGE.tar images/main.tar
  npm install && start-container package keygen package.key && npm run pack
The SDK is the npm package `start-container`. Where it is not published, name its folder or tarball: --sdk ../sdk")]
pub(in crate::cli) struct Init {
    /// Where; made if it is missing
    directory: PathBuf,
    /// The package's id [default: the directory's name]
    #[arg(long)]
    id: Option<PackageId>,
    /// The SDK's folder or tarball, where npm has none
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

/// A file's path, and what is in it. `ID`, `SDK` and `SDK_NOTE` are replaced.
const FILES: [(&str, &str); 13] = [
    ("package.json", include_str!("template/package.json")),
    ("tsconfig.json", include_str!("template/tsconfig.json")),
    ("pack.mjs", include_str!("template/pack.mjs")),
    ("test.mjs", include_str!("template/test.mjs")),
    ("test/page.test.ts", include_str!("template/test/page.test.ts")),
    (".gitignore", include_str!("template/gitignore")),
    ("README.md", include_str!("template/README.md")),
    ("src/manifest.ts", include_str!("template/src/manifest.ts")),
    ("src/sdk.ts", include_str!("template/src/sdk.ts")),
    ("src/page.ts", include_str!("template/src/page.ts")),
    ("src/main.ts", include_str!("template/src/main.ts")),
    ("src/actions.ts", include_str!("template/src/actions.ts")),
    ("src/index.ts", include_str!("template/src/index.ts")),
];

const PUBLISHED: &str = "`start-container` in `package.json` is the SDK, from npm.";
const FROM_PATH: &str =
    "`start-container` in `package.json` is the SDK, from a path of the machine on which this was begun.";

impl Init {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let id = match self.id {
            Some(id) => id,
            None => name_of(&self.directory)?,
        };
        let failed = |step: String| {
            let shown = self.directory.display().to_string();
            move |errno| Failure::kernel(step, shown, errno)
        };
        let sdk = match &self.sdk {
            Some(path) => {
                let whole = std::fs::canonicalize(path).map_err(|error| {
                    Failure::new(ErrorKind::NotFound, "find the SDK at", path.display()).because(error)
                })?;
                let text = format!("file:{}", whole.display());
                // In a JSON string.
                serde_json::to_string(&text).unwrap_or_default().trim_matches('"').to_owned()
            }
            None => format!("^{}", env!("CARGO_PKG_VERSION")),
        };
        let note = if self.sdk.is_some() { FROM_PATH } else { PUBLISHED };
        let dir = linux::tree::ensure_dir(&self.directory, 0o755).map_err(failed("create".to_owned()))?;
        // All or nothing: who has begun to write keeps what he wrote.
        for (name, _) in FILES {
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(_) => return Err(failed(format!("write over {name} in"))(Errno::EXIST)),
                Err(errno) => return Err(failed("look into".to_owned())(errno)),
            }
        }
        for part in ["images", "src", "test"] {
            linux::tree::ensure_dir_at(&dir, part, 0o755).map_err(failed(format!("create {part} in")))?;
        }
        for (name, text) in FILES {
            let text = text.replace("SDK_NOTE", note).replace("\"SDK\"", &format!("\"{sdk}\""));
            let text = text.replace("ID", id.as_str());
            let write = || {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))?;
                linux::tree::write_all(&file, text.as_bytes())
            };
            write().map_err(failed(format!("write {name} in")))?;
        }
        if context.json {
            return output::json(&json!({ "id": id, "directory": self.directory }));
        }
        output::line(&self.directory.display().to_string());
        output::error(
            "now put an image into images/main.tar, then: npm install && npm run pack (README.md has the rest)",
        );
        Ok(())
    }
}
