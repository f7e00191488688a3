//! Who asks: from the files that docker and podman log in to.

use std::collections::HashMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use crate::{Error, Result};

/// Where the credentials for a registry come from.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The files of docker and podman, the first that knows the registry: `$REGISTRY_AUTH_FILE`,
    /// `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, `$XDG_RUNTIME_DIR/containers/auth.json`,
    /// `~/.config/containers/auth.json`; and the helper programs that these name.
    #[default]
    Configured,
    /// Only this file, in the same format.
    File(PathBuf),
    /// These.
    Basic {
        /// User.
        user: String,
        /// Password or token.
        password: String,
    },
    /// None.
    Anonymous,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configured => f.write_str("Configured"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Anonymous => f.write_str("Anonymous"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Credentials {
    pub(super) fn for_registry(&self, host: &str, repository: &str) -> Result<RegistryAuth> {
        match self {
            Self::Anonymous => Ok(RegistryAuth::Anonymous),
            Self::Basic { user, password } => Ok(RegistryAuth::Basic(user.clone(), password.clone())),
            Self::File(path) => {
                let found = look_up(path, host, repository)?;
                Ok(found.unwrap_or(RegistryAuth::Anonymous))
            }
            Self::Configured => {
                for path in files() {
                    if path.exists()
                        && let Some(found) = look_up(&path, host, repository)?
                    {
                        return Ok(found);
                    }
                }
                Ok(RegistryAuth::Anonymous)
            }
        }
    }
}

fn files() -> Vec<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    [
        variable("REGISTRY_AUTH_FILE"),
        docker.map(|dir| dir.join("config.json")),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a file says of a registry; `None` where it says nothing.
fn look_up(path: &Path, host: &str, repository: &str) -> Result<Option<RegistryAuth>> {
    let place = path.display().to_string();
    let failed = |reason: String| Error::Credentials { place: place.clone(), reason };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    // serde's own text could quote a secret.
    let config: Config = serde_json::from_slice(&bytes).map_err(|error| {
        failed(format!("not valid JSON at line {} column {}", error.line(), error.column()))
    })?;
    let keys = keys(host, repository);
    for key in &keys {
        if let Some(helper) = config.cred_helpers.get(key)
            && let Some(found) = ask(helper, key)?
        {
            return Ok(Some(found));
        }
    }
    if let Some(helper) = config.creds_store.as_deref().filter(|helper| !helper.is_empty()) {
        for key in &keys {
            if let Some(found) = ask(helper, key)? {
                return Ok(Some(found));
            }
        }
    }
    for key in &keys {
        let Some(entry) = config.auths.get(key) else { continue };
        if let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| failed(format!("the entry of {key} is not base64 text")))?;
            let (user, password) =
                text.split_once(':').ok_or_else(|| failed(format!("the entry of {key} has no colon")))?;
            // Docker pads with zero bytes.
            return Ok(Some(basic(user, password.trim_end_matches('\0'))));
        }
        if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
            return Ok(Some(basic(user, password)));
        }
    }
    Ok(None)
}

fn basic(user: &str, password: &str) -> RegistryAuth {
    RegistryAuth::Basic(user.to_owned(), password.to_owned())
}

/// What a registry may be called in such files, the most particular first (containers-auth.json(5)).
fn keys(host: &str, repository: &str) -> Vec<String> {
    let hosts: &[&str] = match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            &["docker.io", "index.docker.io", "registry-1.docker.io"]
        }
        other => &[other],
    };
    let mut keys = Vec::new();
    let mut part = repository;
    loop {
        keys.extend(hosts.iter().map(|host| format!("{host}/{part}")));
        match part.rsplit_once('/') {
            Some((above, _)) => part = above,
            None => break,
        }
    }
    for host in hosts {
        keys.extend([
            (*host).to_owned(),
            format!("https://{host}"),
            format!("https://{host}/v1/"),
            format!("https://{host}/v2/"),
            format!("http://{host}"),
        ]);
    }
    keys
}

/// Asks a helper program, `docker-credential-<helper> get`.
fn ask(helper: &str, server: &str) -> Result<Option<RegistryAuth>> {
    let place = format!("docker-credential-{helper}");
    let failed = |reason: String| Error::Credentials { place: place.clone(), reason };
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Err(failed("not the name of a program".to_owned()));
    }
    let child = Command::new(&place)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| failed(error.to_string()))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(server.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    // One that knows without reading may close its input early.
    _ = written;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        // The protocol's words for "nothing stored": not an error.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("it ended with {}", output.status)));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .ok()
        .ok_or_else(|| failed("its answer is not understood".to_owned()))?;
    if answer.username == "<token>" {
        return Err(failed("identity tokens are not supported".to_owned()));
    }
    Ok(Some(basic(&answer.username, &answer.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json.to_string()).unwrap();
        file
    }

    #[test]
    fn i2_docker_hub_is_known_by_its_old_address() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
        let file = config(serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}));
        let found = look_up(file.path(), "index.docker.io", "library/debian").unwrap();
        assert_eq!(found, Some(basic("me", "pass:word")));
        assert_eq!(look_up(file.path(), "ghcr.io", "x/y").unwrap(), None);
    }

    #[test]
    fn i2_the_more_particular_entry_wins() {
        let auth = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let file = config(
            serde_json::json!({"auths": {"r:5000": {"auth": auth("a:1")}, "r:5000/team": {"auth": auth("b:2")}}}),
        );
        assert_eq!(look_up(file.path(), "r:5000", "team/x").unwrap(), Some(basic("b", "2")));
        assert_eq!(look_up(file.path(), "r:5000", "other/x").unwrap(), Some(basic("a", "1")));
    }

    #[test]
    fn i2_errors_about_credentials_hold_no_secrets() {
        let file = config(serde_json::json!({"auths": {"r": {"auth": 5}, "s": {"auth": "c2VjcmV0"}}}));
        std::fs::write(file.path(), "{\"auths\": {\"r\": {\"auth\": \"c2VjcmV0\"}").unwrap();
        let text = look_up(file.path(), "r", "x").unwrap_err().to_string();
        assert!(!text.contains("c2VjcmV0") && text.contains("not valid JSON"), "{text}");
    }

    #[test]
    fn i2_a_helper_is_a_program_name_and_no_path() {
        let file = config(serde_json::json!({"credHelpers": {"r": "../../bin/sh"}}));
        assert!(
            look_up(file.path(), "r", "x").unwrap_err().to_string().contains("not the name of a program")
        );
    }
}
