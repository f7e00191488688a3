use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Bytes in a JSON message: as text when they are UTF-8, in base64 (RFC 4648, padded) when they are not.
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
    fn from(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Base64(STANDARD.encode(error.as_bytes())),
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::Text(String::new())
    }
}
