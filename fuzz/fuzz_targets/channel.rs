//! Sealed messages on an open channel, while somebody between the two drops, repeats, alters, swaps
//! and invents some.
//!
//! Each piece is a step: its first octet says what happens, the others are content. A model that
//! only counts says which messages have to open: the next one in order, and no other.

#![no_main]

use florin::protocol::{Channel, Initiator, accept};
use florin_fuzz::KEYS;
use libfuzzer_sys::fuzz_target;

/// One direction of the channel: what was sealed, and how many of it have opened.
#[derive(Default)]
struct Direction {
    sealed: Vec<(Vec<u8>, Vec<u8>)>,
    opened: usize,
}

fuzz_target!(|octets: &[u8]| {
    let (initiator, hello) = Initiator::start(b"", [0x21; 32]).expect("a hello");
    let answered = accept(&hello, &KEYS.channel, [0x22; 32], |_| Ok(Vec::new()));
    let (mut terminal, reply) = answered.expect("a genuine hello");
    let Ok((mut phone, _, _)) = initiator.finish(&reply) else { panic!("a genuine answer") };
    let (mut up, mut down) = (Direction::default(), Direction::default());
    for step in florin_fuzz::pieces(octets).take(64) {
        let Some((choice, content)) = step.split_first() else { continue };
        let (direction, other, sender, receiver) = if choice & 0x80 == 0 {
            (&mut up, &down, &mut phone, &mut terminal)
        } else {
            (&mut down, &up, &mut terminal, &mut phone)
        };
        match choice & 0x07 {
            // Seal a message; a later step may deliver it.
            0 | 1 => {
                if let Ok(message) = sender.seal(content) {
                    direction.sealed.push((content.to_vec(), message));
                }
            }
            // Deliver one of those that were sealed: the next, or any.
            2 => deliver(direction, receiver, direction.opened),
            3 => {
                let index = content.first().copied().unwrap_or_default();
                deliver(direction, receiver, usize::from(index));
            }
            // Deliver one altered.
            4 => {
                if let Some((_, message)) = direction.sealed.get(direction.opened) {
                    let mut altered = message.clone();
                    for (octet, mask) in altered.iter_mut().zip(content) {
                        *octet ^= mask;
                    }
                    if altered != *message {
                        assert!(receiver.open(&altered).is_err(), "an altered message opened");
                    }
                }
            }
            // Invent one.
            5 => {
                let is_genuine =
                    direction.sealed.get(direction.opened).is_some_and(|next| next.1 == content);
                if !is_genuine {
                    assert!(receiver.open(content).is_err(), "an invented message opened");
                }
            }
            // Send one back to whoever sealed it.
            _ => {
                if let Some((_, message)) = other.sealed.get(direction.opened) {
                    assert!(receiver.open(message).is_err(), "a reflected message opened");
                }
            }
        }
    }
});

fn deliver(direction: &mut Direction, receiver: &mut Channel, index: usize) {
    let Some((content, message)) = direction.sealed.get(index) else { return };
    let opened = receiver.open(message);
    if index == direction.opened {
        assert_eq!(opened.as_ref(), Ok(content), "the next message did not open");
        direction.opened += 1;
    } else {
        assert!(opened.is_err(), "message {index} opened, and {} was next", direction.opened);
    }
}
