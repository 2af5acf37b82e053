//! Values of a characteristic, put together; and whatever comes out of it, cut again at every size.

#![no_main]

use florin::protocol::{
    FragmentTag, Fragmenter, MESSAGE_OCTETS_MAX, Reassembler, VALUE_OCTETS_MAX, VALUE_OCTETS_MIN,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut reassembler = Reassembler::default();
    // Those of the message that is not whole yet.
    let mut values: Vec<&[u8]> = Vec::new();
    for value in florin_fuzz::pieces(octets) {
        values.push(value);
        match reassembler.put(value) {
            Ok(Some((kind, message))) => {
                assert!(!reassembler.is_partial(), "a message came out and is still held");
                let tag = put_together(&values, &message);
                if message.len() <= MESSAGE_OCTETS_MAX {
                    cut_and_put_together(tag, kind, &message);
                }
                values.clear();
            }
            Ok(None) => assert!(reassembler.is_partial(), "a fragment was swallowed"),
            Err(_) => {
                assert!(!reassembler.is_partial(), "what was wrong is still held");
                values.clear();
            }
        }
    }
});

/// The rules of docs/protocol.md, said a second time: what came out is what these values say
/// together.
fn put_together(values: &[&[u8]], message: &[u8]) -> FragmentTag {
    let (first, following) = values.split_first().expect("a message out of nothing");
    let tag = FragmentTag::of_value(first).expect("a message out of an empty value");
    assert!(first[0] & 0x80 != 0, "it does not begin with a first fragment");
    for (index, value) in values.iter().enumerate() {
        assert_eq!(
            value[0] & 0x40 != 0,
            index + 1 == values.len(),
            "the last is marked, and no other"
        );
        assert_eq!(FragmentTag::of_value(value), Some(tag), "one tag");
    }
    if following.is_empty() {
        assert_eq!(message, &first[1..]);
        return tag;
    }
    assert_eq!(
        usize::from(u16::from_be_bytes([first[1], first[2]])),
        message.len(),
        "the announced length"
    );
    assert!(message.len() <= MESSAGE_OCTETS_MAX);
    let mut content = first[3..].to_vec();
    for (number, value) in (1_usize..).zip(following) {
        assert_eq!((value[0] & 0x80, usize::from(value[0] >> 4 & 3)), (0, number % 4), "in order");
        content.extend_from_slice(&value[1..]);
    }
    assert_eq!(content, message);
    tag
}

fn cut_and_put_together(tag: FragmentTag, kind: florin::protocol::MessageKind, message: &[u8]) {
    for size in [VALUE_OCTETS_MIN, 23, 182, VALUE_OCTETS_MAX] {
        let values =
            Fragmenter::new(tag).cut(kind, message, size).expect("a message within the bound");
        let mut reassembler = Reassembler::default();
        for (index, value) in values.iter().enumerate() {
            assert!(value.len() <= size && FragmentTag::of_value(value) == Some(tag));
            let out = reassembler.put(value).expect("our own fragments");
            let is_last = index + 1 == values.len();
            assert_eq!(out, is_last.then(|| (kind, message.to_vec())));
        }
    }
}
