//! The messages, as validated types, and their octets.

use prost::Message;

use super::{MatchingCommitment, MatchingNonce, ProtocolError, VERSION, WireError, generated};
use crate::domain::{CommandDigest, DeclineReason, Outcome, TransactionId, UnixTime};

/// The value of the `info` characteristic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Versions of the protocol that the terminal speaks.
    pub versions: Vec<u32>,
    /// The terminal's id in text form.
    pub terminal_id: String,
    /// No bit is defined yet.
    pub capabilities: u64,
}

/// The phone's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The longest notification that the phone can take, in octets; none where its platform does
    /// not tell.
    pub value_octets_max: Option<u32>,
    /// From the engagement link: this transaction and no other. Never that of a result query.
    pub transaction_id: Option<TransactionId>,
    /// Fixes the matching nonce before the phone has seen the terminal's key.
    pub matching_commitment: MatchingCommitment,
}

/// The terminal's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloAnswer {
    /// An encoded signed terminal certificate.
    pub certificate: Vec<u8>,
    /// Offer, nothing to pay, taken, or an error.
    pub first: FromTerminal,
}

/// A message of the phone on the open channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromPhone {
    /// The first message on the channel.
    Opening {
        /// What the hello committed to.
        matching_nonce: MatchingNonce,
        /// When the phone's keyring was issued.
        keyring_issued_at: UnixTime,
    },
    /// The card's order to pay.
    PaymentCommand {
        transaction_id: TransactionId,
        /// An encoded sealed command.
        sealed_command: Vec<u8>,
    },
    /// The person does not want to pay the offer that the channel shows.
    Cancel,
    /// Asks for the result of a payment.
    ResultQuery {
        transaction_id: TransactionId,
        /// SHA-256 over the encoded sealed command.
        command_digest: CommandDigest,
    },
    /// The receipt of the last result is verified and stored.
    ReceiptAck,
}

/// A message of the terminal on the open channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromTerminal {
    /// The octets of an offer.
    Offer(Vec<u8>),
    /// There is no offer now. The terminal sends one when there is.
    NothingToPay,
    /// A sign of life.
    Working,
    /// How the payment ended, or how it stands.
    Result {
        transaction_id: TransactionId,
        /// How it ended, or stands.
        outcome: Outcome,
        /// An encoded signed receipt.
        receipt: Option<Vec<u8>>,
    },
    /// The institution's proof that the phone's command was not used and never will be.
    NotUsed {
        transaction_id: TransactionId,
        /// An encoded signed exclusion.
        exclusion: Vec<u8>,
    },
    /// A newer keyring than the phone's: an encoded signed keyring.
    Keyring(Vec<u8>),
    /// The terminal says that another phone has paid first.
    Taken(TransactionId),
    /// The terminal says that the till took the offer back.
    Withdrawn(TransactionId),
    /// The terminal says that the offer has expired.
    Expired(TransactionId),
    Error(ProtocolError),
}

fn malformed(detail: impl ToString) -> ProtocolError {
    ProtocolError::new(WireError::MalformedMessage, detail)
}

fn transaction(octets: &[u8]) -> Result<TransactionId, ProtocolError> {
    TransactionId::from_octets(octets).map_err(malformed)
}

/// The two sides must have chosen the highest version that both speak; else somebody altered what
/// they said.
fn check_versions(versions: &[u64]) -> Result<(), ProtocolError> {
    if versions.contains(&u64::from(VERSION)) {
        Ok(())
    } else {
        let detail = format!("the other side does not speak version {VERSION}, which it uses");
        Err(ProtocolError::new(WireError::VersionUnsupported, detail))
    }
}

impl Info {
    /// Encodes it as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        generated::Info {
            versions: self.versions.iter().copied().map(u64::from).collect(),
            terminal_id: self.terminal_id.clone(),
            capabilities: self.capabilities,
        }
        .encode_to_vec()
    }

    /// Decodes protobuf.
    ///
    /// # Errors
    /// [`WireError::MalformedMessage`].
    pub fn decode(octets: &[u8]) -> Result<Self, ProtocolError> {
        let message = generated::Info::decode(octets).map_err(malformed)?;
        Ok(Self {
            versions: message
                .versions
                .into_iter()
                .filter_map(|version| u32::try_from(version).ok())
                .collect(),
            terminal_id: message.terminal_id,
            capabilities: message.capabilities,
        })
    }
}

