//! What others learn of who pays: nothing that links two payments of one card.
//!
//! A listener gets every value on the air, in both directions. A merchant gets what the terminal
//! decrypts. For each of the two, the test looks for octets that two payments of one card have in
//! common and a payment of another card has not.

#![cfg(feature = "wallet")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use florin::credential::{SealedCommand, SigningKey, sign_exclusion, sign_receipt};
use florin::domain::{CardId, Exclusion, Moment, Offer, Outcome, Receipt, TransactionId};
use florin::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, HelloAnswer, MessageKind,
    Reassembler, accept, digest_offer, encode_offer,
};
use florin::wallet::fixtures::{
    NOW, TAG, card, certificate, certificate_key, channel_key, offer_with, receipt_key, root_key,
    seed, settings,
};
use florin::wallet::{Card, CardParts, Decision, Input, Output, Reservation, Session, SessionSeed};

/// Random octets are equal by chance in one or two places, not in four in a row.
const COMMON_OCTETS: usize = 4;
const VALUE_OCTETS: usize = 200;

/// What two parties get of one payment.
#[derive(Default)]
struct Observed {
    /// Every value on the air, in order.
    on_the_air: Vec<Vec<u8>>,
    /// Every message that the terminal decrypts or relays.
    at_the_terminal: Vec<Vec<u8>>,
}

impl Observed {
    /// Every run of octets on the air.
    fn air_runs(&self) -> BTreeSet<Vec<u8>> {
        runs(&self.on_the_air)
    }

    fn terminal_runs(&self) -> BTreeSet<Vec<u8>> {
        runs(&self.at_the_terminal)
    }

    fn air_lengths(&self) -> Vec<usize> {
        self.on_the_air.iter().map(Vec::len).collect()
    }

    fn terminal_lengths(&self) -> Vec<usize> {
        self.at_the_terminal.iter().map(Vec::len).collect()
    }
}

fn runs(texts: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    texts.iter().flat_map(|text| text.windows(COMMON_OCTETS)).map(<[u8]>::to_vec).collect()
}

/// What the first two have in common, and the third has not.
fn linked(
    first: &BTreeSet<Vec<u8>>,
    second: &BTreeSet<Vec<u8>>,
    other: &BTreeSet<Vec<u8>>,
) -> Vec<Vec<u8>> {
    first.intersection(second).filter(|run| !other.contains(*run)).cloned().collect()
}

/// Another card of the same institution.
fn other_card() -> Arc<Card> {
    let card = card();
    Arc::new(
        Card::new(CardParts {
            name: "other".parse().unwrap(),
            card_id: CardId::from_octets(&[0xcd; 16]).unwrap(),
            key: SigningKey::from_scalar(&[0x44; 32]).unwrap(),
            payment_limit: card.payment_limit(),
            not_after: card.not_after(),
            root_key: root_key().verifying_key(),
            signed_keyring: card.signed_keyring().clone(),
        })
        .unwrap(),
    )
}

/// The terminal's end of one connection.
struct Terminal {
    reassembler: Reassembler,
    fragmenter: Fragmenter,
    channel: Option<Channel>,
    observed: Observed,
}

impl Terminal {
    /// The whole messages in these outputs.
    fn hear(&mut self, outputs: &[Output]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for output in outputs {
            if let Output::Write(value) = output {
                self.observed.on_the_air.push(value.clone());
                messages.extend(self.reassembler.put(value).unwrap().map(|(_, message)| message));
            }
        }
        messages
    }

    fn open(&mut self, outputs: &[Output]) -> Vec<FromPhone> {
        let messages = self.hear(outputs);
        let mut opened = Vec::new();
        for message in messages {
            let plaintext = self.channel.as_mut().unwrap().open(&message).unwrap();
            self.observed.at_the_terminal.push(plaintext.clone());
            opened.push(FromPhone::decode(&plaintext).unwrap());
        }
        opened
    }

    fn say(&mut self, kind: MessageKind, message: &[u8], session: &mut Session) -> Vec<Output> {
        let values = self.fragmenter.cut(kind, message, VALUE_OCTETS).unwrap();
        self.observed.on_the_air.extend(values.iter().cloned());
        let now = Moment { milliseconds: 10 };
        let give = |value| session.handle(now, Input::Value(value)).unwrap();
        values.into_iter().flat_map(give).collect()
    }

    fn seal(&mut self, message: &FromTerminal) -> Vec<u8> {
        self.channel.as_mut().unwrap().seal(&message.encode()).unwrap()
    }
}

fn offer(number: u8) -> Offer {
    offer_with(|parts| {
        parts.transaction_id = TransactionId::from_random([number; 16]);
        parts.nonce = [number.wrapping_add(100); 16];
    })
}

