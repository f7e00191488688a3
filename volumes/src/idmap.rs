//! The arithmetic of id maps: pure, without a kernel.
//!
//! `fromId` on the source appears as `toId` in the container, for `range` ids. An id that no range names keeps its
//! number, unless a range gives that number to another. So the map that the kernel is given is the ranges, and
//! identity for every id that is free on both sides.

use std::fmt;
use std::num::ParseIntError;

use linux::userns::Extent;
use protocol::subcontainer::{IdMap, OWN_IDS};

/// The greatest id there is: 2^32-1 stands for none.
const MAX_ID: u64 = u32::MAX as u64 - 1;

/// Which side of a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The ids as they are stored.
    From,
    /// The ids as they are seen inside.
    To,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "source",
            Self::To => "container",
        })
    }
}

/// Shows a range as the CLI takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shown(pub(crate) IdMap);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0.from_id, self.0.to_id, self.0.range)
    }
}

/// Ranges that make no map.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdMapError {
    /// A range of no ids.
    #[error("id map {0} has no ids")]
    Empty(Shown),
    /// A range that ends past the last id.
    #[error("id map {map} ends past the last id, 4294967294, in the {side}")]
    PastEnd {
        /// The range.
        map: Shown,
        /// Where.
        side: Side,
    },
    /// An id that two ranges name.
    #[error("id maps {first} and {second} overlap in the {side}")]
    Overlap {
        /// The one that begins first.
        first: Shown,
        /// The other.
        second: Shown,
        /// Where.
        side: Side,
    },
    /// The container has no such ids.
    #[error("id map {0} ends past 65535, the last id of a container with a user namespace")]
    Outside(Shown),
    /// More ranges, with the gaps between them, than the kernel takes.
    #[error("{0} id maps are more than the kernel takes")]
    TooMany(usize),
}

/// The map that the kernel is given: nothing for no ranges (no id map at all), else extents in the order of their
/// stored ids, `inside` the stored id and `outside` the one seen.
///
/// # Errors
/// When ranges are empty, end past the last id, overlap on either side, or are too many.
pub fn extents(maps: &[IdMap]) -> Result<Vec<Extent>, IdMapError> {
    if maps.is_empty() {
        return Ok(Vec::new());
    }
    for map in maps {
        check(map)?;
    }
    let mut taken: Vec<(u64, u64)> = Vec::with_capacity(maps.len() * 2);
    for side in [Side::From, Side::To] {
        taken.extend(disjoint(maps, side)?);
    }
    taken.sort_unstable();

    let mut extents: Vec<Extent> =
        maps.iter().map(|map| Extent { inside: map.from_id, outside: map.to_id, count: map.range }).collect();
    let mut next = 0;
    for (first, last) in taken {
        identity(&mut extents, next, first);
        next = next.max(last + 1);
    }
    identity(&mut extents, next, MAX_ID + 1);
    extents.sort_unstable_by_key(|extent| extent.inside);
    if linux::userns::fits(&extents) { Ok(extents) } else { Err(IdMapError::TooMany(maps.len())) }
}

/// The map for a container whose ids 0 to 65,535 are the machine's from `first` on.
///
/// # Errors
/// As [`extents`], and when a range ends past the container's last id.
pub(crate) fn extents_within(maps: &[IdMap], first: u32) -> Result<Vec<Extent>, IdMapError> {
    for map in maps {
        check(map)?;
        if bounds(map, Side::To).1 >= u64::from(OWN_IDS) {
            return Err(IdMapError::Outside(Shown(*map)));
        }
    }
    if maps.is_empty() {
        return Ok(vec![Extent { inside: 0, outside: first, count: OWN_IDS }]);
    }
    let own = extents(maps)?.into_iter().filter(|extent| extent.outside < OWN_IDS).map(|extent| Extent {
        outside: first + extent.outside,
        count: extent.count.min(OWN_IDS - extent.outside),
        ..extent
    });
    Ok(own.collect())
}

/// As whom a stored id appears; no extents are no map.
pub(crate) fn seen_as(extents: &[Extent], id: u32) -> Option<u32> {
    if extents.is_empty() {
        return Some(id);
    }
    let extent = extents.iter().find(|extent| id >= extent.inside && id - extent.inside < extent.count)?;
    Some(extent.outside + (id - extent.inside))
}

/// Which stored id appears as this one.
pub(crate) fn stored_as(extents: &[Extent], id: u32) -> Option<u32> {
    if extents.is_empty() {
        return Some(id);
    }
    let extent = extents.iter().find(|extent| id >= extent.outside && id - extent.outside < extent.count)?;
    Some(extent.inside + (id - extent.outside))
}

fn bounds(map: &IdMap, side: Side) -> (u64, u64) {
    let first = u64::from(match side {
        Side::From => map.from_id,
        Side::To => map.to_id,
    });
    // Of a checked map, which has at least one id.
    (first, first + u64::from(map.range).saturating_sub(1))
}

fn check(map: &IdMap) -> Result<(), IdMapError> {
    if map.range == 0 {
        return Err(IdMapError::Empty(Shown(*map)));
    }
    for side in [Side::From, Side::To] {
        if bounds(map, side).1 > MAX_ID {
            return Err(IdMapError::PastEnd { map: Shown(*map), side });
        }
    }
    Ok(())
}

/// First and last ids of the ranges on one side, in order, if none overlap.
fn disjoint(maps: &[IdMap], side: Side) -> Result<Vec<(u64, u64)>, IdMapError> {
    let mut sorted: Vec<&IdMap> = maps.iter().collect();
    sorted.sort_by_key(|map| bounds(map, side));
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && bounds(first, side).1 >= bounds(second, side).0
        {
            return Err(IdMapError::Overlap { first: Shown(**first), second: Shown(**second), side });
        }
    }
    Ok(sorted.into_iter().map(|map| bounds(map, side)).collect())
}

/// Ids from `first` up to, not including, `end` are themselves.
fn identity(extents: &mut Vec<Extent>, first: u64, end: u64) {
    if first < end
        && let (Ok(id), Ok(count)) = (u32::try_from(first), u32::try_from(end - first))
    {
        extents.push(Extent { inside: id, outside: id, count });
    }
}

/// A text that is no `from:to[:range]`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseIdMapError {
    /// Not two or three numbers.
    #[error("{0:?} is not from:to[:range]")]
    Shape(String),
    /// One of them is no id.
    #[error("{part:?} in {text:?} is not an id")]
    Number {
        /// The text.
        text: String,
        /// The part.
        part: String,
        /// Why.
        source: ParseIntError,
    },
    /// The range makes no map by itself.
    #[error(transparent)]
    Map(#[from] IdMapError),
}

/// Reads `from:to[:range]`, as the command line has it; the range is 1 by default.
///
/// # Errors
/// When it is something else, or makes no map.
pub fn parse_id_map(text: &str) -> Result<IdMap, ParseIdMapError> {
    let number = |part: &str| {
        part.parse::<u32>().map_err(|source| ParseIdMapError::Number {
            text: text.to_owned(),
            part: part.to_owned(),
            source,
        })
    };
    let parts: Vec<&str> = text.split(':').collect();
    let map = match parts.as_slice() {
        [from, to] => IdMap { from_id: number(from)?, to_id: number(to)?, range: 1 },
        [from, to, range] => IdMap { from_id: number(from)?, to_id: number(to)?, range: number(range)? },
        _ => return Err(ParseIdMapError::Shape(text.to_owned())),
    };
    check(&map)?;
    Ok(map)
}

#[cfg(test)]
mod tests;
