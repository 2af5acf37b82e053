//! The handshake, with a stranger on either side and with somebody between the two.
//!
//! The first octet chooses which; the others are the stranger's message, or what is laid over a
//! genuine one.

#![no_main]

use florin::protocol::{Hello, Initiator, MatchingNonce, accept};
use florin_fuzz::KEYS;
use libfuzzer_sys::fuzz_target;

const PHONE_EPHEMERAL: [u8; 32] = [0x21; 32];
const TERMINAL_EPHEMERAL: [u8; 32] = [0x22; 32];

fuzz_target!(|octets: &[u8]| {
    let Some((choice, octets)) = octets.split_first() else { return };
    let matching_commitment = MatchingNonce([0x23; 16]).commitment();
    let hello =
        Hello { value_octets_max: Some(512), transaction_id: None, matching_commitment }.encode();
    let (phone, first) = Initiator::start(&hello, PHONE_EPHEMERAL).expect("a hello");
    match choice % 4 {
        // A strange phone.
        0 => {
            let answered = accept(octets, &KEYS.channel, TERMINAL_EPHEMERAL, |hello| {
                Hello::decode(hello).map(|_| b"answer".to_vec())
            });
            if let Ok((mut channel, reply)) = answered {
                assert!(reply.len() > 1 + 32 + 48, "an answer that proves nothing");
                assert!(channel.open(octets).is_err(), "a stranger's octets opened");
            }
        }
        // A strange terminal: it cannot know the hello's ephemeral secret, but it may answer any
        // way it likes. Only octets that are the genuine terminal's own pass.
        1 => {
            let (_, genuine) = answer_to(&first);
            match phone.finish(octets) {
                Ok(_) => assert_eq!(octets, genuine, "a stranger was believed"),
                Err((phone, _)) => {
                    assert!(phone.finish(&genuine).is_ok(), "a stranger spoilt the handshake")
                }
            }
        }
        // Somebody alters the hello: then the phone takes no answer.
        2 => {
            let altered = laid_over(octets, &first);
            let answered =
                accept(&altered, &KEYS.channel, TERMINAL_EPHEMERAL, |_| Ok(b"answer".to_vec()));
            if let Ok((_, reply)) = answered {
                assert_eq!(
                    phone.finish(&reply).is_ok(),
                    altered == first,
                    "an altered hello was not noticed"
                );
            }
        }
        // Somebody alters the answer.
        _ => {
            let (mut terminal, genuine) = answer_to(&first);
            let altered = laid_over(octets, &genuine);
            match phone.finish(&altered) {
                Ok((mut channel, key, payload)) => {
                    assert!(
                        altered == genuine
                            && key == KEYS.channel.public_key()
                            && payload == b"answer"
                    );
                    let message =
                        channel.seal(octets.get(..64).unwrap_or(octets)).expect("a short message");
                    assert!(terminal.open(&message).is_ok(), "both sides have not the same keys");
                }
                Err(_) => assert!(altered != genuine, "the genuine answer was refused"),
            }
        }
    }
});

fn answer_to(hello: &[u8]) -> (florin::protocol::Channel, Vec<u8>) {
    accept(hello, &KEYS.channel, TERMINAL_EPHEMERAL, |_| Ok(b"answer".to_vec()))
        .expect("a genuine hello")
}

/// The message with every octet altered by the one over it; longer by what is left.
fn laid_over(octets: &[u8], message: &[u8]) -> Vec<u8> {
    let mut altered = message.to_vec();
    for (octet, mask) in altered.iter_mut().zip(octets) {
        *octet ^= mask;
    }
    altered.extend_from_slice(octets.get(message.len()..).unwrap_or_default());
    altered
}
