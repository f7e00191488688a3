//! Paths in a bundle: which may be, and which would clash.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization as _;

/// What a ustar header holds without an extension, less a margin for its two fields.
pub(crate) const MAX_BYTES: usize = 255;
/// Directories above a file.
pub(crate) const MAX_DEPTH: usize = 32;

/// Where a package's files are. Nothing else is in a bundle but the manifest.
pub(crate) const ROOTS: [&str; 5] = ["assets", "entries", "images", "precompiled", "ui"];

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each says itself in its message")]
pub enum Refusal {
    #[error("it is empty, or one of its names is")]
    Empty,
    #[error("it is absolute")]
    Absolute,
    #[error("it has . or .. in it")]
    Dots,
    #[error("it is no UTF-8")]
    Encoding,
    #[error("it has a control character, a backslash or a character that turns or hides text")]
    Character,
    #[error("it is not in normal form (NFC)")]
    NotNormal,
    #[error("one of its names ends in a dot or a space")]
    Ending,
    #[error("it is over the limit of {MAX_BYTES} bytes")]
    TooLong,
    #[error("it is over the limit of {MAX_DEPTH} directories")]
    TooDeep,
}

/// Whether a path may be in a bundle: one that means the same to every file system and reads as it is.
pub(crate) fn judge(path: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(path).map_err(|_place| Refusal::Encoding)?;
    if text.len() > MAX_BYTES {
        return Err(Refusal::TooLong);
    }
    if text.starts_with('/') {
        return Err(Refusal::Absolute);
    }
    if !text.chars().all(|c| crate::manifest::words::is_printable(c) && c != '\\') {
        return Err(Refusal::Character);
    }
    for name in text.split('/') {
        match name {
            "" => return Err(Refusal::Empty),
            "." | ".." => return Err(Refusal::Dots),
            name if name.ends_with(['.', ' ']) => return Err(Refusal::Ending),
            _ => {}
        }
    }
    if text.matches('/').count() > MAX_DEPTH {
        return Err(Refusal::TooDeep);
    }
    if !unicode_normalization::is_nfc(text) {
        return Err(Refusal::NotNormal);
    }
    Ok(text)
}

/// The paths seen so far, as a file system would see them that takes upper and lower case, or forms of the same
/// letter, for one.
#[derive(Default)]
pub(crate) struct Seen(HashMap<String, (String, bool)>);

impl Seen {
    /// Takes a file, and the directories it is in. The path that it clashes with, if it does.
    pub(crate) fn file(&mut self, path: &str) -> Result<(), String> {
        let ends = path.match_indices('/').map(|(at, _)| (at, false)).chain([(path.len(), true)]);
        for (end, is_file) in ends {
            let part = &path[..end];
            match self.0.get(&folded(part)) {
                Some((known, known_is_file)) if known != part || *known_is_file || is_file => {
                    return Err(known.clone());
                }
                Some(_) => {}
                None => {
                    self.0.insert(folded(part), (part.to_owned(), is_file));
                }
            }
        }
        Ok(())
    }
}

/// Compatibility forms and case taken away. Lower case of upper case: that makes one of ß and ss, ſ and s, σ and ς.
fn folded(text: &str) -> String {
    text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_a_path_that_leaves_or_hides_something_is_refused() {
        for (bad, why) in [
            ("", Refusal::Empty),
            ("a//b", Refusal::Empty),
            ("a/", Refusal::Empty),
            ("/a", Refusal::Absolute),
            ("a/../b", Refusal::Dots),
            ("..", Refusal::Dots),
            ("./a", Refusal::Dots),
            ("a\\b", Refusal::Character),
            ("a\nb", Refusal::Character),
            ("a\u{202e}b", Refusal::Character),
            ("e\u{301}", Refusal::NotNormal),
            ("a.", Refusal::Ending),
            ("a /b", Refusal::Ending),
        ] {
            assert_eq!(judge(bad.as_bytes()), Err(why), "{bad:?}");
        }
        assert_eq!(judge(b"a\xff"), Err(Refusal::Encoding));
        assert_eq!(judge("a".repeat(256).as_bytes()), Err(Refusal::TooLong));
        assert!(judge("a/".repeat(33).trim_end_matches('/').as_bytes()).is_ok());
        assert_eq!(judge(("a/".repeat(33) + "a").as_bytes()), Err(Refusal::TooDeep));
    }

    #[test]
    fn p3_names_that_clash_where_case_or_form_does_not_count_are_refused() {
        for (first, second) in [
            ("ui/a", "ui/a"),
            ("ui/A", "ui/a"),
            ("UI/a", "ui/b"),
            ("ui/a", "ui/a/b"),
            ("ui/a/b", "ui/a"),
            ("ui/straße", "ui/STRASSE"),
            ("ui/ﬁ", "ui/fi"),
            ("ui/ſ", "ui/s"),
            ("ui/σ", "ui/ς"),
            ("ui/é", "ui/É"),
        ] {
            let mut seen = Seen::default();
            assert_eq!(seen.file(first), Ok(()));
            assert!(seen.file(second).is_err(), "{first} {second}");
        }
        let mut seen = Seen::default();
        assert!(["ui/a/b", "ui/a/c", "ui/b"].iter().all(|path| seen.file(path).is_ok()));
    }
}
