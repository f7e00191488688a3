use proptest::prelude::*;

use super::*;

fn map(from_id: u32, to_id: u32, range: u32) -> IdMap {
    IdMap { from_id, to_id, range }
}

fn extent(inside: u32, outside: u32, count: u32) -> Extent {
    Extent { inside, outside, count }
}

/// How the map's words say that a stored id appears.
fn said(maps: &[IdMap], id: u32) -> Option<u32> {
    let named = maps.iter().find(|map| id >= map.from_id && id - map.from_id < map.range);
    match named {
        Some(map) => Some(map.to_id + (id - map.from_id)),
        None if maps.iter().any(|map| id >= map.to_id && id - map.to_id < map.range) => None,
        None => Some(id),
    }
}

/// What the kernel makes of the extents.
fn made(extents: &[Extent], id: u32) -> Option<u32> {
    let mut found = extents.iter().filter(|extent| id >= extent.inside && id - extent.inside < extent.count);
    let extent = found.next()?;
    assert!(found.next().is_none(), "{id} is in two extents");
    Some(extent.outside + (id - extent.inside))
}

#[test]
fn no_ranges_are_no_map() {
    assert_eq!(extents(&[]), Ok(vec![]));
}

#[test]
fn s14_one_range_leaves_the_rest_as_it_is() {
    assert_eq!(
        extents(&[map(0, 100, 1)]),
        Ok(vec![extent(0, 100, 1), extent(1, 1, 99), extent(101, 101, u32::MAX - 101)])
    );
}

#[test]
fn s14_a_range_onto_itself_changes_nothing() {
    let same = extents(&[map(5, 5, 10)]).unwrap();
    for id in [0, 4, 5, 14, 15, u32::MAX - 1] {
        assert_eq!(made(&same, id), Some(id));
    }
}

#[test]
fn s14_two_ranges_can_exchange_ids() {
    let swapped = extents(&[map(0, 1000, 1), map(1000, 0, 1)]).unwrap();
    assert_eq!((made(&swapped, 0), made(&swapped, 1000), made(&swapped, 7)), (Some(1000), Some(0), Some(7)));
}

#[test]
fn s14_a_range_over_itself_shifted_hides_the_numbers_it_takes() {
    // 0..10 appear as 5..15: 10..15 are taken, and nothing appears as 0..5.
    let shifted = extents(&[map(0, 5, 10)]).unwrap();
    assert_eq!(made(&shifted, 0), Some(5));
    assert_eq!(made(&shifted, 9), Some(14));
    assert_eq!(made(&shifted, 10), None);
    assert_eq!(made(&shifted, 15), Some(15));
    assert!((0..5).all(|seen| !(0..20).any(|id| made(&shifted, id) == Some(seen))));
}

#[test]
fn s14_all_ids_can_be_in_one_range() {
    assert_eq!(extents(&[map(0, 0, u32::MAX)]), Ok(vec![extent(0, 0, u32::MAX)]));
}

#[test]
fn s14_bad_ranges_are_named() {
    for (maps, message) in [
        (vec![map(5, 10, 0)], "id map 5:10:0 has no ids"),
        (vec![map(u32::MAX, 0, 1)], "id map 4294967295:0:1 ends past the last id, 4294967294, in the source"),
        (
            vec![map(0, 4_294_967_290, 6)],
            "id map 0:4294967290:6 ends past the last id, 4294967294, in the container",
        ),
        (vec![map(3, 50, 2), map(0, 5, 10)], "id maps 0:5:10 and 3:50:2 overlap in the source"),
        (vec![map(0, 5, 10), map(100, 14, 2)], "id maps 0:5:10 and 100:14:2 overlap in the container"),
        (vec![map(1, 2, 1), map(1, 2, 1)], "id maps 1:2:1 and 1:2:1 overlap in the source"),
    ] {
        assert_eq!(extents(&maps).unwrap_err().to_string(), message);
    }
    assert!(extents(&[map(0, 4_294_967_290, 5)]).is_ok());
    let many: Vec<IdMap> = (0..200).map(|n| map(n * 4, n * 4 + 1, 1)).collect();
    assert_eq!(extents(&many).unwrap_err().to_string(), "200 id maps are more than the kernel takes");
}

