use crate::Error;

/// The longest name that a directory entry can have.
const MAX: usize = 255;

/// A volume's or package's id becomes one name in a directory, so it must be one: not empty, no `/`, no NUL or other
/// control character, and no dot in front, which leaves out `.`, `..` and names that are hidden.
pub(crate) fn check(what: &'static str, id: &str) -> Result<(), Error> {
    let bad = id.is_empty()
        || id.len() > MAX
        || id.starts_with('.')
        || id.chars().any(|char| char == '/' || char.is_control());
    if bad { Err(Error::InvalidId { what, id: id.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn s14_ids_that_are_no_single_name_are_refused() {
        let long = "a".repeat(256);
        for id in ["", ".", "..", ".hidden", "a/b", "/", "../x", "a\0b", "a\nb", &long] {
            assert!(check("volume", id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn ordinary_ids_are_taken() {
        for id in ["main", "a", "pg-data", "db_1.2", "großes-Volume", "com.example.app"] {
            assert!(check("volume", id).is_ok(), "{id:?}");
        }
    }
}