impl Hello {
    /// Encodes it as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        generated::Hello {
            versions: vec![VERSION.into()],
            value_octets_max: self.value_octets_max.unwrap_or_default().into(),
            transaction_id: self
                .transaction_id
                .map(|id| id.as_octets().to_vec())
                .unwrap_or_default(),
            matching_commitment: self.matching_commitment.0.to_vec(),
        }
        .encode_to_vec()
    }

    /// Decodes protobuf.
    ///
    /// # Errors
    /// [`WireError::MalformedMessage`], or [`WireError::VersionUnsupported`] if the version that
    /// the phone uses is not the highest in common.
    pub fn decode(octets: &[u8]) -> Result<Self, ProtocolError> {
        let message = generated::Hello::decode(octets).map_err(malformed)?;
        check_versions(&message.versions)?;
        let transaction_id = match message.transaction_id.as_slice() {
            [] => None,
            octets => Some(transaction(octets)?),
        };
        let value_octets_max = match message.value_octets_max {
            0 => None,
            octets => Some(
                u32::try_from(octets).map_err(|_| malformed("a value size out of its range"))?,
            ),
        };
        let matching_commitment = MatchingCommitment(
            message
                .matching_commitment
                .as_slice()
                .try_into()
                .map_err(|_| malformed("a matching commitment that has not 16 octets"))?,
        );
        Ok(Self { value_octets_max, transaction_id, matching_commitment })
    }
}

impl HelloAnswer {
    /// Encodes it as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        generated::HelloAnswer {
            versions: vec![VERSION.into()],
            certificate: self.certificate.clone(),
            first: Some(self.first.to_generated()),
        }
        .encode_to_vec()
    }

    /// Decodes protobuf.
    ///
    /// # Errors
    /// [`WireError::MalformedMessage`], or [`WireError::VersionUnsupported`] if the version that
    /// was used is not the highest in common.
    pub fn decode(octets: &[u8]) -> Result<Self, ProtocolError> {
        let message = generated::HelloAnswer::decode(octets).map_err(malformed)?;
        check_versions(&message.versions)?;
        let first = message.first.ok_or_else(|| malformed("an answer that says nothing"))?;
        Ok(Self { certificate: message.certificate, first: FromTerminal::from_generated(first)? })
    }
}

impl FromPhone {
    /// Encodes it as protobuf, to be encrypted.
    pub fn encode(&self) -> Vec<u8> {
        use generated::from_phone::Message as Variant;
        let octets = |id: &TransactionId| id.as_octets().to_vec();
        let message = match self {
            Self::Opening { matching_nonce, keyring_issued_at } => {
                Variant::Opening(generated::Opening {
                    matching_nonce: matching_nonce.0.to_vec(),
                    keyring_issued_at_unix_s: keyring_issued_at.seconds,
                })
            }
            Self::PaymentCommand { transaction_id, sealed_command } => {
                Variant::PaymentCommand(generated::PaymentCommand {
                    transaction_id: octets(transaction_id),
                    sealed_command: sealed_command.clone(),
                })
            }
            Self::Cancel => Variant::Cancel(generated::Cancel {}),
            Self::ResultQuery { transaction_id, command_digest } => {
                Variant::ResultQuery(generated::ResultQuery {
                    transaction_id: octets(transaction_id),
                    command_digest: command_digest.0.to_vec(),
                })
            }
            Self::ReceiptAck => Variant::ReceiptAck(generated::ReceiptAck {}),
        };
        generated::FromPhone { message: Some(message) }.encode_to_vec()
    }

    /// Decodes protobuf that was decrypted.
    ///
    /// # Errors
    /// [`WireError::MalformedMessage`].
    pub fn decode(octets: &[u8]) -> Result<Self, ProtocolError> {
        use generated::from_phone::Message as Variant;
        let envelope = generated::FromPhone::decode(octets).map_err(malformed)?;
        match envelope.message.ok_or_else(|| malformed("no message that this version knows"))? {
            Variant::Opening(message) => Ok(Self::Opening {
                matching_nonce: MatchingNonce(
                    message
                        .matching_nonce
                        .as_slice()
                        .try_into()
                        .map_err(|_| malformed("a matching nonce that has not 16 octets"))?,
                ),
                keyring_issued_at: UnixTime { seconds: message.keyring_issued_at_unix_s },
            }),
            Variant::PaymentCommand(message) => {
                if message.sealed_command.is_empty() {
                    return Err(malformed("a payment command without a sealed command"));
                }
                Ok(Self::PaymentCommand {
                    transaction_id: transaction(&message.transaction_id)?,
                    sealed_command: message.sealed_command,
                })
            }
            Variant::Cancel(_) => Ok(Self::Cancel),
            Variant::ResultQuery(message) => Ok(Self::ResultQuery {
                transaction_id: transaction(&message.transaction_id)?,
                command_digest: CommandDigest(
                    message
                        .command_digest
                        .as_slice()
                        .try_into()
                        .map_err(|_| malformed("a command digest that has not 32 octets"))?,
                ),
            }),
            Variant::ReceiptAck(_) => Ok(Self::ReceiptAck),
        }
    }
}

