//! Driver and attempts over the emulated air, with a wallet on disk and a scripted terminal.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use super::fixtures::{
    self, card, certificate, channel_key, offer, settings, signed_receipt, transaction_id,
};
use super::*;
use crate::credential::SealedCommand;
use crate::domain::{CommandDigest, Outcome};
use crate::link::{
    EmulatedAir, EmulatedPhoneLink, LinkCommand, LinkEvent, PhoneLink, PhoneLinkError, TerminalLink,
};
use crate::protocol::{
    Channel, FragmentTag, Fragmenter, FromPhone, FromTerminal, HelloAnswer, MessageKind,
    Reassembler, accept, encode_offer,
};

/// What the terminal does with a command.
#[derive(Clone, Copy, PartialEq)]
enum TerminalBehaviour {
    Approve,
    /// Takes the command and breaks the connection; answers a query.
    BreakAfterCommand,
    /// Breaks the first connection at the hello.
    BreakFirstConnection,
    /// Takes the command, and from then on says that it is taken and answers nothing.
    TakeAndGoSilent,
}

fn digest_in(message: &FromPhone) -> Option<CommandDigest> {
    let FromPhone::PaymentCommand { sealed_command, .. } = message else { return None };
    Some(SealedCommand::digest_of_encoded(sealed_command))
}

/// The result of the command with this digest.
fn approved(digest: CommandDigest) -> Vec<u8> {
    FromTerminal::Result {
        transaction_id: transaction_id(),
        outcome: Outcome::Approved,
        receipt: Some(signed_receipt(&fixtures::receipt(digest))),
    }
    .encode()
}

/// A terminal with one offer. Returns every command it got, by connection.
async fn play(mut link: TerminalLink, behaviour: TerminalBehaviour) -> Vec<(u64, FromPhone)> {
    struct Phone {
        tag: FragmentTag,
        reassembler: Reassembler,
        channel: Option<Channel>,
        value_octets_max: usize,
    }
    let mut phones: BTreeMap<_, Phone> = BTreeMap::new();
    let mut heard = Vec::new();
    let mut digest = CommandDigest([0; 32]);
    while let Some(event) = link.events.recv().await {
        let LinkEvent::Wrote { phone: id, value_octets_max, value } = event else { continue };
        let is_taken = behaviour == TerminalBehaviour::TakeAndGoSilent && id.0 > 1;
        if behaviour == TerminalBehaviour::BreakFirstConnection && id.0 == 1 {
            link.commands.send(LinkCommand::Disconnect { phone: id }).await.unwrap();
            continue;
        }
        let phone = phones.entry(id).or_insert_with(|| Phone {
            tag: FragmentTag::of_value(&value).unwrap(),
            reassembler: Reassembler::default(),
            channel: None,
            value_octets_max,
        });
        let Some((kind, message)) = phone.reassembler.put(&value).unwrap() else { continue };
        let (kind, answer) = match (kind, &mut phone.channel) {
            (MessageKind::Handshake, _) => {
                let signed = certificate().sign(&fixtures::certificate_key()).encode();
                let (channel, answer) = accept(&message, &channel_key(), [9; 32], |_| {
                    let first = if is_taken {
                        FromTerminal::Taken(transaction_id())
                    } else {
                        FromTerminal::Offer(encode_offer(&offer()))
                    };
                    Ok(HelloAnswer { certificate: signed, first }.encode())
                })
                .unwrap();
                phone.channel = Some(channel);
                (MessageKind::Handshake, answer)
            }
            (_, Some(channel)) => {
                let message = FromPhone::decode(&channel.open(&message).unwrap()).unwrap();
                if matches!(message, FromPhone::Opening { .. }) {
                    continue;
                }
                heard.push((id.0, message.clone()));
                digest = digest_in(&message).unwrap_or(digest);
                let is_command = matches!(message, FromPhone::PaymentCommand { .. });
                let breaks = match behaviour {
                    TerminalBehaviour::BreakAfterCommand => is_command,
                    TerminalBehaviour::TakeAndGoSilent => true,
                    TerminalBehaviour::Approve | TerminalBehaviour::BreakFirstConnection => false,
                };
                if breaks {
                    link.commands.send(LinkCommand::Disconnect { phone: id }).await.unwrap();
                    continue;
                }
                if matches!(message, FromPhone::ReceiptAck) {
                    return heard;
                }
                (MessageKind::Sealed, channel.seal(&approved(digest)).unwrap())
            }
            (_, None) => panic!("sealed before a hello"),
        };
        for value in Fragmenter::new(phone.tag).cut(kind, &answer, phone.value_octets_max).unwrap()
        {
            link.commands.send(LinkCommand::Notify { phone: id, value }).await.unwrap();
        }
    }
    heard
}

