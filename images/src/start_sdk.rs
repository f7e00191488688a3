//! What `@start9labs/start-sdk` reads of an image: `images/<name>.json` and `images/<name>.env`.
//!
//! The JSON has that client's words (`user`, `workdir`, `entrypoint`, `cmd`) and, as `env`, the variables with
//! newlines safe. A name with slashes lies in directories of that name, as the client's own path would have it.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::store::Record;
use crate::{Digest, Error, Result, env_file};
use linux::tree::{ensure_dir_at, names_in, open_dir_at, read_file_at, replace_file_at};

/// Writes both files. The caller holds the store's lock exclusively.
pub(crate) fn write(images: &OwnedFd, name: &str, record: &Record) -> Result<()> {
    let config = &record.config;
    let list = |list: &[String]| if list.is_empty() { None } else { Some(list.to_vec()) };
    let json = serde_json::json!({
        "workdir": config.workdir.as_deref().unwrap_or("/"),
        "user": config.user.as_deref().unwrap_or("root"),
        "entrypoint": list(&config.entrypoint),
        "cmd": list(&config.cmd),
        "env": config.env,
        "digest": record.digest,
    });
    let written = || {
        let (dir, file) = directory(images, name, true)?;
        replace_file_at(&dir, &format!("{file}.json"), json.to_string().as_bytes(), 0o644, false)?;
        replace_file_at(&dir, &format!("{file}.env"), env_file::render(&config.env).as_bytes(), 0o644, false)
    };
    written().map_err(Error::kernel("write", format!("images/{name}.json")))
}

/// Removes both files and the directories that only they were in.
pub(crate) fn remove(images: &OwnedFd, name: &str) -> Result<()> {
    let removed = || {
        let (dir, file) = match directory(images, name, false) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        for extension in ["json", "env"] {
            match rustix::fs::unlinkat(&dir, format!("{file}.{extension}"), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        let mut above = name;
        while let Some((parent, _)) = above.rsplit_once('/') {
            match rustix::fs::unlinkat(images, parent, AtFlags::REMOVEDIR) {
                Ok(()) => above = parent,
                Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    };
    removed().map_err(Error::kernel("remove", format!("images/{name}.json")))
}

/// Removes the files of every name that is not kept: an import may be killed before the name, a removal after it.
pub(crate) fn retain(images: &OwnedFd, keep: impl Fn(&str) -> bool) -> Result<()> {
    let failed = || Error::kernel("read directory", "images");
    let mut pending = vec![String::new()];
    let mut stale = Vec::new();
    while let Some(above) = pending.pop() {
        let dir =
            open_dir_at(images, if above.is_empty() { "." } else { above.as_str() }).map_err(failed())?;
        for (name, kind) in names_in(&dir).map_err(failed())? {
            let Ok(name) = name.into_string() else { continue };
            let path = if above.is_empty() { name } else { format!("{above}/{name}") };
            if kind == FileType::Directory {
                pending.push(path);
            } else if path.ends_with(".json.new") || path.ends_with(".env.new") {
                // Of a replacement that was cut off: nobody replaces anything now.
                rustix::fs::unlinkat(images, path.as_str(), AtFlags::empty()).map_err(failed())?;
            } else if let Some(image) = path.strip_suffix(".json")
                && !keep(image)
                && is_ours(&read_file_at(images, path.as_str()).map_err(failed())?)
            {
                stale.push(image.to_owned());
            }
        }
    }
    stale.iter().try_for_each(|name| remove(images, name))
}

/// Was this file written by [`write`]? Another's files in that directory are not ours to remove.
fn is_ours(json: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "that it is there says it")]
    struct Ours {
        digest: Digest,
        env: Vec<String>,
    }
    serde_json::from_slice::<Ours>(json).is_ok()
}

/// The directory and the file name of a name.
fn directory<'n>(images: &OwnedFd, name: &'n str, make: bool) -> Result<(OwnedFd, &'n str), Errno> {
    let mut dir = open_dir_at(images, ".")?;
    let mut parts = name.split('/');
    let file = parts.next_back().unwrap_or(name);
    for part in parts {
        dir = if make { ensure_dir_at(&dir, part, 0o755)? } else { open_dir_at(&dir, part)? };
    }
    Ok((dir, file))
}