impl FromTerminal {
    /// Encodes it as protobuf, to be encrypted.
    pub fn encode(&self) -> Vec<u8> {
        self.to_generated().encode_to_vec()
    }

    /// Decodes protobuf that was decrypted.
    ///
    /// # Errors
    /// [`WireError::MalformedMessage`].
    pub fn decode(octets: &[u8]) -> Result<Self, ProtocolError> {
        Self::from_generated(generated::FromTerminal::decode(octets).map_err(malformed)?)
    }

    fn to_generated(&self) -> generated::FromTerminal {
        use generated::from_terminal::Message as Variant;
        let octets = |id: &TransactionId| id.as_octets().to_vec();
        let message = match self {
            Self::Offer(offer) => Variant::Offer(offer.clone()),
            Self::NothingToPay => Variant::NothingToPay(generated::NothingToPay {}),
            Self::Working => Variant::Working(generated::Working {}),
            Self::Result { transaction_id, outcome, receipt } => {
                let (outcome, decline_reason) = match outcome {
                    Outcome::Approved => (generated::Outcome::Approved, 0),
                    Outcome::Declined(reason) => (generated::Outcome::Declined, reason.code()),
                    Outcome::Pending => (generated::Outcome::Pending, 0),
                    Outcome::Reversed => (generated::Outcome::Reversed, 0),
                    Outcome::Captured => (generated::Outcome::Captured, 0),
                };
                Variant::Result(generated::Result {
                    transaction_id: octets(transaction_id),
                    outcome: number_of(outcome),
                    decline_reason: decline_reason.into(),
                    receipt: receipt.clone().unwrap_or_default(),
                })
            }
            Self::NotUsed { transaction_id, exclusion } => Variant::NotUsed(generated::NotUsed {
                transaction_id: octets(transaction_id),
                exclusion: exclusion.clone(),
            }),
            Self::Keyring(keyring) => Variant::Keyring(keyring.clone()),
            Self::Taken(id) => Variant::Taken(generated::Taken { transaction_id: octets(id) }),
            Self::Withdrawn(id) => {
                Variant::Withdrawn(generated::Withdrawn { transaction_id: octets(id) })
            }
            Self::Expired(id) => {
                Variant::Expired(generated::Expired { transaction_id: octets(id) })
            }
            Self::Error(error) => Variant::Error(generated_error(error)),
        };
        generated::FromTerminal { message: Some(message) }
    }

    fn from_generated(envelope: generated::FromTerminal) -> Result<Self, ProtocolError> {
        use generated::from_terminal::Message as Variant;
        match envelope.message.ok_or_else(|| malformed("no message that this version knows"))? {
            Variant::Offer(offer) => Ok(Self::Offer(offer)),
            Variant::NothingToPay(_) => Ok(Self::NothingToPay),
            Variant::Working(_) => Ok(Self::Working),
            Variant::Result(message) => {
                let outcome = match outcome_of(message.outcome) {
                    generated::Outcome::Approved => Outcome::Approved,
                    generated::Outcome::Declined => {
                        let reason = DeclineReason::heard(message.decline_reason);
                        Outcome::Declined(
                            reason.ok_or_else(|| malformed("declined for no reason"))?,
                        )
                    }
                    generated::Outcome::Pending => Outcome::Pending,
                    generated::Outcome::Reversed => Outcome::Reversed,
                    generated::Outcome::Captured => Outcome::Captured,
                    generated::Outcome::Unspecified => {
                        return Err(malformed("no (or an unknown) outcome"));
                    }
                };
                Ok(Self::Result {
                    transaction_id: transaction(&message.transaction_id)?,
                    outcome,
                    receipt: (!message.receipt.is_empty()).then_some(message.receipt),
                })
            }
            Variant::NotUsed(message) => Ok(Self::NotUsed {
                transaction_id: transaction(&message.transaction_id)?,
                exclusion: message.exclusion,
            }),
            Variant::Keyring(keyring) => Ok(Self::Keyring(keyring)),
            Variant::Taken(message) => Ok(Self::Taken(transaction(&message.transaction_id)?)),
            Variant::Withdrawn(message) => {
                Ok(Self::Withdrawn(transaction(&message.transaction_id)?))
            }
            Variant::Expired(message) => Ok(Self::Expired(transaction(&message.transaction_id)?)),
            Variant::Error(message) => Ok(Self::Error(error_of(message)?)),
        }
    }
}

fn number_of(outcome: generated::Outcome) -> u64 {
    u64::try_from(i32::from(outcome)).unwrap_or_default()
}

/// The outcome that a number stands for; "unspecified" for one that this version does not know.
fn outcome_of(number: u64) -> generated::Outcome {
    i32::try_from(number)
        .ok()
        .and_then(|number| generated::Outcome::try_from(number).ok())
        .unwrap_or_default()
}

