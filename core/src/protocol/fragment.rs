//! Messages cut into values of a characteristic, and put together again.
//!
//! Each value is one fragment: a header octet, in the first of several the message's length, then
//! content.
//!
//! ```text
//! first fragment          1 L K K T T T T   [length, 2 octets big-endian, where L = 0]   content
//! following fragments     0 L S S T T T T   content
//! L  last fragment of its message          K  kind: 0 handshake, 1 sealed, 2 plain error
//! S  number of the fragment in its message, modulo 4; the first is number 0
//! T  tag of the connection, chosen by the phone
//! ```
//!
//! The tag is there because BlueZ before 5.76 sends the notifications for one phone to every
//! subscriber: a phone ignores fragments with another tag. One octet of header is what ISO 18013-5
//! spends too, and two less than CTAP.

use super::{MESSAGE_OCTETS_MAX, ProtocolError, WireError};

/// The longest value of a characteristic, in octets (Core Specification 5.4, Vol 3 Part F, 3.2.9).
pub const VALUE_OCTETS_MAX: usize = 512;
/// The longest value that every connection can carry: the smallest ATT MTU, 23, less its header of
/// 3.
pub const VALUE_OCTETS_MIN: usize = 20;

const FIRST: u8 = 0x80;
const LAST: u8 = 0x40;
const KIND_SHIFT: u32 = 4;
const NUMBER_SHIFT: u32 = 4;
const TWO_BITS: u8 = 0x03;
const TAG_MASK: u8 = 0x0f;
const LENGTH_OCTETS: usize = 2;

/// The kind of a message, which is visible before decryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A version octet and a Noise handshake message.
    Handshake,
    /// A Noise transport message.
    Sealed,
    /// An `Error` in the clear, which is sent only if there is no channel.
    PlainError,
}

impl MessageKind {
    fn bits(self) -> u8 {
        match self {
            Self::Handshake => 0,
            Self::Sealed => 1,
            Self::PlainError => 2,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Handshake),
            1 => Some(Self::Sealed),
            2 => Some(Self::PlainError),
            _ => None,
        }
    }
}

/// Four bits by which a phone recognises its own fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FragmentTag(u8);

impl FragmentTag {
    /// Reads the tag from the low four bits of an octet.
    pub fn from_low_bits(octet: u8) -> Self {
        Self(octet & TAG_MASK)
    }

    /// Reads the tag of a value; none if the value has no header.
    pub fn of_value(value: &[u8]) -> Option<Self> {
        value.first().copied().map(Self::from_low_bits)
    }
}

/// Cuts messages into values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fragmenter {
    tag: FragmentTag,
}

impl Fragmenter {
    /// Makes a fragmenter for a connection with this tag.
    pub fn new(tag: FragmentTag) -> Self {
        Self { tag }
    }

    /// Cuts a message into values of at most `value_octets_max` octets, which is taken as 20 to
    /// 512.
    ///
    /// # Errors
    /// [`WireError::MessageTooLong`] if the message has more than [`MESSAGE_OCTETS_MAX`] octets.
    pub fn cut(
        &self,
        kind: MessageKind,
        message: &[u8],
        value_octets_max: usize,
    ) -> Result<Vec<Vec<u8>>, ProtocolError> {
        if message.len() > MESSAGE_OCTETS_MAX {
            return Err(ProtocolError::new(
                WireError::MessageTooLong,
                format!("{} octets", message.len()),
            ));
        }
        let value_octets_max = value_octets_max.clamp(VALUE_OCTETS_MIN, VALUE_OCTETS_MAX);
        let first_header = FIRST | kind.bits() << KIND_SHIFT | self.tag.0;
        if message.len() < value_octets_max {
            return Ok(vec![value_of(&[first_header | LAST], message)]);
        }
        let length = u16::try_from(message.len())
            .map_err(|_| {
                ProtocolError::new(WireError::MessageTooLong, format!("{} octets", message.len()))
            })?
            .to_be_bytes();
        let (head, tail) = message.split_at(value_octets_max - 1 - LENGTH_OCTETS);
        let mut values = vec![value_of(&[first_header, length[0], length[1]], head)];
        let mut contents = tail.chunks(value_octets_max - 1).peekable();
        let mut number: u8 = 0;
        while let Some(content) = contents.next() {
            number = number.wrapping_add(1);
            let last = if contents.peek().is_none() { LAST } else { 0 };
            values.push(value_of(
                &[last | (number & TWO_BITS) << NUMBER_SHIFT | self.tag.0],
                content,
            ));
        }
        Ok(values)
    }
}

