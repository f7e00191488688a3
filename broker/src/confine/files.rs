//! Files in a subcontainer. The host resolves every path inside it.

use protocol::file::{
    ChmodParams, ChownParams, MkdirParams, PathParams, ReadParams, RemoveParams, RenameParams, SymlinkParams,
    WriteParams,
};

use super::{About, Confine, Own};
use crate::error::Result;

/// Bytes that one read answers at most.
const MAX_READ: u64 = 512 << 10;

macro_rules! about_a_file {
    ($($params:ident($path:ident) { $($field:ident),* })*) => {
        $(
            impl Confine for $params {
                fn about(&self) -> About<'_> {
                    About::Guid(&self.guid)
                }

                fn subject(&self) -> String {
                    format!("{} {}", self.guid, self.$path)
                }

                fn confine(self, _: &Own) -> Result<Self> {
                    let Self { $($field),* } = self;
                    Ok(Self { $($field),* })
                }
            }
        )*
    };
}

about_a_file! {
    WriteParams(path) { guid, path, data, append, mode, exclusive }
    PathParams(path) { guid, path, no_follow }
    MkdirParams(path) { guid, path, recursive, mode }
    RemoveParams(path) { guid, path, recursive, force }
    RenameParams(from) { guid, from, to }
    SymlinkParams(path) { guid, target, path }
    ChmodParams(path) { guid, path, mode }
    ChownParams(path) { guid, path, uid, gid }
}

impl Confine for ReadParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        format!("{} {}", self.guid, self.path)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, path, offset, length } = self;
        Ok(Self { guid, path, offset, length: Some(length.unwrap_or(MAX_READ).min(MAX_READ)) })
    }
}
