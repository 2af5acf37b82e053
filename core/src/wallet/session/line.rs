//! The phone's end of the channel: fragments, handshake, decryption. It knows nothing of payments.

use super::exchange::{Notice, Output};
use crate::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, Initiator,
    MatchingNonce, MessageKind, ProtocolError, Reassembler, WireError, decode_plain_error,
    matching_code,
};

/// How many messages that cannot be read are dropped before the session gives up. BlueZ before 5.76
/// sends a phone the notifications of others; of 16, one has this connection's tag.
pub(super) const UNREADABLE_MAX: u32 = 8;

/// The state of the channel.
#[derive(Debug)]
enum Encryption {
    /// The hello is sent.
    Begun(Initiator),
    Open(Channel),
    /// The channel never began, or has ended: nothing can be decrypted any more.
    Closed,
}

/// What a notification means.
#[derive(Debug)]
pub(super) enum Reading {
    /// The value is not for this phone, not yet complete, or not readable: it is ignored.
    Nothing,
    /// The handshake is complete. `terminal_key` is what it proved.
    Answer {
        terminal_key: [u8; 32],
        answer: HelloAnswer,
        octets: usize,
    },
    Message {
        message: FromTerminal,
        octets: usize,
    },
    /// The other end of the channel sent octets that are no message.
    Malformed(ProtocolError),
    PlainError {
        error: ProtocolError,
        octets: usize,
    },
    /// One more than [`UNREADABLE_MAX`].
    TooManyUnreadable,
}

#[derive(Debug)]
pub(super) struct Line {
    tag: FragmentTag,
    fragmenter: Fragmenter,
    reassembler: Reassembler,
    encryption: Encryption,
    matching_nonce: MatchingNonce,
    value_octets_max: usize,
    unreadable: u32,
    /// Of the message that is being put together.
    octets: usize,
}

impl Line {
    /// Opens a line; returns the writes of the hello too.
    pub(super) fn open(
        hello: &Hello,
        tag: u8,
        ephemeral: [u8; 32],
        matching_nonce: MatchingNonce,
        value_octets_max: usize,
    ) -> (Self, Vec<Output>) {
        let tag = FragmentTag::from_low_bits(tag);
        let fragmenter = Fragmenter::new(tag);
        let mut line = Self {
            tag,
            fragmenter,
            reassembler: Reassembler::default(),
            encryption: Encryption::Closed,
            matching_nonce,
            value_octets_max,
            unreadable: 0,
            octets: 0,
        };
        // A hello is short and constant in form. If none could be made, the session would say
        // nothing and time out.
        let outputs = match Initiator::start(&hello.encode(), ephemeral) {
            Ok((initiator, message)) => {
                line.encryption = Encryption::Begun(initiator);
                line.write(MessageKind::Handshake, &message, "hello")
            }
            Err(error) => Err(error),
        };
        debug_assert!(outputs.is_ok(), "a hello can always be made: {outputs:?}");
        (line, outputs.unwrap_or_default())
    }

    /// Returns the writes of a message.
    pub(super) fn say(&mut self, message: &FromPhone) -> Result<Vec<Output>, ProtocolError> {
        let name = match message {
            FromPhone::PaymentCommand { .. } => "payment_command",
            FromPhone::Opening { .. } => "opening",
            FromPhone::Cancel => "cancel",
            FromPhone::ResultQuery { .. } => "result_query",
            FromPhone::ReceiptAck => "receipt_ack",
        };
        let Encryption::Open(channel) = &mut self.encryption else {
            return Err(ProtocolError::new(WireError::ChannelFailed, "the channel is not open"));
        };
        let sealed = channel.seal(&message.encode())?;
        self.write(MessageKind::Sealed, &sealed, name)
    }

    fn write(
        &self,
        kind: MessageKind,
        message: &[u8],
        name: &'static str,
    ) -> Result<Vec<Output>, ProtocolError> {
        let values = self.fragmenter.cut(kind, message, self.value_octets_max)?;
        let octets = values.iter().map(Vec::len).sum();
        let mut outputs: Vec<Output> = values.into_iter().map(Output::Write).collect();
        outputs.push(Output::Tell(Notice::MessageSent { message: name, octets }));
        Ok(outputs)
    }

    /// Reads a notification.
    pub(super) fn read(&mut self, value: &[u8]) -> Reading {
        if FragmentTag::of_value(value) != Some(self.tag) {
            return Reading::Nothing;
        }
        if self.reassembler.give_way_to(value) {
            self.octets = 0;
            if self.count_unreadable() {
                return Reading::TooManyUnreadable;
            }
        }
        self.octets += value.len();
        let (kind, message) = match self.reassembler.put(value) {
            Ok(Some(whole)) => whole,
            Ok(None) => return Reading::Nothing,
            Err(_) => {
                self.octets = 0;
                return self.unreadable();
            }
        };
        let octets = std::mem::take(&mut self.octets);
        match kind {
            MessageKind::Handshake => self.finish(&message, octets),
            MessageKind::Sealed => {
                let Encryption::Open(channel) = &mut self.encryption else {
                    return self.unreadable();
                };
                match channel.open(&message) {
                    Ok(plaintext) => match FromTerminal::decode(&plaintext) {
                        Ok(message) => Reading::Message { message, octets },
                        Err(error) => Reading::Malformed(error),
                    },
                    Err(_) => self.unreadable(),
                }
            }
            MessageKind::PlainError => match decode_plain_error(&message) {
                Ok(error) => Reading::PlainError { error, octets },
                Err(_) => self.unreadable(),
            },
        }
    }

    fn finish(&mut self, message: &[u8], octets: usize) -> Reading {
        match std::mem::replace(&mut self.encryption, Encryption::Closed) {
            Encryption::Begun(initiator) => match initiator.finish(message) {
                Ok((channel, terminal_key, payload)) => {
                    self.encryption = Encryption::Open(channel);
                    match HelloAnswer::decode(&payload) {
                        Ok(answer) => Reading::Answer { terminal_key, answer, octets },
                        Err(error) => Reading::Malformed(error),
                    }
                }
                Err((initiator, _)) => {
                    self.encryption = Encryption::Begun(initiator);
                    self.unreadable()
                }
            },
            other @ (Encryption::Open(_) | Encryption::Closed) => {
                self.encryption = other;
                self.unreadable()
            }
        }
    }

    /// Counts a message that could not be read. Returns true when there were too many.
    pub(super) fn count_unreadable(&mut self) -> bool {
        self.unreadable = self.unreadable.saturating_add(1);
        self.unreadable > UNREADABLE_MAX
    }

    fn unreadable(&mut self) -> Reading {
        if self.count_unreadable() { Reading::TooManyUnreadable } else { Reading::Nothing }
    }

    /// What opens the hello's commitment.
    pub(super) fn matching_nonce(&self) -> MatchingNonce {
        self.matching_nonce
    }

    /// Returns the matching code, six digits; empty while the channel is not open.
    pub(super) fn matching_code(&self) -> String {
        match &self.encryption {
            Encryption::Open(channel) => {
                matching_code(channel.handshake_hash(), &self.matching_nonce)
            }
            Encryption::Begun(_) | Encryption::Closed => String::new(),
        }
    }
}