/// A payment from hello to the receipt's acknowledgement. Everything random follows from `number`.
fn pay(card: &Arc<Card>, number: u8, counter: u64, session_seed: SessionSeed) -> Observed {
    let mut terminal = Terminal {
        reassembler: Reassembler::default(),
        fragmenter: Fragmenter::new(FragmentTag::from_low_bits(TAG)),
        channel: None,
        observed: Observed::default(),
    };
    let now = Moment { milliseconds: 0 };
    let (mut session, hello) =
        Session::pay(Arc::clone(card), settings(), session_seed, now).unwrap();
    let hello = terminal.hear(&hello).remove(0);
    let offer = offer(number);
    let offer_octets = encode_offer(&offer);
    let (channel, answer) = accept(&hello, &channel_key(), [number; 32], |_| {
        let certificate = certificate().sign(&certificate_key()).encode();
        Ok(HelloAnswer { certificate, first: FromTerminal::Offer(offer_octets.clone()) }.encode())
    })
    .unwrap();
    terminal.channel = Some(channel);
    let outputs = terminal.say(MessageKind::Handshake, &answer, &mut session);
    assert!(matches!(terminal.open(&outputs)[..], [FromPhone::Opening { .. }]));
    session.handle(now, Input::Decided(Decision::Pay)).unwrap();
    session.handle(now, Input::Reserved(Reservation::Counter(counter))).unwrap();
    let outputs = session.handle(now, Input::Stored).unwrap();
    let Some(FromPhone::PaymentCommand { sealed_command, .. }) = terminal.open(&outputs).pop()
    else {
        panic!("no command")
    };
    let receipt = Receipt {
        transaction_id: offer.transaction_id(),
        offer_digest: digest_offer(&offer_octets),
        ..florin::wallet::fixtures::receipt(SealedCommand::digest_of_encoded(&sealed_command))
    };
    let exclusion = Exclusion {
        transaction_id: offer.transaction_id(),
        terminal_id: offer.terminal_id(),
        command_digest: Some(receipt.command_digest),
        decided_at: NOW,
    };
    let signed = sign_receipt(&receipt, &receipt_key()).encode();
    terminal.observed.at_the_terminal.push(signed.clone());
    terminal.observed.at_the_terminal.push(sign_exclusion(&exclusion, &receipt_key()).encode());
    let result = FromTerminal::Result {
        transaction_id: offer.transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed),
    };
    let sealed = terminal.seal(&result);
    terminal.say(MessageKind::Sealed, &sealed, &mut session);
    let outputs = session.handle(now, Input::Stored).unwrap();
    assert_eq!(terminal.open(&outputs), [FromPhone::ReceiptAck]);
    terminal.observed
}

#[test]
fn who_listens_cannot_tell_two_payments_of_one_card_from_payments_of_two_cards() {
    let first = pay(&card(), 11, 1, seed(11));
    let second = pay(&card(), 22, 1 << 40, seed(22));
    let other = pay(&other_card(), 33, 300, seed(33));
    // A card that has paid often looks like a new one, and all values are as long as each other.
    assert_eq!(first.air_lengths(), second.air_lengths());
    assert_eq!(first.air_lengths(), other.air_lengths());
    let linked = linked(&first.air_runs(), &second.air_runs(), &other.air_runs());
    assert_eq!(linked, Vec::<Vec<u8>>::new(), "common to the card's payments only");
}

#[test]
fn a_merchant_cannot_tell_two_payments_of_one_card_from_payments_of_two_cards() {
    let first = pay(&card(), 11, 1, seed(11));
    let second = pay(&card(), 22, 1 << 40, seed(22));
    let other = pay(&other_card(), 33, 300, seed(33));
    assert_eq!(first.terminal_lengths(), second.terminal_lengths());
    assert_eq!(first.terminal_lengths(), other.terminal_lengths());
    let linked = linked(&first.terminal_runs(), &second.terminal_runs(), &other.terminal_runs());
    assert_eq!(linked, Vec::<Vec<u8>>::new(), "common to the card's payments only");
}

#[test]
fn what_a_phone_says_twice_would_be_found() {
    let first = pay(&card(), 11, 1, seed(11));
    // The same nonce in two hellos: the commitment links them.
    let again = SessionSeed { matching_nonce: seed(11).matching_nonce, ..seed(22) };
    let second = pay(&card(), 22, 2, again);
    let other = pay(&other_card(), 33, 3, seed(33));
    assert!(!linked(&first.air_runs(), &second.air_runs(), &other.air_runs()).is_empty());
    assert!(
        !linked(&first.terminal_runs(), &second.terminal_runs(), &other.terminal_runs()).is_empty()
    );
}
