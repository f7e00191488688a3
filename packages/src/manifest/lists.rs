//! Lists and maps that are read strictly: a key or item that comes twice means one thing to one reader and another to
//! the next, and an empty list of a scope was meant as nothing by one and as everything by another.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// More of anything than this is no manifest that a person wrote or reads.
pub(crate) const MOST: usize = 256;

/// A map whose keys are all different.
pub(super) fn map<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    struct Unique<K, V>(PhantomData<(K, V)>);
    impl<'de, K, V> Visitor<'de> for Unique<K, V>
    where
        K: Deserialize<'de> + Ord + fmt::Display,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some(key) = access.next_key::<K>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format!("{key} stands here twice")));
                }
                if map.len() == MOST {
                    return Err(A::Error::custom(format!("more than {MOST} of these")));
                }
                map.insert(key, access.next_value()?);
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Unique(PhantomData))
}

/// A list of different items, at most [`MOST`].
pub(super) fn distinct<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq,
{
    list(deserializer, 0)
}

/// The same with at least one item: what a capability is asked for.
pub(super) fn scope<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq,
{
    list(deserializer, 1)
}

fn list<'de, D, T>(deserializer: D, least: usize) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialEq,
{
    struct Distinct<T>(usize, PhantomData<T>);
    impl<'de, T: Deserialize<'de> + PartialEq> Visitor<'de> for Distinct<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = access.next_element::<T>()? {
                if items.contains(&item) {
                    return Err(A::Error::custom("an item stands here twice"));
                }
                if items.len() == MOST {
                    return Err(A::Error::custom(format!("more than {MOST} items")));
                }
                items.push(item);
            }
            if items.len() < self.0 {
                return Err(A::Error::custom(
                    "an empty list grants nothing: name what is needed, or leave the capability out",
                ));
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Distinct(least, PhantomData))
}
