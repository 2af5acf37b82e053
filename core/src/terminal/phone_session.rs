//! One phone's connection: its fragments, its channel, and what it has been shown.
//!
//! Turns values into messages and messages into values. What a message means is the engine's
//! business.

use crate::domain::{Moment, TransactionId};
use crate::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, MessageKind,
    ProtocolError, Reassembler, VALUE_OCTETS_MAX, VALUE_OCTETS_MIN, WireError, accept,
    encode_plain_error, matching_code,
};

use super::token_bucket::TokenBucket;
use super::{Identity, Settings};

/// What a value completed.
#[derive(Debug)]
pub(super) enum Received {
    /// Nothing yet.
    Fragment,
    /// A first handshake message, still to be answered: see [`PhoneSession::answer_hello`].
    Hello {
        /// The handshake message.
        message: Vec<u8>,
        /// The tag that the phone chose.
        tag: FragmentTag,
    },
    /// A message on the open channel.
    Message(FromPhone),
}

/// One connection.
#[derive(Debug)]
pub(super) struct PhoneSession {
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    channel: Option<Channel>,
    link_octets_max: usize,
    phone_octets_max: usize,
    /// The offer that the phone has in front of it.
    pub(super) shown: Option<TransactionId>,
    /// The only offer that the phone wants, from its engagement link.
    pub(super) wanted: Option<TransactionId>,
    /// The person said no to this one; it is not shown again on this channel.
    pub(super) refused: Option<TransactionId>,
    pub(super) hellos: u32,
    pub(super) faults: u32,
    /// When it has to say something, or be gone.
    pub(super) heard_until: Moment,
    /// When the message that it has begun has to be there.
    message_until: Option<Moment>,
    /// Since when it has held its place without a payment under way.
    pub(super) held_since: Moment,
    values: TokenBucket,
    messages: TokenBucket,
}

impl PhoneSession {
    pub(super) fn new(now: Moment, settings: &Settings) -> Self {
        Self {
            reassembler: Reassembler::default(),
            fragmenter: Fragmenter::default(),
            channel: None,
            link_octets_max: VALUE_OCTETS_MIN,
            phone_octets_max: VALUE_OCTETS_MAX,
            shown: None,
            wanted: None,
            refused: None,
            hellos: 0,
            faults: 0,
            heard_until: now.plus_ms(settings.hello_timeout_ms),
            message_until: None,
            held_since: now,
            values: TokenBucket::new(settings.values_burst_max, settings.values_per_s, now),
            messages: TokenBucket::new(settings.messages_burst_max, settings.messages_per_s, now),
        }
    }

    /// Is there a channel to say things in?
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// When it has to have said something at the latest: anything at all, or the rest of a message.
    pub(super) fn deadline(&self) -> Moment {
        self.message_until.map_or(self.heard_until, |until| until.min(self.heard_until))
    }

    /// Counts a value. False if it writes more than anybody who pays.
    pub(super) fn may_write(&mut self, now: Moment) -> bool {
        self.values.take(now)
    }

    /// Counts a message. False if it says more than anybody who pays.
    pub(super) fn may_say(&mut self, now: Moment) -> bool {
        self.messages.take(now)
    }

    /// Notes how far the message is that it is writing, after a value.
    pub(super) fn set_message_deadline(&mut self, now: Moment, message_timeout_ms: u64) {
        self.message_until = match self.message_until {
            _ if !self.reassembler.is_partial() => None,
            None => Some(now.plus_ms(message_timeout_ms)),
            begun => begun,
        };
    }

    /// Six digits that this phone shows too.
    pub(super) fn matching_code(&self) -> Option<String> {
        self.channel.as_ref().map(|channel| matching_code(channel.handshake_hash()))
    }

    /// Takes a value that the phone wrote.
    ///
    /// After an error there is no channel: what was lost cannot be told from what was altered, and
    /// the phone has to say hello again. Only a message that is well encrypted and makes no
    /// sense leaves it standing.
    pub(super) fn receive(
        &mut self,
        value: &[u8],
        value_octets_max: usize,
    ) -> Result<Received, ProtocolError> {
        self.link_octets_max = value_octets_max;
        let tag = FragmentTag::of_value(value).unwrap_or_default();
        if self.channel.is_none() {
            // Errors before the first good hello carry the tag by which the phone knows them.
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
                "a phone has no errors to tell",
            )),
        }
    }

    /// Answers a hello and opens the channel. `first` chooses what the terminal says first.
    ///
    /// # Errors
    /// What was wrong with the hello; there is no channel then.
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
        if let Some(hello) = heard {
            self.phone_octets_max = hello
                .value_octets_max
                .and_then(|octets| usize::try_from(octets).ok())
                .unwrap_or(VALUE_OCTETS_MAX);
            self.wanted = hello.transaction_id;
        }
        self.channel = Some(channel);
        self.fragmenter.cut(MessageKind::Handshake, &reply, self.value_octets_max())
    }

    /// The values that say `message`: sealed where there is a channel; an error in the clear where
    /// there is none. Anything else cannot be said without a channel: then there are no values.
    pub(super) fn say(&mut self, message: &FromTerminal) -> Vec<Vec<u8>> {
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
            tracing::error!(%error, "a message for a phone cannot be said");
            Vec::new()
        })
    }

    fn value_octets_max(&self) -> usize {
        self.link_octets_max.min(self.phone_octets_max)
    }
}
