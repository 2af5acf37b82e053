//! One phone's connection: its fragments, its channel, its limits and the offer that it shows.
//!
//! It turns values into messages and messages into values. What a message means is the engine's
//! business.

use crate::domain::{Moment, TransactionId};
use crate::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, MessageKind,
    ProtocolError, Reassembler, VALUE_OCTETS_MAX, VALUE_OCTETS_MIN, WireError, accept,
    encode_plain_error, matching_code,
};

use super::timers::PhoneTimer;
use super::token_bucket::TokenBucket;
use super::{Identity, PhoneAddress, Settings};

/// What a value completes.
#[derive(Debug)]
pub(super) enum Received {
    Fragment,
    /// A first handshake message, which [`PhoneSession::answer_hello`] answers. The tag is the one
    /// that the phone chose.
    Hello {
        message: Vec<u8>,
        tag: FragmentTag,
    },
    /// A message on the open channel.
    Message(FromPhone),
}

/// One phone's connection.
#[derive(Debug)]
pub(super) struct PhoneSession {
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    channel: Option<Channel>,
    link_octets_max: usize,
    phone_octets_max: usize,
    /// The offer that the phone shows.
    pub(super) shown: Option<TransactionId>,
    /// The only offer that the phone accepts, from its engagement link.
    pub(super) wanted: Option<TransactionId>,
    /// The offer that the person refused. It is not shown again on this channel.
    pub(super) refused: Option<TransactionId>,
    /// Its device address, once the link has reported it.
    pub(super) address: Option<PhoneAddress>,
    pub(super) has_said_hello: bool,
    pub(super) hellos: u32,
    pub(super) protocol_errors: u32,
    /// When the phone has to have said something more.
    pub(super) silence_ends_at: Moment,
    /// When the message that the phone has begun has to be complete.
    message_ends_at: Option<Moment>,
    /// Since when the phone has held its slot without a payment under way.
    pub(super) held_since: Moment,
    values: TokenBucket,
    messages: TokenBucket,
}

impl PhoneSession {
    pub(super) fn new(address: Option<PhoneAddress>, now: Moment, settings: &Settings) -> Self {
        Self {
            reassembler: Reassembler::default(),
            fragmenter: Fragmenter::default(),
            channel: None,
            link_octets_max: VALUE_OCTETS_MIN,
            phone_octets_max: VALUE_OCTETS_MAX,
            shown: None,
            wanted: None,
            refused: None,
            address,
            has_said_hello: false,
            hellos: 0,
            protocol_errors: 0,
            silence_ends_at: now.plus_ms(settings.hello_timeout_ms),
            message_ends_at: None,
            held_since: now,
            values: TokenBucket::new(settings.values_burst_max, settings.values_per_s, now),
            messages: TokenBucket::new(settings.messages_burst_max, settings.messages_per_s, now),
        }
    }

    /// Is there a channel?
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// When the phone is disconnected unless it says something, and what it has to say.
    pub(super) fn deadline(&self) -> (Moment, PhoneTimer) {
        match self.message_ends_at {
            Some(ends_at) if ends_at < self.silence_ends_at => {
                (ends_at, PhoneTimer::UnfinishedMessage)
            }
            Some(_) | None => (self.silence_ends_at, PhoneTimer::Silence),
        }
    }

    /// Counts a value. False if the phone writes more than any phone that pays.
    pub(super) fn may_write(&mut self, now: Moment) -> bool {
        self.values.take(now)
    }

    /// Counts a message. False if the phone sends more than any phone that pays.
    pub(super) fn may_send(&mut self, now: Moment) -> bool {
        self.messages.take(now)
    }

    /// After a value: starts the time for a message that the value began, and stops it when the
    /// message is complete.
    pub(super) fn update_message_deadline(&mut self, now: Moment, message_timeout_ms: u64) {
        self.message_ends_at = match self.message_ends_at {
            _ if !self.reassembler.is_partial() => None,
            None => Some(now.plus_ms(message_timeout_ms)),
            begun => begun,
        };
    }

    /// Six digits that the phone shows too.
    pub(super) fn matching_code(&self) -> Option<String> {
        self.channel.as_ref().map(|channel| matching_code(channel.handshake_hash()))
    }

