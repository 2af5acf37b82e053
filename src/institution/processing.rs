//! The institution: its keys, its store, and what it does with them.
//!
//! Time and randomness are inputs, and nothing here knows how a request arrived: a simulator drives
//! the same logic as the gRPC server. Whoever calls has to know by other means which terminal is
//! asking.

use sha2::{Digest, Sha256};

use super::decision::{Decision, Question, decide, open_command};
use super::keys::InstitutionKeys;
use super::store;
use super::store::ledger::{EntryKind, LedgerAccount, transfer};
use super::store::{
    Account, AccountId, Authorisation, Card, CardEnrolmentKeys, CardState, EnrolmentCode,
    EnrolmentSubject, LedgerEntry, LedgerReport, NewCard, PageEnd, Store, StoreError, Terminal,
    TerminalState, TransactionDetail, TransactionRecord, TransactionState,
};
use crate::credential::{
    TerminalCertificate, VerifyingKey, sign_receipt, verify_card_enrolment_proof,
};
use crate::domain::{
    Amount, CardId, Currency, DeclineReason, MINOR_UNITS_MAX, Receipt, ReceiptStatus,
    ReversalReason, TerminalId, TransactionId, UnixTime,
};
use crate::protocol::{decode_offer, digest_offer};

/// How long a terminal's certificates are good, in seconds: three years.
pub const TERMINAL_VALIDITY_S: u64 = 3 * 365 * 86_400;
/// How long a card is good, in seconds: three years.
pub const CARD_VALIDITY_S: u64 = 3 * 365 * 86_400;
/// How long before its making a certificate is good already, in seconds: phones and machines whose
/// clocks are behind.
pub const CLOCK_TOLERANCE_S: u64 = 86_400;
/// How many characters an approval code has.
pub const APPROVAL_CODE_CHARACTERS: usize = 6;
/// How many transactions one page of a reconciliation has at most.
pub const PAGE_TRANSACTIONS_MAX: u32 = 256;
/// How long a merchant's id may be, in octets.
const MERCHANT_ID_OCTETS_MAX: usize = 32;
/// How long a merchant's name may be, in octets: as in an offer.
const MERCHANT_NAME_OCTETS_MAX: usize = 40;
/// How long an account's name may be, in octets.
const ACCOUNT_NAME_OCTETS_MAX: usize = 64;

/// Without the letters and digits that look like others.
const APPROVAL_CODE_LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A terminal's request to authorise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorisationRequest {
    /// The terminal that asks, as its client certificate says.
    pub terminal_id: TerminalId,
    /// Which payment.
    pub transaction_id: TransactionId,
    /// The offer's octets as the phone got them.
    pub offer: Vec<u8>,
    /// How old the offer is by the terminal's monotonic clock, in milliseconds.
    pub offer_age_ms: u64,
    /// The sealed command's octets as the phone sent them.
    pub sealed_command: Vec<u8>,
}

impl AuthorisationRequest {
    /// Over all that makes two requests the same payment. The age is left out: it grows from one
    /// repeat to the next.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.offer, &self.sealed_command] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// A transaction as the terminal is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Which.
    pub id: TransactionId,
    /// How it stands.
    pub state: TransactionState,
    /// Where declined; and [`DeclineReason::AlreadyReversed`] in the answer to an authorisation
    /// that came too late.
    pub decline_reason: Option<DeclineReason>,
    /// None where the institution never saw the offer.
    pub amount: Option<Amount>,
    /// The newest signed receipt, encoded; empty for unknown ids and tombstones.
    pub receipt: Vec<u8>,
    /// By the institution's clock; 0 for unknown ids.
    pub created_at: UnixTime,
}

