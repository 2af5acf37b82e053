//! Sixty-four phones at one terminal, over the emulated link: each gets what is its own, and those
//! that misbehave cost the others nothing. What is compared is what was said and in how many
//! values, never how long it took.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::future::Future;
use std::sync::Arc;

use florin::credential::{CardCommand, KeyId, SEAL_SUITE, SealedCommand, SealingKey, SigningKey};
use florin::domain::{CardId, DeclineReason, HolderVerification, Outcome, TransactionId, UnixTime};
use florin::journal::SqliteJournal;
use florin::link::{EmulatedAir, EmulatedPhoneLink, PhoneLink};
use florin::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, Hello, HelloAnswer, Initiator,
    MessageKind, Reassembler, decode_offer, digest_offer,
};
use florin::relay::{ConnectError, Relay, StatementError};
use florin::service::{Driver, DriverError, Frontend};
use florin::terminal::{
    InstitutionAnswer, InstitutionRequest, InstitutionTransaction, PaymentRequest, PaymentView,
    PhoneAddress, Settings, TillRefusal, TillRequest, TransactionState, fixtures,
};
use florin::till::{TillCall, TillPort};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PHONES: usize = 64;

/// Approves everything but commands of zeros; its receipts name the payment.
struct Institution;

impl Relay for Institution {
    fn ask(
        &self,
        request: InstitutionRequest,
        _: u64,
    ) -> impl Future<Output = InstitutionAnswer> + Send {
        let receipt = Some(receipt_of(request.transaction_id()));
        let state = match request {
            InstitutionRequest::Authorise { sealed_command, .. }
                if sealed_command == command_of_zeros() =>
            {
                TransactionState::Declined(DeclineReason::MalformedCommand)
            }
            InstitutionRequest::Authorise { .. } => TransactionState::Approved,
            InstitutionRequest::Capture { .. } => TransactionState::Captured,
            other => panic!("nothing here is in doubt or given back: {other:?}"),
        };
        std::future::ready(InstitutionAnswer::Transaction { state, receipt })
    }

    fn address(&self) -> String {
        "this process".into()
    }

    async fn check_reachable(&self) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn statement(
        &self,
        _: UnixTime,
        _: UnixTime,
    ) -> Result<Vec<InstitutionTransaction>, StatementError> {
        Err(StatementError::Failed("it keeps no books".into()))
    }

    async fn transaction(
        &self,
        _: TransactionId,
    ) -> Result<InstitutionTransaction, StatementError> {
        Err(StatementError::Failed("it keeps no books".into()))
    }
}

/// Well-formed, and nobody's.
fn command_of_zeros() -> Vec<u8> {
    SealedCommand {
        suite: SEAL_SUITE,
        key_id: KeyId([0; 8]),
        encapsulated_key: [0; 32],
        ciphertext: vec![0; 100],
    }
    .encode()
}

fn receipt_of(transaction_id: TransactionId) -> Vec<u8> {
    transaction_id.to_string().into_bytes()
}

/// The driver among an emulated air, a journal in memory, and that institution.
struct Terminal {
    air: EmulatedAir,
    till: TillPort,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DriverError>>,
}

impl Terminal {
    fn start(settings: Settings) -> Self {
        let (air, link) = EmulatedAir::new();
        let (till, till_end) = TillPort::new();
        let journal = SqliteJournal::in_memory().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let mut frontend = Frontend::new(link, till_end);
            let driver = Driver::start(
                fixtures::identity(),
                settings,
                [7; 32],
                journal,
                Arc::new(Institution),
                &mut frontend,
            )
            .await?;
            driver
                .run(async {
                    let _ = stopped.await;
                })
                .await
        });
        Self { air, till, stop, running }
    }

    /// Waits until the terminal is in service, and offers a payment.
    async fn offer(&self) -> TransactionId {
        loop {
            let request = TillRequest::Create(PaymentRequest {
                valid_for_s: Some(3_600),
                ..fixtures::request(false)
            });
            let created = self.till.call(|answer| TillCall::Request { request, answer }).await;
            match created.unwrap() {
                Err(TillRefusal::OutOfService(_)) => tokio::task::yield_now().await,
                created => return created.unwrap().transaction_id,
            }
        }
    }

    async fn read(&self, transaction_id: TransactionId) -> PaymentView {
        let read = self.till.call(|answer| TillCall::Read { transaction_id, answer }).await;
        read.unwrap().unwrap()
    }

    async fn until_final(&self, transaction_id: TransactionId) -> PaymentView {
        let mut updates = self.till.listen();
        let read = self.till.call(|answer| TillCall::Read { transaction_id, answer }).await;
        let mut view = read.unwrap().unwrap();
        while view.transaction_id != transaction_id || !view.state.is_final() {
            view = updates.recv().await.unwrap();
        }
        view
    }

    async fn finish(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }
}

