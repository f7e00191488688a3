//! Paths of entries, judged before any of them is looked up.

use crate::{Limits, Refusal};

/// A path's components joined by single slashes; empty for the root itself.
pub(super) fn normal(path: &[u8], limits: &Limits) -> Result<Vec<u8>, Refusal> {
    if path.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    if path.len() > limits.path {
        return Err(Refusal::PathTooLong(path.len(), limits.path));
    }
    let mut normal = Vec::with_capacity(path.len());
    let mut depth = 0;
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Refusal::DotDot),
            _ => {}
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(part);
        depth += 1;
    }
    if depth > limits.depth {
        return Err(Refusal::TooDeep(depth, limits.depth));
    }
    Ok(normal)
}

/// The directory and the last component of a normal path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_paths_stay_beneath() {
        let limits = Limits { depth: 3, path: 20, ..Limits::default() };
        assert_eq!(normal(b"/./a//b/", &limits), Ok(b"a/b".to_vec()));
        assert_eq!(normal(b"./", &limits), Ok(Vec::new()));
        assert_eq!(normal(b"a/../b", &limits), Err(Refusal::DotDot));
        assert_eq!(normal(b"a\0b", &limits), Err(Refusal::ZeroByte));
        assert_eq!(normal(b"a/b/c/d", &limits), Err(Refusal::TooDeep(4, 3)));
        assert_eq!(normal(&[b'a'; 21], &limits), Err(Refusal::PathTooLong(21, 20)));
    }
}