impl From<&TransactionRecord> for Transaction {
    fn from(record: &TransactionRecord) -> Self {
        let receipt = match record.state {
            TransactionState::Reversed => &record.reversal_receipt,
            TransactionState::Unknown
            | TransactionState::Declined
            | TransactionState::Approved
            | TransactionState::Captured => &record.authorisation_receipt,
        };
        Self {
            id: record.id,
            state: record.state,
            decline_reason: record.decline_reason,
            amount: record.amount,
            receipt: receipt.clone(),
            created_at: record.created_at,
        }
    }
}

/// What a terminal gets at enrolment, but for its client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalEnrolment {
    /// Which terminal it is.
    pub terminal_id: TerminalId,
    /// For phones: an encoded signed terminal certificate.
    pub terminal_certificate: Vec<u8>,
    /// The encoded signed keyring.
    pub keyring: Vec<u8>,
    /// P-256, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
    /// Last second its certificates are good.
    pub not_after: UnixTime,
}

/// What a wallet gets at enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardEnrolment {
    /// Which card it is.
    pub card_id: CardId,
    /// The encoded signed keyring.
    pub keyring: Vec<u8>,
    /// P-256, SEC1 uncompressed.
    pub root_public_key: Vec<u8>,
    /// Last second the card may pay.
    pub not_after: UnixTime,
    /// What it may pay at once, in minor units.
    pub payment_limit_minor: u64,
    /// The account's currency.
    pub currency: Currency,
}

/// What a card may do, as the institution's people set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardTerms {
    /// Where it pays from.
    pub account: AccountId,
    /// What it may pay at once; in the account's currency.
    pub payment_limit: Amount,
    /// Above it, a passcode or a biometric trait is wanted; none: never.
    pub verification_limit: Option<Amount>,
}