fn generated_error(error: &ProtocolError) -> generated::Error {
    generated::Error { code: error.wire.code().into(), detail: error.detail.clone() }
}

fn error_of(message: generated::Error) -> Result<ProtocolError, ProtocolError> {
    let wire = u32::try_from(message.code)
        .ok()
        .and_then(WireError::from_code)
        .ok_or_else(|| malformed(format!("unknown error {}", message.code)))?;
    Ok(ProtocolError::new(wire, message.detail))
}

/// Encodes an error in the clear, for a message of kind `PlainError`.
pub fn encode_plain_error(error: &ProtocolError) -> Vec<u8> {
    generated_error(error).encode_to_vec()
}

/// Reads an error in the clear. Anybody can have sent it: it may end an attempt, never a payment.
///
/// # Errors
/// [`WireError::MalformedMessage`] if the octets are none.
pub fn decode_plain_error(octets: &[u8]) -> Result<ProtocolError, ProtocolError> {
    error_of(generated::Error::decode(octets).map_err(malformed)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> TransactionId {
        TransactionId::from_random([1; 16])
    }

    #[test]
    fn every_message_of_a_phone_reads_back() {
        for message in [
            FromPhone::PaymentCommand { transaction_id: id(), sealed_command: vec![1, 2] },
            FromPhone::Opening {
                matching_nonce: MatchingNonce([5; 16]),
                keyring_issued_at: UnixTime { seconds: 7 },
            },
            FromPhone::Cancel,
            FromPhone::ResultQuery { transaction_id: id(), command_digest: CommandDigest([3; 32]) },
            FromPhone::ReceiptAck,
        ] {
            assert_eq!(FromPhone::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn every_message_of_a_terminal_reads_back() {
        let result =
            |outcome, receipt| FromTerminal::Result { transaction_id: id(), outcome, receipt };
        for message in [
            FromTerminal::Offer(vec![1]),
            FromTerminal::NothingToPay,
            FromTerminal::Working,
            result(Outcome::Approved, Some(vec![1])),
            result(Outcome::Declined(DeclineReason::InsufficientFunds), Some(vec![1])),
            result(Outcome::Pending, None),
            result(Outcome::Reversed, None),
            result(Outcome::Captured, Some(vec![1])),
            FromTerminal::NotUsed { transaction_id: id(), exclusion: vec![1] },
            FromTerminal::Keyring(vec![1]),
            FromTerminal::Taken(id()),
            FromTerminal::Withdrawn(id()),
            FromTerminal::Expired(id()),
            FromTerminal::Error(ProtocolError::new(WireError::Busy, "x")),
        ] {
            assert_eq!(FromTerminal::decode(&message.encode()), Ok(message.clone()));
            let answer = HelloAnswer { certificate: vec![9], first: message };
            assert_eq!(HelloAnswer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_not_cut_to_one_that_is_good() {
        // 2^32 + 1, as a varint.
        let large = [0x81, 0x80, 0x80, 0x80, 0x10];
        let with_number = |field: u8| {
            let mut octets = FromTerminal::Result {
                transaction_id: id(),
                outcome: Outcome::Approved,
                receipt: Some(vec![1]),
            }
            .encode();
            octets.truncate(2);
            let mut body = [&[0x0a, 16][..], id().as_octets()].concat();
            body.extend([field << 3]);
            body.extend(large);
            octets[1] = u8::try_from(body.len()).unwrap();
            [octets, body].concat()
        };
        let good = FromTerminal::decode(&with_number(9)).unwrap_err();
        assert!(good.detail.contains("outcome"), "an unknown field is ignored: {good}");
        let error = FromTerminal::decode(&with_number(2)).unwrap_err();
        assert_eq!(error.wire, WireError::MalformedMessage, "{error}");
        let hello = [&[0x0a, 5][..], &large].concat();
        assert_eq!(Hello::decode(&hello).unwrap_err().wire, WireError::VersionUnsupported);
    }

    #[test]
    fn a_hello_that_lacks_the_version_it_uses_is_refused() {
        let hello = generated::Hello { versions: vec![2], ..Default::default() };
        assert_eq!(
            Hello::decode(&hello.encode_to_vec()).unwrap_err().wire,
            WireError::VersionUnsupported
        );
    }

    proptest! {
        #[test]
        fn any_octets_are_a_named_error_at_worst(octets: Vec<u8>) {
            let _ = Hello::decode(&octets);
            let _ = HelloAnswer::decode(&octets);
            let _ = FromPhone::decode(&octets);
            let _ = FromTerminal::decode(&octets);
            let _ = Info::decode(&octets);
            let _ = decode_plain_error(&octets);
        }
    }
}
