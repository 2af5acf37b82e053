//! A phone written against docs/protocol.md with the codecs only, apart from the wallet's own
//! session.

use super::*;
use crate::credential::{CardCommand, SealingKey, SigningKey};
use crate::domain::{CardId, HolderVerification};
use crate::protocol::{Channel, Fragmenter, Hello, HelloAnswer, decode_offer, digest_offer};

pub(super) struct Phone {
    pub(super) id: PhoneId,
    pub(super) tag: FragmentTag,
    pub(super) value_octets_max: usize,
    pub(super) reassembler: Reassembler,
    pub(super) channel: Option<Channel>,
    pub(super) round_trips: u32,
    pub(super) octets: usize,
}

impl Phone {
    pub(super) fn new(id: u64, value_octets_max: usize) -> Self {
        Self {
            id: PhoneId(id),
            tag: FragmentTag::from_low_bits(id as u8),
            value_octets_max,
            reassembler: Reassembler::default(),
            channel: None,
            round_trips: 0,
            octets: 0,
        }
    }

    pub(super) fn write(&mut self, bench: &mut Bench, kind: MessageKind, message: &[u8]) {
        for value in Fragmenter::new(self.tag).cut(kind, message, self.value_octets_max).unwrap() {
            self.octets += value.len() + 3;
            let value_octets_max = self.value_octets_max;
            bench.input(Input::PhoneWrote { phone: self.id, value_octets_max, value });
        }
    }

    pub(super) fn read(&mut self, bench: &mut Bench) -> Vec<(MessageKind, Vec<u8>)> {
        let values = bench.values_for(self.id);
        values
            .iter()
            .filter_map(|value| {
                assert!(value.len() <= self.value_octets_max);
                assert_eq!(FragmentTag::of_value(value), Some(self.tag));
                self.octets += value.len() + 3;
                self.reassembler.put(value).unwrap()
            })
            .collect()
    }

    pub(super) fn hello(
        &mut self,
        bench: &mut Bench,
        transaction_id: Option<TransactionId>,
    ) -> FromTerminal {
        bench.input(Input::PhoneConnected { phone: self.id, address: None });
        let hello = Hello { value_octets_max: Some(self.value_octets_max as u32), transaction_id };
        let (initiator, message) =
            Initiator::start(&hello.encode(), [self.id.0 as u8 + 10; 32]).unwrap();
        self.write(bench, MessageKind::Handshake, &message);
        self.round_trips += 1;
        let messages = self.read(bench);
        assert_eq!(messages.len(), 1);
        let (channel, terminal_key, answer) = initiator.finish(&messages[0].1).unwrap();
        assert_eq!(terminal_key, identity().certificate.channel_key);
        self.channel = Some(channel);
        HelloAnswer::decode(&answer).unwrap().first
    }

    pub(super) fn say(&mut self, bench: &mut Bench, message: &FromPhone) {
        let sealed = self.channel.as_mut().unwrap().seal(&message.encode()).unwrap();
        self.write(bench, MessageKind::Sealed, &sealed);
    }

    pub(super) fn hear(&mut self, bench: &mut Bench) -> Vec<FromTerminal> {
        let messages = self.read(bench);
        messages
            .into_iter()
            .map(|(kind, message)| match kind {
                MessageKind::Sealed => {
                    FromTerminal::decode(&self.channel.as_mut().unwrap().open(&message).unwrap())
                        .unwrap()
                }
                MessageKind::PlainError => {
                    FromTerminal::Error(decode_plain_error(&message).unwrap())
                }
                MessageKind::Handshake => panic!("an answer to no hello"),
            })
            .collect()
    }

    pub(super) fn command(&self, offer: &[u8]) -> FromPhone {
        let offer_digest = digest_offer(offer);
        let command = CardCommand {
            card_id: CardId::from_octets(&[1; 16]).unwrap(),
            offer_digest,
            counter: self.id.0,
            holder_verification: HolderVerification::Consent,
        };
        let signed = command.sign(&SigningKey::from_scalar(&[8; 32]).unwrap());
        let sealing_key = SealingKey::from_octets([9; 32]).public_key();
        let sealed =
            sealing_key.seal(&signed.encode(), &offer_digest, [self.id.0 as u8; 32]).unwrap();
        let transaction_id = decode_offer(offer).unwrap().transaction_id();
        FromPhone::PaymentCommand { transaction_id, sealed_command: sealed.encode() }
    }

    /// Says hello and is shown an offer.
    pub(super) fn offered(&mut self, bench: &mut Bench) -> Vec<u8> {
        let first = self.hello(bench, None);
        let FromTerminal::Offer(offer) = first else { panic!("no offer but {first:?}") };
        offer
    }

    pub(super) fn pay(&mut self, bench: &mut Bench) -> FromPhone {
        let offer = self.offered(bench);
        let command = self.command(&offer);
        self.say(bench, &command);
        self.round_trips += 1;
        command
    }
}

pub(super) fn outcomes(messages: &[FromTerminal]) -> Vec<Outcome> {
    messages
        .iter()
        .filter_map(|message| match message {
            FromTerminal::Result { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect()
}

pub(super) fn errors(messages: &[FromTerminal]) -> Vec<WireError> {
    messages
        .iter()
        .filter_map(|message| match message {
            FromTerminal::Error(error) => Some(error.wire),
            _ => None,
        })
        .collect()
}

/// A phone writes this value.
pub(super) fn wrote(phone: PhoneId, value: Vec<u8>) -> Input {
    Input::PhoneWrote { phone, value_octets_max: 512, value }
}