/// Why the institution did not do what it was asked. Nothing was changed then. Never holds card
/// data.
#[derive(Debug, thiserror::Error)]
pub enum InstitutionError {
    /// The request cannot be meant like that: the asker's fault, and the same request will be
    /// refused again.
    #[error("{field}: {detail}")]
    InvalidRequest {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The id was used for something else.
    #[error(
        "transaction {0} was authorised with another offer or another command: nothing was charged for this one; \
         make a new transaction id for a new payment"
    )]
    OtherContent(TransactionId),
    /// Only what is approved can be captured.
    #[error("transaction {id} is {}, so it cannot be captured; nothing was changed", state.name())]
    NotCapturable {
        /// Which.
        id: TransactionId,
        /// How it stands.
        state: TransactionState,
    },
    /// There is none of that name.
    #[error("there is no {what} {id}")]
    NotFound {
        /// Of which kind.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// No such code was issued, or it was replaced by a newer one.
    #[error(
        "the enrolment code is not known (or a newer one was issued); ask the institution for a new one"
    )]
    CodeUnknown,
    /// The code's time has run out.
    #[error("the enrolment code was good until {0}; ask the institution for a new one")]
    CodeExpired(UnixTime),
    /// The code was used with other keys.
    #[error(
        "the enrolment code was used already, with other keys; if that was not you, tell the institution"
    )]
    CodeUsed,
    /// The terminal or card was shut out.
    #[error("this {0} is blocked; ask the institution")]
    Blocked(&'static str),
    /// The client certificate is not the terminal's newest.
    #[error(
        "the client certificate of terminal {0} was replaced by a newer enrolment; use the newer one, or enrol again"
    )]
    CertificateReplaced(TerminalId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for InstitutionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The reference institution.
#[derive(Debug)]
pub struct Institution {
    keys: InstitutionKeys,
    store: Store,
}

impl Institution {
    /// The institution with these keys and this store.
    pub fn new(keys: InstitutionKeys, store: Store) -> Self {
        Self { keys, store }
    }

    /// Its keys.
    pub fn keys(&self) -> &InstitutionKeys {
        &self.keys
    }

    /// Checks the card's command against the offer and reserves the amount, or declines.
    ///
    /// A repeat gets the first answer, octet by octet, unless the transaction was reversed since:
    /// then, and for a tombstone, the answer is [`TransactionState::Reversed`] with
    /// [`DeclineReason::AlreadyReversed`], since nobody may release goods for it any more.
    /// `random` makes the approval code.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`], [`InstitutionError::OtherContent`],
    /// [`InstitutionError::Store`].
    pub fn authorise(
        &mut self,
        request: &AuthorisationRequest,
        now: UnixTime,
        random: [u8; APPROVAL_CODE_CHARACTERS],
    ) -> Result<Transaction, InstitutionError> {
        let offer = decode_offer(&request.offer).map_err(|error| invalid("offer", error.detail))?;
        if offer.transaction_id() != request.transaction_id {
            return Err(invalid(
                "offer.transaction_id",
                "is not the transaction id of the request",
            ));
        }
        if offer.terminal_id() != request.terminal_id {
            return Err(invalid(
                "offer.terminal_id",
                "is not the terminal of the client certificate",
            ));
        }
        let request_digest = request.digest();
        let offer_digest = digest_offer(&request.offer);
        let keys = &self.keys;
        self.store.write(|connection| {
            let known = store::payment_transaction::find(
                connection,
                request.terminal_id,
                request.transaction_id,
            )?;
            if let Some(record) = known {
                return repeated_answer(&record, &request_digest);
            }
            let terminal = store::terminal::find(connection, request.terminal_id)?;
            let command = open_command(&keys.sealing, &request.sealed_command, &offer_digest);
            let card = match &command {
                Ok(opened) => store::card::find(connection, opened.command.card_id)?,
                Err(_) => None,
            };
            let available_minor = match &card {
                Some(card) => store::ledger::balance(
                    connection,
                    LedgerAccount::Available(card.account),
                    card.currency,
                )?,
                None => 0,
            };
            let Decision { verdict, accepted_counter } = decide(&Question {
                terminal: terminal.as_ref(),
                offer: &offer,
                offer_digest,
                offer_age_ms: request.offer_age_ms,
                command: command.as_ref().map_err(|reason| *reason),
                card: card.as_ref(),
                available_minor,
                now,
            });
            let approval_code = approval_code_of(random);
            let card_hint = match &command {
                Ok(opened) => opened.command.card_id.hint(),
                Err(_) => String::new(),
            };
            let receipt = sign_receipt(
                &Receipt {
                    transaction_id: request.transaction_id,
                    offer_digest,
                    status: match verdict {
                        Ok(()) => ReceiptStatus::Approved { approval_code: approval_code.clone() },
                        Err(reason) => ReceiptStatus::Declined(reason),
                    },
                    amount: offer.amount(),
                    terminal_id: request.terminal_id,
                    decided_at: now,
                    card_hint: card_hint.clone(),
                },
                &keys.receipt,
            )
            .encode();
            let number = store::payment_transaction::insert(
                connection,
                &Authorisation {
                    terminal: request.terminal_id,
                    id: request.transaction_id,
                    verdict: verdict.map(|()| approval_code.as_str()),
                    request_digest,
                    offer: &request.offer,
                    offer_digest,
                    amount: offer.amount(),
                    merchant_id: terminal.as_ref().map(|terminal| terminal.merchant_id.as_str()),
                    card: card.as_ref().map(|card| card.id),
                    card_counter: accepted_counter,
                    card_hint: &card_hint,
                    receipt: &receipt,
                    now,
                },
            )?;
            if let (Some(card), Some(counter)) = (&card, accepted_counter) {
                store::card::set_counter(connection, card.id, counter)?;
                if verdict.is_ok() {
                    transfer(
                        connection,
                        EntryKind::Hold,
                        Some(number),
                        LedgerAccount::Available(card.account),
                        LedgerAccount::Held(card.account),
                        offer.amount(),
                        now,
                    )?;
                }
            }
            Ok(Transaction {
                id: request.transaction_id,
                state: match verdict {
                    Ok(()) => TransactionState::Approved,
                    Err(_) => TransactionState::Declined,
                },
                decline_reason: verdict.err(),
                amount: Some(offer.amount()),
                receipt,
                created_at: now,
            })
        })
    }

    /// Takes what was reserved. A repeat gets the first answer.
    ///
    /// # Errors
    /// [`InstitutionError::NotCapturable`] unless it is approved or captured;
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn capture(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        self.store.write(|connection| {
            let record =
                store::payment_transaction::find(connection, terminal, id)?.ok_or_else(|| {
                    InstitutionError::NotFound {
                        what: "transaction",
                        id: format!(
                            "{id} of this terminal, so nothing can be captured; authorise it first"
                        ),
                    }
                })?;
            match record.state {
                TransactionState::Captured => return Ok(Transaction::from(&record)),
                TransactionState::Approved => {}
                state @ (TransactionState::Unknown
                | TransactionState::Declined
                | TransactionState::Reversed) => {
                    return Err(InstitutionError::NotCapturable { id, state });
                }
            }
            let (account, merchant, amount) = parties(&record)?;
            transfer(
                connection,
                EntryKind::Capture,
                Some(record.number),
                LedgerAccount::Held(account),
                LedgerAccount::Payable(merchant),
                amount,
                now,
            )?;
            store::payment_transaction::set_captured(connection, record.number, now)?;
            Ok(Transaction { state: TransactionState::Captured, ..Transaction::from(&record) })
        })
    }

    /// Gives back what was reserved or taken, all of it. What was declined stays declined. An id
    /// never seen becomes a tombstone. A repeat gets the first answer, whatever its reason.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn reverse(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
        reason: ReversalReason,
        now: UnixTime,
    ) -> Result<Transaction, InstitutionError> {
        let keys = &self.keys;
        self.store.write(|connection| {
            let Some(record) = store::payment_transaction::find(connection, terminal, id)? else {
                store::payment_transaction::insert_tombstone(
                    connection, terminal, id, reason, now,
                )?;
                return Ok(Transaction {
                    id,
                    state: TransactionState::Reversed,
                    decline_reason: None,
                    amount: None,
                    receipt: Vec::new(),
                    created_at: now,
                });
            };
            let (account, merchant, amount) = match record.state {
                TransactionState::Approved | TransactionState::Captured => parties(&record)?,
                TransactionState::Unknown
                | TransactionState::Declined
                | TransactionState::Reversed => {
                    return Ok(Transaction::from(&record));
                }
            };
            let from = if record.state == TransactionState::Captured {
                LedgerAccount::Payable(merchant)
            } else {
                LedgerAccount::Held(account)
            };
            let to = LedgerAccount::Available(account);
            transfer(connection, EntryKind::Reversal, Some(record.number), from, to, amount, now)?;
            let receipt = sign_receipt(
                &Receipt {
                    transaction_id: id,
                    offer_digest: record
                        .offer_digest
                        .ok_or(StoreError::Corrupt { what: "transaction without its offer" })?,
                    status: ReceiptStatus::Reversed,
                    amount,
                    terminal_id: terminal,
                    decided_at: now,
                    card_hint: record.card_hint.clone().unwrap_or_default(),
                },
                &keys.receipt,
            )
            .encode();
            store::payment_transaction::set_reversed(
                connection,
                record.number,
                reason,
                &receipt,
                now,
            )?;
            Ok(Transaction {
                state: TransactionState::Reversed,
                receipt,
                ..Transaction::from(&record)
            })
        })
    }

    /// What the institution knows of the transaction; [`TransactionState::Unknown`] if nothing.
    /// Changes nothing.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn transaction(
        &mut self,
        terminal: TerminalId,
        id: TransactionId,
    ) -> Result<Transaction, InstitutionError> {
        self.store.read(|connection| {
            let record = store::payment_transaction::find(connection, terminal, id)?;
            Ok(record.as_ref().map_or_else(
                || Transaction {
                    id,
                    state: TransactionState::Unknown,
                    decline_reason: None,
                    amount: None,
                    receipt: Vec::new(),
                    created_at: UnixTime::default(),
                },
                Transaction::from,
            ))
        })
    }

    /// One page of the terminal's transactions that were created from `from` (included) until
    /// `until` (excluded), oldest first, at most [`PAGE_TRANSACTIONS_MAX`]; and where it ended,
    /// if it was full. `after` is where the page before ended; none for the first.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] if the period ends before it begins;
    /// [`InstitutionError::Store`].
    pub fn reconcile(
        &mut self,
        terminal: TerminalId,
        from: UnixTime,
        until: UnixTime,
        after: Option<PageEnd>,
    ) -> Result<(Vec<Transaction>, Option<PageEnd>), InstitutionError> {
        if until < from {
            return Err(invalid("until_unix_s", "is before from_unix_s"));
        }
        self.store.read(|connection| {
            let limit = PAGE_TRANSACTIONS_MAX;
            let records =
                store::payment_transaction::page(connection, terminal, from, until, after, limit)?;
            let is_full = u32::try_from(records.len()).is_ok_and(|length| length >= limit);
            let next = records.last().filter(|_| is_full).map(PageEnd::of);
            Ok((records.iter().map(Transaction::from).collect(), next))
        })
    }

    /// Refuses a terminal that shows the certificate of an earlier enrolment. `client_key_digest`
    /// is SHA-256 over the public key of its client certificate. An unknown terminal passes:
    /// its authorisations are declined in words.
    ///
    /// # Errors
    /// [`InstitutionError::CertificateReplaced`]; [`InstitutionError::Store`].
    pub fn check_client_key(
        &mut self,
        terminal: TerminalId,
        client_key_digest: &[u8; 32],
    ) -> Result<(), InstitutionError> {
        self.store.read(|connection| {
            let known = store::terminal::find(connection, terminal)?;
            match known.and_then(|terminal| terminal.client_key_digest) {
                Some(newest) if newest != *client_key_digest => {
                    Err(InstitutionError::CertificateReplaced(terminal))
                }
                Some(_) | None => Ok(()),
            }
        })
    }

    /// Enrols the terminal that a one-time code is for, with the static key of its channel. The
    /// same keys may use the code again while it lasts, so that a lost answer costs nothing;
    /// other keys may not.
    ///
    /// # Errors
    /// [`InstitutionError`]: the code is malformed, unknown, expired, used, or not a terminal's; the terminal is
    /// blocked; the store.
    pub fn enrol_terminal(
        &mut self,
        code: &str,
        channel_key: &[u8; 32],
        client_key_digest: &[u8; 32],
        now: UnixTime,
    ) -> Result<TerminalEnrolment, InstitutionError> {
        let code = EnrolmentCode::parse(code).map_err(|error| invalid("code", error))?;
        let used_by = Sha256::new()
            .chain_update(channel_key)
            .chain_update(client_key_digest)
            .finalize()
            .into();
        let not_after = UnixTime { seconds: now.seconds.saturating_add(TERMINAL_VALIDITY_S) };
        let keys = &self.keys;
        self.store.write(|connection| {
            let subject = use_code(connection, &code, used_by, now)?;
            let EnrolmentSubject::Terminal(id) = subject else {
                return Err(invalid("code", "is for a card, not for a terminal"));
            };
            let terminal = store::terminal::find(connection, id)?
                .ok_or(StoreError::Corrupt { what: "code for no terminal" })?;
            if terminal.state == TerminalState::Blocked {
                return Err(InstitutionError::Blocked("terminal"));
            }
            store::terminal::enrol(connection, id, channel_key, client_key_digest, not_after)?;
            let certificate = TerminalCertificate {
                terminal_id: id,
                merchant_id: terminal.merchant_id,
                merchant_name: terminal.merchant_name,
                channel_key: *channel_key,
                not_before: UnixTime { seconds: now.seconds.saturating_sub(CLOCK_TOLERANCE_S) },
                not_after,
            };
            Ok(TerminalEnrolment {
                terminal_id: id,
                terminal_certificate: certificate.sign(&keys.terminal_certificate).encode(),
                keyring: keys.keyring.encode(),
                root_public_key: keys.root_public_key.to_sec1(),
                not_after,
            })
        })
    }

    /// Enrols the card that a one-time code is for. The card proves that it holds the private key
    /// of `public_key` (SEC1, uncompressed). The same key may use the code again while it
    /// lasts.
    ///
    /// # Errors
    /// [`InstitutionError`]: the code is malformed, unknown, expired, used, or not a card's; the key is none; the proof
    /// is wrong; the card is blocked; the store.
    pub fn enrol_card(
        &mut self,
        code: &str,
        public_key: &[u8],
        proof: &[u8],
        now: UnixTime,
    ) -> Result<CardEnrolment, InstitutionError> {
        let parsed = EnrolmentCode::parse(code).map_err(|error| invalid("code", error))?;
        let public_key = VerifyingKey::from_sec1(public_key)
            .map_err(|error| invalid("card_public_key", error))?;
        verify_card_enrolment_proof(&public_key, code, proof)
            .map_err(|error| invalid("proof", error))?;
        let used_by = Sha256::digest(public_key.to_sec1()).into();
        let keys = &self.keys;
        self.store.write(|connection| {
            let subject = use_code(connection, &parsed, used_by, now)?;
            let EnrolmentSubject::Card(id) = subject else {
                return Err(invalid("code", "is for a terminal, not for a card"));
            };
            let card = store::card::find(connection, id)?
                .ok_or(StoreError::Corrupt { what: "code for no card" })?;
            if card.state == CardState::Blocked {
                return Err(InstitutionError::Blocked("card"));
            }
            // A repeat keeps the first answer's end.
            let not_after = card
                .not_after
                .unwrap_or(UnixTime { seconds: now.seconds.saturating_add(CARD_VALIDITY_S) });
            store::card::enrol(connection, id, CardEnrolmentKeys { public_key, not_after })?;
            Ok(CardEnrolment {
                card_id: id,
                keyring: keys.keyring.encode(),
                root_public_key: keys.root_public_key.to_sec1(),
                not_after,
                payment_limit_minor: card.payment_limit_minor,
                currency: card.currency,
            })
        })
    }

    /// Opens an account, with an opening balance where one is given.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the name; [`InstitutionError::Store`].
    pub fn create_account(
        &mut self,
        name: &str,
        currency: Currency,
        balance: Option<Amount>,
        now: UnixTime,
    ) -> Result<AccountId, InstitutionError> {
        check_line("name", name, ACCOUNT_NAME_OCTETS_MAX)?;
        if balance.is_some_and(|balance| balance.currency() != currency) {
            return Err(invalid("balance", format!("is not in the account's currency {currency}")));
        }
        self.store.write(|connection| {
            let account = store::card::insert_account(connection, name, currency, now)?;
            if let Some(balance) = balance {
                let to = LedgerAccount::Available(account);
                transfer(
                    connection,
                    EntryKind::Funding,
                    None,
                    LedgerAccount::Funding,
                    to,
                    balance,
                    now,
                )?;
            }
            Ok(account)
        })
    }

    /// Every account.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn accounts(&mut self) -> Result<Vec<Account>, InstitutionError> {
        self.store.read(|connection| Ok(store::card::accounts(connection, None)?))
    }

    /// One account.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn account(&mut self, id: AccountId) -> Result<Account, InstitutionError> {
        self.store.read(|connection| {
            store::card::accounts(connection, Some(id))?
                .pop()
                .ok_or_else(|| not_found("account", id))
        })
    }

    /// Registers a terminal; `code` enrols it until `code_not_after`.
    ///
    /// # Errors
    /// [`InstitutionError::InvalidRequest`] for the merchant; [`InstitutionError::Store`].
    pub fn add_terminal(
        &mut self,
        id: TerminalId,
        merchant_id: &str,
        merchant_name: &str,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        check_line("merchant_id", merchant_id, MERCHANT_ID_OCTETS_MAX)?;
        check_line("merchant_name", merchant_name, MERCHANT_NAME_OCTETS_MAX)?;
        self.store.write(|connection| {
            store::terminal::insert(connection, id, merchant_id, merchant_name, now)?;
            let subject = EnrolmentSubject::Terminal(id);
            Ok(store::enrolment_code::insert(connection, code, subject, code_not_after)?)
        })
    }

    /// Gives a terminal a new code, to enrol once more: with new keys, or before its certificates
    /// end. Codes that it had and did not use are void.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn renew_terminal_code(
        &mut self,
        id: TerminalId,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
    ) -> Result<(), InstitutionError> {
        self.store.write(|connection| {
            store::terminal::find(connection, id)?.ok_or_else(|| not_found("terminal", id))?;
            let subject = EnrolmentSubject::Terminal(id);
            Ok(store::enrolment_code::insert(connection, code, subject, code_not_after)?)
        })
    }

    /// Every terminal.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn terminals(&mut self) -> Result<Vec<Terminal>, InstitutionError> {
        self.store.read(|connection| Ok(store::terminal::all(connection)?))
    }

    /// Shuts a terminal out, or lets it in again.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn set_terminal_blocked(
        &mut self,
        id: TerminalId,
        blocked: bool,
    ) -> Result<(), InstitutionError> {
        self.store.write(|connection| {
            let found = store::terminal::set_blocked(connection, id, blocked)?;
            found.then_some(()).ok_or_else(|| not_found("terminal", id))
        })
    }

    /// Makes a card; `code` enrols it until `code_not_after`.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`] for the account; [`InstitutionError::InvalidRequest`] for
    /// limits in another currency; [`InstitutionError::Store`].
    pub fn add_card(
        &mut self,
        id: CardId,
        terms: CardTerms,
        code: &EnrolmentCode,
        code_not_after: UnixTime,
        now: UnixTime,
    ) -> Result<(), InstitutionError> {
        self.store.write(|connection| {
            let account = store::card::accounts(connection, Some(terms.account))?
                .pop()
                .ok_or_else(|| not_found("account", terms.account))?;
            for (field, limit) in [
                ("limit", Some(terms.payment_limit)),
                ("verification_limit", terms.verification_limit),
            ] {
                if limit.is_some_and(|limit| limit.currency() != account.currency) {
                    return Err(invalid(
                        field,
                        format!("is not in the account's currency {}", account.currency),
                    ));
                }
            }
            let card = NewCard {
                id,
                account: account.id,
                payment_limit_minor: terms.payment_limit.minor(),
                verification_limit_minor: terms
                    .verification_limit
                    .map_or(MINOR_UNITS_MAX, |limit| limit.minor()),
            };
            store::card::insert(connection, card, now)?;
            let subject = EnrolmentSubject::Card(id);
            Ok(store::enrolment_code::insert(connection, code, subject, code_not_after)?)
        })
    }

    /// Every card.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn cards(&mut self) -> Result<Vec<Card>, InstitutionError> {
        self.store.read(|connection| Ok(store::card::all(connection)?))
    }

    /// Shuts a card out, or lets it in again.
    ///
    /// # Errors
    /// [`InstitutionError::NotFound`]; [`InstitutionError::Store`].
    pub fn set_card_blocked(&mut self, id: CardId, blocked: bool) -> Result<(), InstitutionError> {
        self.store.write(|connection| {
            let found = store::card::set_blocked(connection, id, blocked)?;
            found.then_some(()).ok_or_else(|| not_found("card ending in", id.hint()))
        })
    }

    /// The newest transactions, of one terminal or of all, newest first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_transactions(
        &mut self,
        terminal: Option<TerminalId>,
        limit: u32,
    ) -> Result<Vec<TransactionDetail>, InstitutionError> {
        self.store.read(|connection| {
            let records = store::payment_transaction::newest(connection, terminal, limit)?;
            Ok(records.into_iter().map(TransactionDetail::from).collect())
        })
    }

    /// Every transaction of this id: an id belongs to a terminal, so there may be one for each.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn transactions_with_id(
        &mut self,
        id: TransactionId,
    ) -> Result<Vec<TransactionDetail>, InstitutionError> {
        self.store.read(|connection| {
            let records = store::payment_transaction::with_id(connection, id)?;
            Ok(records.into_iter().map(TransactionDetail::from).collect())
        })
    }

    /// Holds the books against their rules.
    ///
    /// # Errors
    /// [`InstitutionError::Store`]. Wrong books are no error but faults in the report.
    pub fn check_ledger(&mut self) -> Result<LedgerReport, InstitutionError> {
        self.store.read(|connection| Ok(store::ledger::check(connection)?))
    }

    /// The newest entries of the ledger, oldest of them first.
    ///
    /// # Errors
    /// [`InstitutionError::Store`].
    pub fn newest_ledger_entries(
        &mut self,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, InstitutionError> {
        self.store.read(|connection| Ok(store::ledger::newest_entries(connection, limit)?))
    }
}

