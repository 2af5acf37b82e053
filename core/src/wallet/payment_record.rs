//! The wallet's record of a payment: enough to ask for its result later, and to show its receipt
//! for years.
//!
//! A record is written before its command is sent, and holds the command in its sealed form only.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::CardName;
use crate::credential::{CredentialError, Keyring, SealedCommand, Signed, verify_receipt};
use crate::domain::{CommandDigest, Offer, OfferDigest, Receipt, TransactionId, UnixTime};
use crate::protocol::{ProtocolError, decode_offer, digest_offer};

/// The state of a payment, as far as this wallet knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The command was sent, or was about to be sent. Only the institution's answer ends this.
    Pending,
    /// The command was certainly not sent.
    NotSent,
    /// By a verified receipt: the amount is reserved. Where the offer takes it at once, it is as
    /// good as paid.
    Approved,
    /// By a verified receipt: the amount was taken.
    Captured,
    /// By a verified receipt.
    Declined,
    /// By a verified receipt: the reserved amount was given back.
    Reversed,
    /// By a verified exclusion: the institution did not use the command and never will.
    NotCharged,
    /// The terminal presented what proves nothing. Only the institution's answer ends this, too.
    NotProven,
}

impl PaymentStatus {
    /// Whether the command may have been used, and the institution has signed nothing yet.
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::NotProven => true,
            Self::NotSent
            | Self::Approved
            | Self::Captured
            | Self::Declined
            | Self::Reversed
            | Self::NotCharged => false,
        }
    }

    /// A stable name for programs: lower case, words joined by underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::NotSent => "not_sent",
            Self::Approved => "approved",
            Self::Captured => "captured",
            Self::Declined => "declined",
            Self::Reversed => "reversed",
            Self::NotCharged => "not_charged",
            Self::NotProven => "not_proven",
        }
    }
}

/// Why a file is not a payment record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentRecordError {
    /// The file is not the JSON of a record.
    #[error("line {line}, column {column}: not the JSON of a payment record")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A field's value is wrong.
    #[error("{field}: expected {expected}")]
    Field { field: &'static str, expected: String },
}

/// One payment that a card of this wallet ordered.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    offer: Offer,
    offer_octets: Vec<u8>,
    card_name: CardName,
    card_hint: String,
    sealed_command: Vec<u8>,
    pub status: PaymentStatus,
    /// The newest verified receipt, as the institution signed it.
    pub receipt: Option<Vec<u8>>,
    /// The verified exclusion, as the institution signed it.
    pub exclusion: Option<Vec<u8>>,
    created_at: UnixTime,
    /// Of the last change, by the phone's clock.
    pub updated_at: UnixTime,
}

impl PaymentRecord {
    /// A record of a command that is about to be sent. `sealed_command` is encoded.
    ///
    /// # Errors
    /// A [`ProtocolError`] if the octets are not an offer.
    pub fn new(
        offer_octets: Vec<u8>,
        card_name: CardName,
        card_hint: String,
        sealed_command: Vec<u8>,
        now: UnixTime,
    ) -> Result<Self, ProtocolError> {
        Ok(Self {
            offer: decode_offer(&offer_octets)?,
            offer_octets,
            card_name,
            card_hint,
            sealed_command,
            status: PaymentStatus::Pending,
            receipt: None,
            exclusion: None,
            created_at: now,
            updated_at: now,
        })
    }

    pub fn transaction_id(&self) -> TransactionId {
        self.offer.transaction_id()
    }

    /// Whether the amount is reserved, and the institution has not signed what became of it.
    pub fn is_reserved(&self) -> bool {
        self.status == PaymentStatus::Approved && self.offer.capture_after_dispense()
    }

    /// Whether the command may have been used, and the institution has signed nothing yet.
    pub fn is_open(&self) -> bool {
        self.status.is_open()
    }