fn value_of(header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(header.len() + content.len());
    value.extend_from_slice(header);
    value.extend_from_slice(content);
    value
}

/// A message that is not complete yet.
#[derive(Debug)]
struct Partial {
    kind: MessageKind,
    tag: FragmentTag,
    length: usize,
    content: Vec<u8>,
    number: u8,
}

/// Joins fragments to messages. It holds at most one unfinished message.
#[derive(Debug, Default)]
pub struct Reassembler {
    partial: Option<Partial>,
}

impl Reassembler {
    /// Takes one value; returns the message that it completes, if it does.
    ///
    /// After an error the unfinished message is forgotten; the next first fragment starts anew.
    ///
    /// # Errors
    /// [`WireError::MalformedFragment`]: no header, an unknown kind, a first fragment inside a
    /// message, a following fragment outside one, a gap in the numbers, another tag in the middle,
    /// or a last fragment that leaves the message shorter than announced.
    /// [`WireError::MessageTooLong`]: more content than announced or allowed.
    pub fn put(&mut self, value: &[u8]) -> Result<Option<(MessageKind, Vec<u8>)>, ProtocolError> {
        let malformed = |detail: &str| ProtocolError::new(WireError::MalformedFragment, detail);
        // Taken out, so that every error below forgets it.
        let partial = self.partial.take();
        let (&header, rest) = value.split_first().ok_or_else(|| malformed("an empty value"))?;
        let tag = FragmentTag::from_low_bits(header);
        let is_last = header & LAST != 0;
        if header & FIRST != 0 {
            if partial.is_some() {
                return Err(malformed("a first fragment inside a message"));
            }
            let kind = MessageKind::from_bits(header >> KIND_SHIFT & TWO_BITS)
                .ok_or_else(|| malformed("a message of unknown kind"))?;
            if is_last {
                return Ok(Some((kind, rest.to_vec())));
            }
            let (length, content) =
                rest.split_first_chunk::<LENGTH_OCTETS>().ok_or_else(|| malformed("no length"))?;
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MESSAGE_OCTETS_MAX {
                return Err(ProtocolError::new(
                    WireError::MessageTooLong,
                    format!("{length} octets announced"),
                ));
            }
            if content.is_empty() || content.len() >= length {
                return Err(malformed(
                    "a first of several fragments that holds none or all of its message",
                ));
            }
            self.partial =
                Some(Partial { kind, tag, length, content: content.to_vec(), number: 0 });
            return Ok(None);
        }
        let mut partial =
            partial.ok_or_else(|| malformed("a following fragment outside a message"))?;
        if tag != partial.tag {
            return Err(malformed("the tag changed inside a message"));
        }
        let number = partial.number.wrapping_add(1) & TWO_BITS;
        if header >> NUMBER_SHIFT & TWO_BITS != number {
            return Err(malformed("a fragment is missing or doubled"));
        }
        if rest.is_empty() {
            return Err(malformed("a fragment without content"));
        }
        partial.number = number;
        partial.content.extend_from_slice(rest);
        if partial.content.len() > partial.length {
            return Err(ProtocolError::new(
                WireError::MessageTooLong,
                "more content than announced",
            ));
        }
        if !is_last {
            if partial.content.len() == partial.length {
                return Err(malformed(
                    "all content is there, but the fragment is not marked as the last",
                ));
            }
            self.partial = Some(partial);
            return Ok(None);
        }
        if partial.content.len() < partial.length {
            return Err(malformed("the last fragment came before all announced content"));
        }
        Ok(Some((partial.kind, partial.content)))
    }

    /// Forgets an unfinished message if this value begins another, and tells whether it did. A
    /// phone does so before it puts the value: what is left of the lost message will not come. For
    /// a terminal it is an error, as [`Reassembler::put`] says.
    pub fn give_way_to(&mut self, value: &[u8]) -> bool {
        let begins_another = value.first().is_some_and(|header| header & FIRST != 0);
        begins_another && self.partial.take().is_some()
    }