/// The answer to an authorisation whose id is known already.
fn repeated_answer(
    record: &TransactionRecord,
    request_digest: &[u8; 32],
) -> Result<Transaction, InstitutionError> {
    if record.request_digest.is_some_and(|first| first != *request_digest) {
        return Err(InstitutionError::OtherContent(record.id));
    }
    let answer = Transaction::from(record);
    Ok(match record.state {
        TransactionState::Reversed => {
            Transaction { decline_reason: Some(DeclineReason::AlreadyReversed), ..answer }
        }
        // The first answer to this question, whatever was captured since.
        TransactionState::Captured => Transaction { state: TransactionState::Approved, ..answer },
        TransactionState::Unknown | TransactionState::Declined | TransactionState::Approved => {
            answer
        }
    })
}

/// Between whom an approved transaction moves money.
fn parties(record: &TransactionRecord) -> Result<(AccountId, &str, Amount), StoreError> {
    match (record.account, &record.merchant_id, record.amount) {
        (Some(account), Some(merchant), Some(amount)) => Ok((account, merchant, amount)),
        (_, _, _) => {
            Err(StoreError::Corrupt { what: "transaction without card, merchant or amount" })
        }
    }
}

/// Marks a code as used by these keys, if they may use it; returns what it is for.
fn use_code(
    connection: &rusqlite::Connection,
    code: &EnrolmentCode,
    used_by: [u8; 32],
    now: UnixTime,
) -> Result<EnrolmentSubject, InstitutionError> {
    let record =
        store::enrolment_code::find(connection, code)?.ok_or(InstitutionError::CodeUnknown)?;
    if record.used_by.is_some_and(|first| first != used_by) {
        return Err(InstitutionError::CodeUsed);
    }
    if now > record.not_after {
        return Err(InstitutionError::CodeExpired(record.not_after));
    }
    store::enrolment_code::mark_used(connection, code, &used_by)?;
    Ok(record.subject)
}

fn approval_code_of(random: [u8; APPROVAL_CODE_CHARACTERS]) -> String {
    random.iter().map(|octet| char::from(APPROVAL_CODE_LETTERS[usize::from(octet & 31)])).collect()
}

fn invalid(field: &'static str, detail: impl ToString) -> InstitutionError {
    InstitutionError::InvalidRequest { field, detail: detail.to_string() }
}

fn not_found(what: &'static str, id: impl ToString) -> InstitutionError {
    InstitutionError::NotFound { what, id: id.to_string() }
}

fn check_line(field: &'static str, text: &str, octets_max: usize) -> Result<(), InstitutionError> {
    if text.is_empty() || text.len() > octets_max || text.chars().any(char::is_control) {
        return Err(invalid(field, format!("expected 1 to {octets_max} octets on one line")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
