//! Text to manifest, and where in the text it is wrong.

use std::fmt;

use super::{Manifest, Misfit};

/// Bytes of a manifest.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// How a manifest is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Syntax {
    /// JSON: the one form in a bundle.
    Json,
    /// YAML 1.2, for authors. No anchors.
    Yaml,
}

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The field, `entries.web.service.program.image`; empty where it is the text itself.
    pub field: String,
    /// Line and column, from 1, where they are known.
    pub place: Option<(u64, u64)>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl Manifest {
    /// Reads a manifest and checks that its parts fit each other.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(text: &[u8], syntax: Syntax) -> Result<Self, Fault> {
        let plain = |reason: String| Fault { field: String::new(), place: None, reason };
        if text.len() > MAX_BYTES {
            return Err(plain(format!("a manifest has at most {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(text).map_err(|error| plain(error.to_string()))?;
        let manifest = match syntax {
            Syntax::Json => json(text),
            Syntax::Yaml => yaml(text),
        }?;
        manifest.check().map_err(|Misfit { field, reason }| {
            // The parts are read by now; the place is looked for.
            Fault { place: place_of(text, &field), field, reason }
        })?;
        Ok(manifest)
    }

    /// As it stands in a bundle.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps with text as keys and numbers that are finite: nothing in it can fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn json(text: &str) -> Result<Manifest, Fault> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let manifest = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = field(error.path());
        let inner = error.into_inner();
        let end = Some((inner.line() as u64, inner.column() as u64));
        // Of a value that is not what it should be, the parser knows where it ended; better where its name stands.
        let place = if inner.is_data() { place_of(text, &field).or(end) } else { end };
        let said = inner.to_string();
        let reason = said.split_once(" at line ").map_or(said.as_str(), |(reason, _)| reason);
        Fault { field, place, reason: reason.to_owned() }
    })?;
    reader.end().map_err(|error| Fault {
        field: String::new(),
        place: Some((error.line() as u64, error.column() as u64)),
        reason: "something follows the manifest".to_owned(),
    })?;
    Ok(manifest)
}

fn yaml(text: &str) -> Result<Manifest, Fault> {
    // What anchors are for, no manifest needs, and they are how a small text becomes a large one.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_anchors: 0, max_aliases: 0, max_depth: 32 },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let mut at = String::new();
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        serde_path_to_error::deserialize(reader).map_err(|error| {
            at = field(error.path());
            error.into_inner()
        })
    })
    .map_err(|error| {
        let place = error.location().map(|location| (location.line(), location.column()));
        let said = error.without_snippet().to_string();
        // The library says the place in the same sentence, in a form of its own.
        let reason = said.split_once(" at line ").map_or(said.as_str(), |(reason, _)| reason);
        Fault { field: std::mem::take(&mut at), place, reason: reason.to_owned() }
    })
}

fn field(path: &serde_path_to_error::Path) -> String {
    match path.to_string().as_str() {
        "." | "?" => String::new(),
        path => path.to_owned(),
    }
}

/// Where the last name of a field stands: each name of its path is looked for behind the one before it. An author may
/// have written the parts in another order; then this is a line of the wrong part, and the field says the right one.
fn place_of(text: &str, field: &str) -> Option<(u64, u64)> {
    let mut from = 0;
    let mut at = None;
    for name in field.split('.').filter_map(|part| part.split('[').next()) {
        let found = text[from..].match_indices(name).find(|(at, _)| {
            let at = from + at;
            let rest = text[at + name.len()..].trim_start_matches(['"', '\'']).trim_start();
            let before = text[..at].chars().next_back();
            let begins = before.is_none_or(|before| before.is_whitespace() || "\"'{,".contains(before));
            begins && rest.starts_with(':')
        })?;
        at = Some(from + found.0);
        from += found.0 + name.len();
    }
    let before = &text[..at?];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u64 + 1;
    Some((line, column))
}