/// What a phone heard, in order, without signs of life: how many of those there are depends on the
/// clock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    NothingToPay,
    Offer,
    Taken,
    Paid,
}

/// A phone written against docs/protocol.md with the codecs only.
struct Phone {
    number: usize,
    link: EmulatedPhoneLink,
    fragmenter: Fragmenter,
    reassembler: Reassembler,
    channel: Option<Channel>,
    heard: Vec<Reply>,
    values_heard: usize,
}

impl Phone {
    /// Connects over an MTU of its own.
    async fn connect(terminal: &Terminal, number: usize) -> Self {
        Self::connect_from(terminal, number, None).await
    }

    async fn connect_from(
        terminal: &Terminal,
        number: usize,
        address: Option<PhoneAddress>,
    ) -> Self {
        let att_mtu = [23, 50, 185, 247, 517][number % 5];
        Self {
            number,
            link: terminal.air.connect_from(address, att_mtu).await.unwrap(),
            fragmenter: Fragmenter::new(FragmentTag::from_low_bits((number % 16) as u8)),
            reassembler: Reassembler::default(),
            channel: None,
            heard: Vec::new(),
            values_heard: 0,
        }
    }

    async fn write(&mut self, kind: MessageKind, message: &[u8]) -> bool {
        for value in self.fragmenter.cut(kind, message, self.link.value_octets_max()).unwrap() {
            if self.link.write(value).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The next message; none if the connection is gone.
    async fn read(&mut self) -> Option<(MessageKind, Vec<u8>)> {
        loop {
            let value = self.link.next_value().await.ok()?;
            self.values_heard += 1;
            assert!(value.len() <= self.link.value_octets_max());
            if let Some(message) = self.reassembler.put(&value).unwrap() {
                return Some(message);
            }
        }
    }

    async fn hello(&mut self) -> FromTerminal {
        let hello = Hello { value_octets_max: None, transaction_id: None };
        let random = [self.number as u8 + 1; 32];
        let (initiator, message) = Initiator::start(&hello.encode(), random).unwrap();
        assert!(self.write(MessageKind::Handshake, &message).await);
        let (kind, answer) = self.read().await.unwrap();
        assert_eq!(kind, MessageKind::Handshake);
        let (channel, _, answer) = initiator.finish(&answer).unwrap();
        self.channel = Some(channel);
        let first = HelloAnswer::decode(&answer).unwrap().first;
        if matches!(first, FromTerminal::NothingToPay) {
            self.heard.push(Reply::NothingToPay);
        }
        first
    }

    /// Says hello and gets the offer, which may not be durable yet.
    async fn offered(&mut self) -> Vec<u8> {
        let first = match self.hello().await {
            FromTerminal::NothingToPay => self.hear().await,
            first => first,
        };
        let FromTerminal::Offer(offer) = first else { panic!("{first:?}") };
        offer
    }

    async fn say(&mut self, message: &FromPhone) -> bool {
        let sealed = self.channel.as_mut().unwrap().seal(&message.encode()).unwrap();
        self.write(MessageKind::Sealed, &sealed).await
    }

    /// The next message but signs of life. What another phone was told would not open.
    async fn hear(&mut self) -> FromTerminal {
        loop {
            let (kind, message) = self.read().await.expect("the connection stands");
            assert_eq!(kind, MessageKind::Sealed);
            let message =
                FromTerminal::decode(&self.channel.as_mut().unwrap().open(&message).unwrap())
                    .unwrap();
            let heard = match message {
                FromTerminal::Working => continue,
                FromTerminal::Offer(_) => Reply::Offer,
                FromTerminal::Taken(_) => Reply::Taken,
                FromTerminal::Result { .. } => Reply::Paid,
                ref other => panic!("phone {} heard {other:?}", self.number),
            };
            self.heard.push(heard);
            return message;
        }
    }

    fn command(&self, offer: &[u8]) -> FromPhone {
        let offer_digest = digest_offer(offer);
        let command = CardCommand {
            card_id: CardId::from_octets(&[1; 16]).unwrap(),
            offer_digest,
            counter: 1,
            holder_verification: HolderVerification::Consent,
        };
        let signed = command.sign(&SigningKey::from_scalar(&[8; 32]).unwrap());
        let sealing_key = SealingKey::from_octets([9; 32]).public_key();
        let sealed =
            sealing_key.seal(&signed.encode(), &offer_digest, [self.number as u8; 32]).unwrap();
        let transaction_id = decode_offer(offer).unwrap().transaction_id();
        FromPhone::PaymentCommand { transaction_id, sealed_command: sealed.encode() }
    }
}

/// What one phone got, for a comparison of two runs.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    heard: Vec<Reply>,
    values_heard: usize,
    values_written: u64,
    octets_to_phone: u64,
    octets_to_terminal: u64,
}

/// Each phone pays one offer while all are there, one after the other.
async fn everybody_pays(terminal: &Terminal, phones: &mut [Phone]) -> Vec<Account> {
    for phone in phones.iter_mut() {
        assert!(matches!(phone.hello().await, FromTerminal::NothingToPay));
    }
    for payer in 0..phones.len() {
        let transaction_id = terminal.offer().await;
        let mut offers = Vec::new();
        for phone in phones.iter_mut() {
            let FromTerminal::Offer(offer) = phone.hear().await else { panic!("no offer") };
            offers.push(offer);
        }
        let command = phones[payer].command(&offers[payer]);
        assert!(phones[payer].say(&command).await);
        for (number, phone) in phones.iter_mut().enumerate() {
            match phone.hear().await {
                FromTerminal::Result { transaction_id: of, outcome, receipt } => {
                    assert_eq!((number, of, outcome), (payer, transaction_id, Outcome::Approved));
                    assert_eq!(receipt, Some(receipt_of(transaction_id)), "its own receipt");
                }
                FromTerminal::Taken(of) => {
                    assert_eq!((of, number != payer), (transaction_id, true))
                }
                other => panic!("phone {number} heard {other:?}"),
            }
        }
        assert_eq!(terminal.until_final(transaction_id).await.state.name(), "captured");
    }
    phones
        .iter()
        .map(|phone| {
            let traffic = phone.link.traffic();
            Account {
                heard: phone.heard.clone(),
                values_heard: phone.values_heard,
                values_written: traffic.values_to_terminal(),
                octets_to_phone: traffic.octets_to_phone(),
                octets_to_terminal: traffic.octets_to_terminal(),
            }
        })
        .collect()
}

async fn connect_all(terminal: &Terminal) -> Vec<Phone> {
    let mut phones = Vec::new();
    for number in 0..PHONES {
        phones.push(Phone::connect(terminal, number).await);
    }
    phones
}

fn settings(phones_max: usize) -> Settings {
    // However slow the machine that runs this: no phone here is silent on purpose, but those that
    // are meant to be.
    Settings {
        phones_max,
        silence_timeout_ms: 3_600_000,
        hello_timeout_ms: 3_600_000,
        ..Settings::default()
    }
}

/// Writes values until the terminal has had enough; how many it got rid of.
async fn flood(mut link: EmulatedPhoneLink, value: Vec<u8>) -> u64 {
    while link.write(value.clone()).await.is_ok() {}
    link.traffic().values_to_terminal()
}

/// Asks for a result that it has no business with, so often or until it is disconnected; how often
/// it could.
async fn ask(phone: &mut Phone, times: u32) -> u32 {
    let question = FromPhone::ResultQuery {
        transaction_id: TransactionId::from_random([3; 16]),
        command_digest: [4; 32],
    };
    let mut asked = 0;
    while asked < times && phone.say(&question).await {
        asked += 1;
    }
    asked
}

#[tokio::test]
async fn sixty_four_phones_are_served_and_those_that_misbehave_change_nothing_for_the_others() {
    let terminal = Terminal::start(settings(PHONES));
    let mut phones = connect_all(&terminal).await;
    let alone = everybody_pays(&terminal, &mut phones).await;
    terminal.finish().await;
    for (number, account) in alone.iter().enumerate() {
        let count = |what| account.heard.iter().filter(|heard| **heard == what).count();
        assert_eq!(
            (count(Reply::Offer), count(Reply::Paid), count(Reply::Taken)),
            (PHONES, 1, PHONES - 1),
            "{number}"
        );
    }

    let terminal = Terminal::start(settings(PHONES + 6));
    let mut phones = connect_all(&terminal).await;
    // Two that only sit there, one of them subscribed and in the channel, which never reads what it
    // is told.
    let silent = terminal.air.connect(517).await.unwrap();
    let mut deaf = Phone::connect(&terminal, 200).await;
    assert!(matches!(deaf.hello().await, FromTerminal::NothingToPay));
    // Less than what is too much; with what it is told unasked, more than may wait for it.
    assert_eq!(ask(&mut deaf, 100).await, 100);
    // Garbage; a message that goes on and on; one in the channel that asks more than it needs.
    let garbage = tokio::spawn(flood(terminal.air.connect(517).await.unwrap(), vec![0x35; 500]));
    let endless =
        tokio::spawn(flood(terminal.air.connect(23).await.unwrap(), vec![0x80, 0x3f, 0xff, 0]));
    let mut asker = Phone::connect(&terminal, 201).await;
    asker.hello().await;
    let asker = tokio::spawn(async move { ask(&mut asker, u32::MAX).await });
    let beside = everybody_pays(&terminal, &mut phones).await;
    assert_eq!(alone, beside);

    // All of those that did something are gone, and the terminal, not they, has ended it.
    let (garbage, endless, asked) = tokio::join!(garbage, endless, asker);
    assert!(garbage.unwrap() >= 8);
    assert!(endless.unwrap() >= 8);
    assert!(asked.unwrap() >= Settings::default().messages_burst_max - 1);
    drop(phones);
    // More than it can still hold.
    for _ in 0..60 {
        let transaction_id = terminal.offer().await;
        let request = TillRequest::Cancel { transaction_id };
        terminal.till.call(|answer| TillCall::Request { request, answer }).await.unwrap().unwrap();
    }
    let mut heard = 0;
    while deaf.link.next_value().await.is_ok() {
        heard += 1;
    }
    assert_eq!(
        heard,
        florin::link::VALUES_WAITING_MAX,
        "it was disconnected when no more would fit"
    );
    drop(silent);
    terminal.finish().await;
}

#[tokio::test]
async fn seven_silent_phones_that_come_back_at_once_keep_nobody_out() {
    let terminal = Terminal::start(Settings::default());
    let silent: Vec<JoinHandle<()>> = (0..7)
        .map(|_| {
            let air = terminal.air.clone();
            tokio::spawn(async move {
                while let Ok(mut link) = air.connect(517).await {
                    while link.next_value().await.is_ok() {}
                }
            })
        })
        .collect();
    for number in 0..6 {
        let sale = terminal.offer().await;
        let mut phone = Phone::connect(&terminal, number).await;
        let offer = phone.offered().await;
        let command = phone.command(&offer);
        assert!(phone.say(&command).await);
        assert!(matches!(phone.hear().await, FromTerminal::Result { .. }), "payment {number}");
        assert_eq!(terminal.until_final(sale).await.state.name(), "captured");
    }
    for phone in silent {
        phone.abort();
    }
    terminal.finish().await;
}

#[tokio::test]
async fn a_phone_without_a_card_ends_no_sale_and_the_till_polls_its_first_id_alone() {
    let terminal = Terminal::start(Settings::default());
    let sale = terminal.offer().await;
    let (mut commands, address) = (0, Some(PhoneAddress([1; 6])));
    for number in 0..20 {
        let mut hostile = Phone::connect_from(&terminal, number, address).await;
        let hello = Hello { value_octets_max: None, transaction_id: None };
        let (initiator, message) = Initiator::start(&hello.encode(), [3; 32]).unwrap();
        hostile.write(MessageKind::Handshake, &message).await;
        let answer = hostile.read().await.filter(|(kind, _)| *kind == MessageKind::Handshake);
        if let Some((_, answer)) = answer {
            let (channel, _, answer) = initiator.finish(&answer).unwrap();
            hostile.channel = Some(channel);
            let FromTerminal::Offer(offer) = HelloAnswer::decode(&answer).unwrap().first else {
                panic!("no offer")
            };
            let transaction_id = decode_offer(&offer).unwrap().transaction_id();
            let sealed_command = command_of_zeros();
            hostile.say(&FromPhone::PaymentCommand { transaction_id, sealed_command }).await;
            commands += 1;
        }
        // It is disconnected, whether it came to its command or not.
        while hostile.read().await.is_some() {}
        assert!(!terminal.read(sale).await.state.is_final());
    }
    assert_eq!(commands, 1, "it is held off for longer than this takes");
    // Another seven without a card, each with an address of its own.
    for number in 1..=7 {
        let address = Some(PhoneAddress([100 + number; 6]));
        let mut hostile = Phone::connect_from(&terminal, number.into(), address).await;
        let offer = hostile.offered().await;
        let transaction_id = decode_offer(&offer).unwrap().transaction_id();
        let sealed_command = command_of_zeros();
        hostile.say(&FromPhone::PaymentCommand { transaction_id, sealed_command }).await;
        while hostile.read().await.is_some() {}
    }
    let mut honest = Phone::connect(&terminal, 9).await;
    let offer = honest.offered().await;
    let command = honest.command(&offer);
    assert!(honest.say(&command).await);
    let FromTerminal::Result { transaction_id, outcome, .. } = honest.hear().await else {
        panic!("no result")
    };
    assert_eq!(outcome, Outcome::Approved);
    let view = terminal.until_final(sale).await;
    assert_eq!((view.transaction_id, view.current_transaction_id), (sale, transaction_id));
    assert_eq!(view.state.name(), "captured");
    let list = terminal.till.call(|answer| TillCall::List { open_only: false, limit: 50, answer });
    assert_eq!(list.await.unwrap().unwrap().views, [view], "one payment for the till");
    terminal.finish().await;
}