    /// What the person is told that became of the payment: a stable name for programs.
    pub fn standing(&self) -> &'static str {
        match self.status {
            PaymentStatus::Approved if self.is_reserved() => "reserved",
            PaymentStatus::Approved | PaymentStatus::Captured => "paid",
            PaymentStatus::Reversed => "given_back",
            PaymentStatus::Pending
            | PaymentStatus::NotSent
            | PaymentStatus::Declined
            | PaymentStatus::NotCharged
            | PaymentStatus::NotProven => self.status.name(),
        }
    }

    /// The offer, as the person saw it.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The digest of the offer, which the card signed.
    pub fn offer_digest(&self) -> OfferDigest {
        digest_offer(&self.offer_octets)
    }

    pub fn card_name(&self) -> &CardName {
        &self.card_name
    }

    /// The last four digits of the card's identifier.
    pub fn card_hint(&self) -> &str {
        &self.card_hint
    }

    /// The encoded sealed command. It is sent again as it is, and never made again.
    pub fn sealed_command(&self) -> &[u8] {
        &self.sealed_command
    }

    /// What proves to the terminal that this phone sent the command.
    pub fn command_digest(&self) -> CommandDigest {
        SealedCommand::digest_of_encoded(&self.sealed_command)
    }

    /// When the command was made, by the phone's clock.
    pub fn created_at(&self) -> UnixTime {
        self.created_at
    }

    /// Verifies the receipt again and returns it.
    ///
    /// # Errors
    /// [`CredentialError`] if it is not signed by a key of the keyring.
    pub fn verified_receipt(&self, keyring: &Keyring) -> Result<Option<Receipt>, CredentialError> {
        match &self.receipt {
            None => Ok(None),
            Some(octets) => {
                verify_receipt(&Signed::decode(octets)?, keyring, self.updated_at).map(Some)
            }
        }
    }

    /// As JSON, with a line end.
    pub fn to_json(&self) -> String {
        let file = RecordFile {
            version: FILE_VERSION,
            transaction_id: self.transaction_id().to_string(),
            card: self.card_name.to_string(),
            card_hint: self.card_hint.clone(),
            status: self.status,
            created_at_unix_s: self.created_at.seconds,
            updated_at_unix_s: self.updated_at.seconds,
            command_digest: HEXLOWER.encode(&self.command_digest().0),
            offer: BASE64.encode(&self.offer_octets),
            sealed_command: BASE64.encode(&self.sealed_command),
            receipt: self.receipt.as_ref().map(|octets| BASE64.encode(octets)),
            exclusion: self.exclusion.as_ref().map(|octets| BASE64.encode(octets)),
        };
        let mut text = serde_json::to_string_pretty(&file).unwrap_or_else(|error| {
            debug_assert!(false, "a structure of strings and numbers serialises: {error}");
            String::new()
        });
        text.push('\n');
        text
    }

    /// Reads what [`PaymentRecord::to_json`] wrote.
    ///
    /// # Errors
    /// [`PaymentRecordError`], naming the line or the field.
    pub fn from_json(text: &str) -> Result<Self, PaymentRecordError> {
        // The words of serde are for developers; the place is for everybody.
        let file: RecordFile = serde_json::from_str(text).map_err(|error| {
            PaymentRecordError::Json { line: error.line(), column: error.column() }
        })?;
        let fault = |field, expected: &str| PaymentRecordError::Field {
            field,
            expected: expected.to_owned(),
        };
        if file.version != FILE_VERSION {
            return Err(fault("version", "1; a newer wallet wrote this"));
        }
        let octets = |field, text: &str| {
            BASE64.decode(text.as_bytes()).map_err(|_| fault(field, "octets in base64"))
        };
        let offer_octets = octets("offer", &file.offer)?;
        let offer = decode_offer(&offer_octets).map_err(|error| PaymentRecordError::Field {
            field: "offer",
            expected: format!("an encoded offer ({error})"),
        })?;
        if file.transaction_id.parse() != Ok(offer.transaction_id()) {
            return Err(fault("transaction_id", "the same as the offer's"));
        }
        Ok(Self {
            offer,
            offer_octets,
            card_name: file.card.parse().map_err(|_| fault("card", "the name of a card"))?,
            card_hint: file.card_hint,
            sealed_command: octets("sealed_command", &file.sealed_command)?,
            status: file.status,
            receipt: file.receipt.map(|text| octets("receipt", &text)).transpose()?,
            exclusion: file.exclusion.map(|text| octets("exclusion", &text)).transpose()?,
            created_at: UnixTime { seconds: file.created_at_unix_s },
            updated_at: UnixTime { seconds: file.updated_at_unix_s },
        })
    }
}

impl fmt::Debug for PaymentRecord {
    /// Leaves the octets out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PaymentRecord")
            .field("transaction_id", &self.transaction_id())
            .field("amount", &self.offer.amount())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

const FILE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    version: u32,
    transaction_id: String,
    card: String,
    card_hint: String,
    status: PaymentStatus,
    created_at_unix_s: u64,
    updated_at_unix_s: u64,
    command_digest: String,
    offer: String,
    sealed_command: String,
    receipt: Option<String>,
    exclusion: Option<String>,
}
