//! The values that go into a session and come out of it: settings, seed, inputs, outputs.

use crate::credential::Signed;
use crate::domain::{Amount, HolderVerification, Offer, Receipt, TransactionId, UnixTime};
use crate::protocol::{EngagementLink, MatchingNonce};
use crate::wallet::{PaymentRecord, SessionEnd, TerminalWord};

/// The settings of a session. The card is separate.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// The longest value that can be written and notified, in octets, 20 to 512.
    pub value_octets_max: usize,
    /// The link that the person scanned.
    pub link: Option<EngagementLink>,
    /// The short code that the person read on the machine. An advertised name is no proof of it:
    /// the certificate is.
    pub short_code: Option<String>,
    /// The most that the person lets this payment be; the card's limit holds as well.
    pub limit: Option<Amount>,
    /// How long to wait for an offer if there is none yet, in milliseconds.
    pub offer_wait_ms: u64,
    /// How long to stay for what becomes of a reserved amount, in milliseconds; 0 not at all.
    pub stay_ms: u64,
    /// How the person is verified before [`Decision::Pay`].
    pub holder_verification: HolderVerification,
    /// The phone's clock at the start.
    pub wall_clock: UnixTime,
}

/// Fresh randomness for one session. It is never used twice.
pub struct SessionSeed {
    /// Its low four bits mark the connection's fragments.
    pub tag: u8,
    /// The phone's ephemeral key in the handshake.
    pub ephemeral: [u8; 32],
    /// For the sealing of the command.
    pub sealing: [u8; 32],
    /// The phone's share of the matching code.
    pub matching_nonce: MatchingNonce,
}

impl SessionSeed {
    /// How many random octets a seed takes.
    pub const OCTETS: usize = 81;

    /// Makes a seed of random octets.
    pub fn from_random(octets: &[u8; Self::OCTETS]) -> Self {
        let mut seed = Self {
            tag: octets[80],
            ephemeral: [0; 32],
            sealing: [0; 32],
            matching_nonce: MatchingNonce([0; 16]),
        };
        seed.ephemeral.copy_from_slice(&octets[..32]);
        seed.sealing.copy_from_slice(&octets[32..64]);
        seed.matching_nonce.0.copy_from_slice(&octets[64..80]);
        seed
    }
}

impl std::fmt::Debug for SessionSeed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SessionSeed")
    }
}

/// What the person sees before the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferView {
    /// The offer, with merchant and terminal as the certificate names them.
    pub offer: Offer,
    /// Six digits that the machine's screen shows too.
    pub matching_code: String,
}

/// The person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pay,
    Decline,
}

/// What the store holds for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// No command yet: this counter value is on disk as used, and nobody else gets it.
    Counter(u64),
    /// A command was made for this transaction before.
    Earlier(Box<PaymentRecord>),
}

/// What happened to the session.
#[derive(Debug)]
pub enum Input {
    /// A notification of the outbox.
    Value(Vec<u8>),
    /// The person answered [`Output::Ask`].
    Decided(Decision),
    /// The store answered [`Output::Reserve`].
    Reserved(Reservation),
    /// The store has done [`Output::Store`] or [`Output::StoreKeyring`], to the disk.
    Stored,
    /// The store could not do [`Output::Reserve`], [`Output::Store`] or [`Output::StoreKeyring`].
    StoreFailed,
    /// The connection is gone.
    LinkLost,
    /// Time passed: at [`Session::deadline`](super::Session::deadline) at the latest.
    Tick,
}

/// What the driver is to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Write a value to the inbox.
    Write(Vec<u8>),
    /// Show this and ask. [`Input::Decided`] follows.
    Ask(Box<OfferView>),
    /// Reserve the next value of the card's counter, unless there is a record of the transaction.
    Reserve(TransactionId),
    /// Store a record, durably. [`Input::Stored`] follows.
    Store {
        record: Box<PaymentRecord>,
        /// There must be none of this transaction yet.
        is_new: bool,
    },
    /// Store the institution's newer keyring with the card, durably. [`Input::Stored`] follows.
    StoreKeyring(Box<Signed>),
    /// Report this to the person or to a log.
    Tell(Notice),
    /// The session is over. A [`Output::Disconnect`] follows.
    End(Box<SessionEnd>),
    Disconnect,
}

/// What happens in a session, for people and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The phone sent a message.
    MessageSent {
        message: &'static str,
        /// With its fragments' headers.
        octets: usize,
    },
    /// The terminal sent a message.
    MessageReceived {
        message: &'static str,
        /// With its fragments' headers.
        octets: usize,
    },
    /// There is no offer yet.
    NothingToPay,
    /// The command was handed to the link, all of it.
    CommandSent,
    /// The terminal works on it.
    Working,
    /// The terminal says that the institution has not answered.
    Pending,
    /// The terminal says this, and has no proof of it yet.
    Unproven(TerminalWord),
    /// The institution has reserved the amount. The session stays for what becomes of it.
    Reserved(Box<Receipt>),
}

/// Why an input is refused at the present stage. The session is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputRefusal {
    /// Nobody was asked, or the question is no longer open.
    #[error("no decision is awaited")]
    NoDecisionAwaited,
    /// Nothing was to be reserved or stored.
    #[error("nothing is being stored")]
    NothingStored,
    /// Hand the value in again after the store has answered.
    #[error("the store has to answer first")]
    StoreFirst,
    /// The session is over.
    #[error("the session is over")]
    Ended,
}