#[test]
fn s3_id_maps_of_the_command_line() {
    assert_eq!(parse_id_map("0:100"), Ok(map(0, 100, 1)));
    assert_eq!(parse_id_map("0:100000:65536"), Ok(map(0, 100_000, 65536)));
    for (text, message) in [
        ("", "\"\" is not from:to[:range]"),
        ("5", "\"5\" is not from:to[:range]"),
        ("1:2:3:4", "\"1:2:3:4\" is not from:to[:range]"),
        ("a:2", "\"a\" in \"a:2\" is not an id"),
        ("1:-2", "\"-2\" in \"1:-2\" is not an id"),
        ("1:2:", "\"\" in \"1:2:\" is not an id"),
        ("1:4294967296", "\"4294967296\" in \"1:4294967296\" is not an id"),
        ("1:2:0", "id map 1:2:0 has no ids"),
    ] {
        assert_eq!(parse_id_map(text).unwrap_err().to_string(), message);
    }
}

/// Ids close together, so that ranges touch and overlap, and close to both ends.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..60_u32, 1 => (u32::MAX - 40)..=u32::MAX, 1 => any::<u32>()]
}

fn maps() -> impl Strategy<Value = Vec<IdMap>> {
    let range = prop_oneof![8 => 0..12_u32, 1 => any::<u32>()];
    prop::collection::vec((id(), id(), range).prop_map(|(from, to, range)| map(from, to, range)), 1..5)
}

fn overlaps(a: (u32, u32), b: (u32, u32)) -> bool {
    let end = |(first, range): (u32, u32)| u64::from(first) + u64::from(range);
    u64::from(a.0) < end(b) && u64::from(b.0) < end(a)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s14_the_extents_do_what_the_ranges_say(maps in maps(), ids in prop::collection::vec(id(), 50)) {
        let Ok(extents) = extents(&maps) else { return Ok(()) };
        let edges = maps.iter().flat_map(|map| {
            [map.from_id, map.to_id].into_iter().flat_map(|first| {
                [first.wrapping_sub(1), first, first + (map.range - 1), first.wrapping_add(map.range)]
            })
        });
        for id in ids.into_iter().chain(edges).filter(|id| *id != u32::MAX) {
            prop_assert_eq!(made(&extents, id), said(&maps, id), "{}", id);
            prop_assert_eq!(seen_as(&extents, id), said(&maps, id), "{}", id);
            if let Some(seen) = seen_as(&extents, id) {
                prop_assert_eq!(stored_as(&extents, seen), Some(id));
            }
        }
    }

    #[test]
    fn s14_no_two_ids_appear_as_one(maps in maps()) {
        let Ok(extents) = extents(&maps) else { return Ok(()) };
        for (at, a) in extents.iter().enumerate() {
            prop_assert!(u64::from(a.inside) + u64::from(a.count) <= u64::from(u32::MAX));
            prop_assert!(u64::from(a.outside) + u64::from(a.count) <= u64::from(u32::MAX));
            for b in &extents[at + 1..] {
                prop_assert!(!overlaps((a.inside, a.count), (b.inside, b.count)));
                prop_assert!(!overlaps((a.outside, a.count), (b.outside, b.count)));
            }
        }
    }

    #[test]
    fn s14_exactly_the_bad_ranges_are_refused(maps in maps()) {
        let bad = maps.iter().enumerate().any(|(at, a)| {
            let past = |first: u32| u64::from(first) + u64::from(a.range) > u64::from(u32::MAX);
            a.range == 0 || past(a.from_id) || past(a.to_id) || maps[at + 1..].iter().any(|b| {
                overlaps((a.from_id, a.range), (b.from_id, b.range))
                    || overlaps((a.to_id, a.range), (b.to_id, b.range))
            })
        });
        prop_assert_eq!(extents(&maps).is_err(), bad);
    }

    #[test]
    fn s3_what_is_shown_reads_back(from in 0..1000_u32, to in 0..1000_u32, range in 1..1000_u32) {
        let map = map(from, to, range);
        prop_assert_eq!(parse_id_map(&Shown(map).to_string()), Ok(map));
    }
}
