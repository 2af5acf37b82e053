//! Values of a characteristic, put together; and whatever comes out of it, cut again at every size.

#![no_main]

use florin::protocol::{
    FragmentTag, Fragmenter, MESSAGE_OCTETS_MAX, Reassembler, VALUE_OCTETS_MAX, VALUE_OCTETS_MIN,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut reassembler = Reassembler::default();
    let mut given = 0;
    for value in florin_fuzz::pieces(octets) {
        let was_partial = reassembler.is_partial();
        given = if was_partial { given + value.len() } else { value.len() };
        match reassembler.put(value) {
            Ok(Some((kind, message))) => {
                assert!(!reassembler.is_partial(), "a message came out and is still held");
                assert!(message.len() < given, "more came out than went in, less a header");
                // A single value holds what it holds; of several, the announced length is bounded.
                assert!(!was_partial || message.len() <= MESSAGE_OCTETS_MAX);
                let Some(tag) = FragmentTag::of_value(value) else {
                    panic!("a message out of an empty value")
                };
                if message.len() <= MESSAGE_OCTETS_MAX {
                    cut_and_put_together(tag, kind, &message);
                }
            }
            Ok(None) => assert!(reassembler.is_partial(), "a fragment was swallowed"),
            Err(_) => assert!(!reassembler.is_partial(), "what was wrong is still held"),
        }
    }
});

fn cut_and_put_together(tag: FragmentTag, kind: florin::protocol::MessageKind, message: &[u8]) {
    for size in [VALUE_OCTETS_MIN, 23, 182, VALUE_OCTETS_MAX] {
        let values = Fragmenter::new(tag).cut(kind, message, size).expect("a message within the bound");
        let mut reassembler = Reassembler::default();
        for (index, value) in values.iter().enumerate() {
            assert!(value.len() <= size && FragmentTag::of_value(value) == Some(tag));
            let out = reassembler.put(value).expect("our own fragments");
            let is_last = index + 1 == values.len();
            assert_eq!(out, is_last.then(|| (kind, message.to_vec())));
        }
    }
}