struct AirConnector {
    air: EmulatedAir,
    att_mtu: usize,
}

impl Connector for AirConnector {
    type Link = EmulatedPhoneLink;
    type Error = PhoneLinkError;

    async fn connect(&mut self) -> Result<EmulatedPhoneLink, PhoneLinkError> {
        self.air.connect(self.att_mtu).await
    }
}

/// A cardholder who always decides the same, and records what it was told.
struct ScriptedCardholder {
    decision: Decision,
    seen: Vec<OfferView>,
    notices: Vec<Notice>,
}

impl Cardholder for ScriptedCardholder {
    fn tell(&mut self, notice: &Notice) {
        self.notices.push(notice.clone());
    }

    fn ask(&mut self, offer: &OfferView) -> Pin<Box<dyn Future<Output = Decision> + Send>> {
        self.seen.push(offer.clone());
        Box::pin(std::future::ready(self.decision))
    }
}

struct Scene {
    _directory: tempfile::TempDir,
    wallet: WalletDirectory,
    card: Arc<Card>,
    connector: AirConnector,
    cardholder: ScriptedCardholder,
    terminal: tokio::task::JoinHandle<Vec<(u64, FromPhone)>>,
}

fn scene(behaviour: TerminalBehaviour, att_mtu: usize) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let wallet = WalletDirectory::open(directory.path().join("wallet")).unwrap();
    wallet.add_card(&card(), 0, None).unwrap();
    let (air, link) = EmulatedAir::new();
    Scene {
        _directory: directory,
        wallet,
        card: card(),
        connector: AirConnector { air, att_mtu },
        cardholder: ScriptedCardholder {
            decision: Decision::Pay,
            seen: Vec::new(),
            notices: Vec::new(),
        },
        terminal: tokio::spawn(play(link, behaviour)),
    }
}

/// The end with the receipt for the command that the wallet sent.
fn settled(wallet: &WalletDirectory) -> SessionEnd {
    let record = wallet.record(&transaction_id()).unwrap().unwrap();
    SessionEnd::Settled(fixtures::receipt(record.command_digest()))
}

fn driver_settings() -> DriverSettings {
    DriverSettings { session: settings(), vanish_after_command: false }
}

async fn pay_in(scene: &mut Scene, settings: DriverSettings) -> Reported {
    let mut store = scene.wallet.store(scene.card.name());
    let card = Arc::clone(&scene.card);
    pay(&mut scene.connector, card, settings, &mut store, &mut scene.cardholder).await.unwrap()
}

#[tokio::test]
async fn a_payment_runs_over_a_link_of_any_width() {
    for att_mtu in [23, 100, 517] {
        let mut scene = scene(TerminalBehaviour::Approve, att_mtu);
        let reported = pay_in(&mut scene, driver_settings()).await;
        assert_eq!(reported.end, settled(&scene.wallet));
        assert!(reported.store_error.is_none());
        let heard = scene.terminal.await.unwrap();
        let [(_, FromPhone::PaymentCommand { .. }), (_, FromPhone::ReceiptAck)] = &heard[..] else {
            panic!("{heard:?}")
        };
        let record = scene.wallet.record(&transaction_id()).unwrap().unwrap();
        assert_eq!(record.status, PaymentStatus::Approved);
        assert_eq!(scene.wallet.counter(card().name()).unwrap(), 1);
        assert_eq!(scene.cardholder.seen.len(), 1);
    }
}

#[tokio::test]
async fn the_connection_is_tried_again_where_nothing_was_sent() {
    let mut scene = scene(TerminalBehaviour::BreakFirstConnection, 517);
    let reported = pay_in(&mut scene, driver_settings()).await;
    assert_eq!(reported.end, settled(&scene.wallet));
}

#[tokio::test]
async fn after_a_lost_link_the_result_is_asked_for_and_no_second_command_is_sent() {
    let mut scene = scene(TerminalBehaviour::BreakAfterCommand, 517);
    let reported = pay_in(&mut scene, driver_settings()).await;
    assert_eq!(reported.end, settled(&scene.wallet));
    let heard = scene.terminal.await.unwrap();
    let commands =
        heard.iter().filter(|(_, message)| matches!(message, FromPhone::PaymentCommand { .. }));
    assert_eq!(commands.count(), 1);
    assert!(matches!(heard[1], (2, FromPhone::ResultQuery { .. })));
    let record = scene.wallet.record(&transaction_id()).unwrap().unwrap();
    assert_eq!(record.status, PaymentStatus::Approved);
}

