//! Every message between phone and terminal: what is read is written and read again as the same.

#![no_main]

use florin::protocol::{
    FromPhone, FromTerminal, Hello, HelloAnswer, Info, decode_offer, decode_plain_error,
    encode_offer, encode_plain_error,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(info) = Info::decode(octets) {
        assert_eq!(Info::decode(&info.encode()).as_ref(), Ok(&info));
    }
    if let Ok(hello) = Hello::decode(octets) {
        assert_eq!(Hello::decode(&hello.encode()).as_ref(), Ok(&hello));
    }
    if let Ok(answer) = HelloAnswer::decode(octets) {
        assert_eq!(HelloAnswer::decode(&answer.encode()).as_ref(), Ok(&answer));
        if let FromTerminal::Offer(offer) = &answer.first {
            read_offer(offer);
        }
    }
    if let Ok(message) = FromPhone::decode(octets) {
        assert_eq!(FromPhone::decode(&message.encode()).as_ref(), Ok(&message));
    }
    if let Ok(message) = FromTerminal::decode(octets) {
        assert_eq!(FromTerminal::decode(&message.encode()).as_ref(), Ok(&message));
    }
    if let Ok(error) = decode_plain_error(octets) {
        assert_eq!(decode_plain_error(&encode_plain_error(&error)).as_ref(), Ok(&error));
    }
    read_offer(octets);
});

fn read_offer(octets: &[u8]) {
    if let Ok(offer) = decode_offer(octets) {
        assert_eq!(decode_offer(&encode_offer(&offer)).as_ref(), Ok(&offer));
        assert!(offer.amount().minor() > 0);
        assert!(offer.reference().len() <= 64 && offer.items().len() <= 32);
        assert!((1..=3600).contains(&offer.valid_for_s()));
    }
}