    /// Tells whether a message is unfinished.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message_and_size() -> impl Strategy<Value = (Vec<u8>, usize)> {
        (prop::collection::vec(any::<u8>(), 0..3000), VALUE_OCTETS_MIN..=VALUE_OCTETS_MAX)
    }

    proptest! {
        #[test]
        fn every_message_survives_every_value_size(
            (message, size) in message_and_size(), tag in 0u8..16
        ) {
            let values = Fragmenter::new(FragmentTag::from_low_bits(tag))
                .cut(MessageKind::Sealed, &message, size).unwrap();
            let mut reassembler = Reassembler::default();
            for (index, value) in values.iter().enumerate() {
                prop_assert!(value.len() <= size);
                let message_out = reassembler.put(value).unwrap();
                if index + 1 == values.len() {
                    prop_assert_eq!(message_out, Some((MessageKind::Sealed, message.clone())));
                } else {
                    prop_assert_eq!(message_out, None);
                }
            }
        }

        #[test]
        fn a_lost_doubled_or_swapped_fragment_never_yields_a_wrong_message(
            (message, size) in message_and_size(), at: prop::sample::Index, fault in 0..3usize,
        ) {
            let fragmenter = Fragmenter::default();
            let mut values = fragmenter.cut(MessageKind::Sealed, &message, size).unwrap();
            prop_assume!(values.len() > 2);
            let at = at.index(values.len() - 1);
            match fault {
                0 => { values.remove(at); }
                1 => values.insert(at, values[at].clone()),
                _ => values.swap(at, at + 1),
            }
            let mut reassembler = Reassembler::default();
            let put = |value: &Vec<u8>| reassembler.put(value).ok().flatten();
            let messages: Vec<_> = values.iter().filter_map(put).collect();
            prop_assert!(messages.is_empty() || messages == vec![(MessageKind::Sealed, message)]);
        }

        #[test]
        fn any_values_are_named_errors_at_worst_and_memory_is_bounded(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..40),
        ) {
            let mut reassembler = Reassembler::default();
            for value in values {
                let _ = reassembler.put(&value);
                let held = reassembler.partial.as_ref().map_or(0, |partial| partial.content.len());
                prop_assert!(held <= MESSAGE_OCTETS_MAX);
            }
        }
    }

    #[test]
    fn after_an_error_the_next_message_gets_through() {
        let mut reassembler = Reassembler::default();
        let values = Fragmenter::default().cut(MessageKind::Sealed, &[7; 100], 20).unwrap();
        reassembler.put(&values[0]).unwrap();
        assert_eq!(reassembler.put(&values[0]).unwrap_err().wire, WireError::MalformedFragment);
        for value in &values[..values.len() - 1] {
            assert_eq!(reassembler.put(value), Ok(None));
        }
        assert!(reassembler.put(&values[values.len() - 1]).unwrap().is_some());
    }

    #[test]
    fn an_unfinished_message_gives_way_to_the_beginning_of_another_only() {
        let cut =
            |message: &[u8]| Fragmenter::default().cut(MessageKind::Sealed, message, 20).unwrap();
        let (lost, short, long) = (cut(&[1; 60]), cut(&[2; 5]), cut(&[3; 60]));
        for next in [&short, &long] {
            let mut reassembler = Reassembler::default();
            assert!(!reassembler.give_way_to(&lost[0]), "there is none");
            reassembler.put(&lost[0]).unwrap();
            assert!(!reassembler.give_way_to(&lost[1]) && !reassembler.give_way_to(&[]));
            reassembler.put(&lost[1]).unwrap();
            assert!(reassembler.give_way_to(&next[0]));
            let out: Vec<_> =
                next.iter().filter_map(|value| reassembler.put(value).unwrap()).collect();
            assert_eq!(out.len(), 1);
        }
    }

    #[test]
    fn a_message_over_the_bound_is_neither_sent_nor_taken() {
        let message = vec![0; MESSAGE_OCTETS_MAX + 1];
        assert!(Fragmenter::default().cut(MessageKind::Sealed, &message, 512).is_err());
        let announced = [&[FIRST][..], &0xffff_u16.to_be_bytes(), &[0; 10]].concat();
        assert_eq!(
            Reassembler::default().put(&announced).unwrap_err().wire,
            WireError::MessageTooLong
        );
    }
}
