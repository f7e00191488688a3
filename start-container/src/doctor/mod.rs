//! What this machine has of what containers need, found out by trying it.
//!
//! Every check makes what it asks for, and what it makes goes with its last descriptor, or is removed before the next
//! check. Says what is missing, and what that costs. Changes nothing.

use serde::Serialize;

mod kernel;
mod limits;
mod machine;

/// How it is with one thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    /// It is there.
    Ok,
    /// Something can do without it, or works less well.
    Limited,
    /// No container without it.
    Missing,
}

/// What was found out about one thing.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// A name that stays.
    pub(crate) name: &'static str,
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What that costs; nothing where all is well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) cost: &'static str,
}

/// What a try ends with: what is there, or why not.
type Tried = std::result::Result<String, String>;

fn needed(name: &'static str, tried: Tried, cost: &'static str) -> Finding {
    finding(name, State::Missing, tried, cost)
}

fn useful(name: &'static str, tried: Tried, cost: &'static str) -> Finding {
    finding(name, State::Limited, tried, cost)
}

fn finding(name: &'static str, otherwise: State, tried: Tried, cost: &'static str) -> Finding {
    match tried {
        Ok(found) => Finding { name, state: State::Ok, found, cost: "" },
        Err(found) => Finding { name, state: otherwise, found, cost },
    }
}

/// Looks at everything.
pub(crate) fn examine(data_dir: &std::path::Path) -> Vec<Finding> {
    let mut all = kernel::examine();
    all.extend(machine::examine(data_dir));
    all.extend(limits::examine());
    all
}