#[tokio::test]
async fn a_phone_that_vanishes_leaves_its_payment_pending_and_asks_later() {
    let mut scene = scene(TerminalBehaviour::Approve, 517);
    let vanishing = DriverSettings { vanish_after_command: true, ..driver_settings() };
    let reported = pay_in(&mut scene, vanishing).await;
    assert_eq!(reported.end, SessionEnd::Pending(PendingReason::LinkLost));
    let record = scene.wallet.record(&transaction_id()).unwrap().unwrap();
    assert_eq!(record.status, PaymentStatus::Pending);
    let mut store = scene.wallet.store(scene.card.name());
    let (card, cardholder) = (Arc::clone(&scene.card), &mut scene.cardholder);
    let reported =
        ask(&mut scene.connector, card, record, driver_settings(), &mut store, cardholder)
            .await
            .unwrap();
    assert_eq!(reported.end, settled(&scene.wallet));
    let record = scene.wallet.record(&transaction_id()).unwrap().unwrap();
    assert_eq!(record.status, PaymentStatus::Approved);
}

#[tokio::test]
async fn who_ordered_before_is_not_told_that_nothing_was_paid() {
    let mut scene = scene(TerminalBehaviour::TakeAndGoSilent, 517);
    let vanishing = DriverSettings { vanish_after_command: true, ..driver_settings() };
    pay_in(&mut scene, vanishing).await;
    // The same code is scanned again. The terminal says "taken" and cannot be asked by whom.
    let mut again = driver_settings();
    let fingerprint = crate::protocol::Fingerprint::of(&channel_key().public_key());
    again.session.link = Some(fixtures::link(fingerprint, Some(transaction_id())));
    let reported = pay_in(&mut scene, again).await;
    assert_eq!(reported.end, SessionEnd::Pending(PendingReason::OrderedBefore));
}

#[tokio::test]
async fn who_declines_pays_nothing_and_uses_no_counter() {
    let mut scene = scene(TerminalBehaviour::Approve, 517);
    scene.cardholder.decision = Decision::Decline;
    let reported = pay_in(&mut scene, driver_settings()).await;
    assert_eq!(reported.end, SessionEnd::NotPaid(NotPaid::Declined));
    assert_eq!(scene.wallet.counter(card().name()).unwrap(), 0);
    assert_eq!(scene.wallet.records().unwrap(), []);
}

#[tokio::test]
async fn without_its_counter_a_card_sends_nothing() {
    let mut scene = scene(TerminalBehaviour::Approve, 517);
    let path = scene.wallet.path().join("cards").join(card().name().as_str()).join("counter");
    std::fs::remove_file(path).unwrap();
    let reported = pay_in(&mut scene, driver_settings()).await;
    assert_eq!(reported.end, SessionEnd::StoreFailed);
    assert!(reported.store_error.unwrap().to_string().contains("enrol it again"));
    assert!(!scene.cardholder.notices.contains(&Notice::CommandSent));
}

/// Hears nothing until it has subscribed again.
struct CutOff {
    link: EmulatedPhoneLink,
    subscribed_again: u32,
}

impl PhoneLink for CutOff {
    fn value_octets_max(&self) -> usize {
        self.link.value_octets_max()
    }

    fn write(&mut self, value: Vec<u8>) -> impl Future<Output = Result<(), PhoneLinkError>> + Send {
        self.link.write(value)
    }

    async fn next_value(&mut self) -> Result<Vec<u8>, PhoneLinkError> {
        if self.subscribed_again == 0 {
            return std::future::pending().await;
        }
        self.link.next_value().await
    }

    async fn subscribe_again(&mut self) -> Result<(), PhoneLinkError> {
        self.subscribed_again += 1;
        self.link.subscribe_again().await
    }

    async fn disconnect(&mut self) {
        assert_eq!(self.subscribed_again, 1, "once was enough");
        self.link.disconnect().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_hears_nothing_subscribes_again_and_pays() {
    let scene = scene(TerminalBehaviour::Approve, 517);
    let link =
        CutOff { link: scene.connector.air.connect(517).await.unwrap(), subscribed_again: 0 };
    let (mut store, mut cardholder) = (scene.wallet.store(scene.card.name()), scene.cardholder);
    let seed = SessionSeed::from_random(&[7; SessionSeed::OCTETS]);
    let settings = driver_settings();
    let reported = drive(link, scene.card, None, settings, seed, &mut store, &mut cardholder).await;
    assert_eq!(reported.end, settled(&scene.wallet));
}
