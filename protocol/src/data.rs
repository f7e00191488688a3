use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Bytes in a JSON message: as text when they are UTF-8, in base64 (RFC 4648, padded) when they are not, or when
/// JSON's escapes would make the text longer than that.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Data {
    /// UTF-8 text, unchanged.
    Text(String),
    /// Base64 of any bytes.
    Base64(String),
}

impl Data {
    /// The bytes themselves.
    ///
    /// # Errors
    /// When a [`Data::Base64`] is not base64.
    pub fn into_bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64(text) => STANDARD.decode(text),
        }
    }
}

impl From<Vec<u8>> for Data {
    /// The message never grows beyond four thirds of the bytes. A program that prints control characters, six
    /// bytes each in JSON, could otherwise push a response over [`crate::MAX_LINE`] and end its reader's connection.
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if escapes(text.as_bytes()) <= text.len() / 3 => Self::Text(text),
            Ok(text) => Self::Base64(STANDARD.encode(text)),
            Err(error) => Self::Base64(STANDARD.encode(error.as_bytes())),
        }
    }
}

/// By how many bytes JSON's escapes make a text longer, at most.
fn escapes(text: &[u8]) -> usize {
    text.iter()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum()
}

impl Default for Data {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s18_any_bytes_come_back() {
        for bytes in [&b""[..], b"plain", "gr\u{fc}\u{df}e\n".as_bytes(), b"\xff\x00", &[1; 100], b"\"\"\""] {
            assert_eq!(Data::from(bytes.to_vec()).into_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn s18_a_message_never_grows_beyond_four_thirds() {
        for bytes in [vec![1; 3000], vec![b'"'; 3000], vec![b'\n'; 3000], vec![0xff; 3000]] {
            let message = serde_json::to_string(&Data::from(bytes)).unwrap();
            assert!(message.len() <= 4000 + 20, "{}", message.len());
        }
    }
}