    /// Takes a value that the phone wrote.
    ///
    /// # Errors
    /// What is wrong with the value or the message. The channel is closed then, because nobody can
    /// tell what was lost from what was altered, and the phone has to say hello again. Only a
    /// message that decrypts and does not decode leaves the channel open.
    pub(super) fn receive(
        &mut self,
        value: &[u8],
        value_octets_max: usize,
    ) -> Result<Received, ProtocolError> {
        self.link_octets_max = value_octets_max;
        let tag = FragmentTag::of_value(value).unwrap_or_default();
        if self.channel.is_none() {
            // Until a hello succeeds, errors carry the tag that the phone used last.
            self.fragmenter = Fragmenter::new(tag);
        }
        let (kind, message) = match self.reassembler.put(value) {
            Ok(None) => return Ok(Received::Fragment),
            Ok(Some(whole)) => whole,
            Err(error) => {
                self.channel = None;
                return Err(error);
            }
        };
        match kind {
            MessageKind::Handshake => Ok(Received::Hello { message, tag }),
            MessageKind::Sealed => {
                let channel = self.channel.as_mut().ok_or_else(|| {
                    ProtocolError::new(
                        WireError::UnexpectedMessage,
                        "a sealed message before a hello",
                    )
                })?;
                match channel.open(&message) {
                    Ok(plaintext) => FromPhone::decode(&plaintext).map(Received::Message),
                    Err(error) => {
                        self.channel = None;
                        Err(error)
                    }
                }
            }
            MessageKind::PlainError => Err(ProtocolError::new(
                WireError::UnexpectedMessage,
                "a phone sends no plain errors",
            )),
        }
    }

    /// Answers a hello and opens the channel. `first` chooses the terminal's first message.
    ///
    /// # Errors
    /// What is wrong with the hello. There is no channel then.
    pub(super) fn answer_hello(
        &mut self,
        message: &[u8],
        tag: FragmentTag,
        identity: &Identity,
        ephemeral: [u8; 32],
        first: impl FnOnce(&Hello) -> FromTerminal,
    ) -> Result<Vec<Vec<u8>>, ProtocolError> {
        self.channel = None;
        self.shown = None;
        self.refused = None;
        self.fragmenter = Fragmenter::new(tag);
        let mut heard = None;
        let (channel, reply) = accept(message, &identity.channel_key, ephemeral, |payload| {
            let hello = Hello::decode(payload)?;
            let answer = HelloAnswer {
                certificate: identity.certificate_octets.clone(),
                first: first(&hello),
            };
            heard = Some(hello);
            Ok(answer.encode())
        })?;
        debug_assert!(heard.is_some(), "a hello is accepted only after its payload was read");
        if let Some(hello) = heard {
            self.phone_octets_max = hello
                .value_octets_max
                .and_then(|octets| usize::try_from(octets).ok())
                .unwrap_or(VALUE_OCTETS_MAX);
            self.wanted = hello.transaction_id;
        }
        self.channel = Some(channel);
        self.has_said_hello = true;
        self.fragmenter.cut(MessageKind::Handshake, &reply, self.value_octets_max())
    }

    /// The values that carry `message`: sealed if there is a channel. Without one an error is sent
    /// in the clear, and there are no values for any other message.
    pub(super) fn encode(&mut self, message: &FromTerminal) -> Vec<Vec<u8>> {
        let value_octets_max = self.value_octets_max();
        let cut = match (&mut self.channel, message) {
            (Some(channel), message) => channel.seal(&message.encode()).and_then(|sealed| {
                self.fragmenter.cut(MessageKind::Sealed, &sealed, value_octets_max)
            }),
            (None, FromTerminal::Error(error)) => self.fragmenter.cut(
                MessageKind::PlainError,
                &encode_plain_error(error),
                value_octets_max,
            ),
            (None, _) => return Vec::new(),
        };
        cut.unwrap_or_else(|error| {
            tracing::error!(%error, "a message for a phone cannot be encoded");
            Vec::new()
        })
    }

    fn value_octets_max(&self) -> usize {
        self.link_octets_max.min(self.phone_octets_max)
    }
}
