//! The journal on a thread of its own, since a sync to an SD card takes long and must not hold up
//! the air.
//!
//! Requests are done one after another, in the order in which they came. The caller never waits,
//! even if the disk hangs. It has to bound how many requests gather, by how long the oldest has
//! waited.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Journal, JournalError};
use crate::domain::TransactionId;
use crate::terminal::{Payment, RecordNumber, StoreGeneration};

/// Which payments to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// The one with this id.
    TransactionId(TransactionId),
    /// The newest of the sale to which this id belongs.
    Sale(TransactionId),
    /// The one that the till made under this key.
    IdempotencyKey(String),
    /// The newest of each sale, the newest first, or all open ones, the oldest first.
    List {
        open_only: bool,
        /// At most so many.
        limit: usize,
    },
    /// What a life of the institution's store has not confirmed.
    Unconfirmed {
        generation: StoreGeneration,
        /// Only payments that are older than this one.
        before: Option<TransactionId>,
        /// At most so many.
        limit: usize,
    },
}

/// What the journal is asked. `Context` comes back with the answer.
#[derive(Debug)]
pub enum JournalRequest<Context> {
    Append {
        record: RecordNumber,
        /// The payment as it is now.
        payment: Box<Payment>,
    },
    Find {
        search: Search,
        context: Context,
    },
}

/// What the journal answers.
#[derive(Debug)]
pub enum JournalAnswer<Context> {
    /// Every record up to and with this one is durable.
    Journalled(RecordNumber),
    /// What was looked for.
    Found {
        /// The payments, in the order of [`Journal::payments`].
        payments: Vec<Payment>,
        context: Context,
    },
    /// The journal cannot be written or read. It is the last answer.
    Failed(JournalError),
}

/// The driver's end of the journal's thread.
#[derive(Debug)]
pub struct JournalWriter<Context> {
    requests: mpsc::UnboundedSender<JournalRequest<Context>>,
    answers: mpsc::UnboundedReceiver<JournalAnswer<Context>>,
    /// Since when each request waits that has no answer yet, oldest first.
    waiting: VecDeque<Instant>,
}

impl<Context: Send + 'static> JournalWriter<Context> {
    /// Starts the thread. It ends when this is dropped and what was asked is done.
    ///
    /// # Errors
    /// The system's, if there can be no more threads.
    pub fn start(mut journal: impl Journal + 'static) -> std::io::Result<Self> {
        let (requests, mut request_receiver) = mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("journal".into()).spawn(move || {
            while let Some(request) = request_receiver.blocking_recv() {
                let answer = perform(&mut journal, request).unwrap_or_else(JournalAnswer::Failed);
                let failed = matches!(answer, JournalAnswer::Failed(_));
                if answer_sender.send(answer).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Self { requests, answers, waiting: VecDeque::new() })
    }

    /// Asks something. If the thread has ended, the last answer says why.
    pub fn ask(&mut self, request: JournalRequest<Context>) {
        self.waiting.push_back(Instant::now());
        let _ = self.requests.send(request);
    }

    /// Since when the oldest request waits for its answer; none if none does.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waiting.front().copied()
    }

    /// Waits until everything that was asked is done, and ends the thread.
    ///
    /// # Errors
    /// [`JournalError`] if something of it could not be done.
    pub async fn finish(mut self) -> Result<(), JournalError> {
        drop(self.requests);
        while let Some(answer) = self.answers.recv().await {
            if let JournalAnswer::Failed(error) = answer {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next answer; none when the thread has ended. Cancel-safe.
    pub async fn next_answer(&mut self) -> Option<JournalAnswer<Context>> {
        let answer = self.answers.recv().await;
        // Each request has one answer, in order.
        self.waiting.pop_front();
        answer
    }
}

fn perform<Context>(
    journal: &mut impl Journal,
    request: JournalRequest<Context>,
) -> Result<JournalAnswer<Context>, JournalError> {
    match request {
        JournalRequest::Append { record, payment } => {
            journal.append(&payment)?;
            Ok(JournalAnswer::Journalled(record))
        }
        JournalRequest::Find { search, context } => {
            let payments = match search {
                Search::TransactionId(transaction_id) => {
                    Vec::from_iter(journal.payment(transaction_id)?)
                }
                Search::IdempotencyKey(key) => Vec::from_iter(journal.payment_by_key(&key)?),
                Search::Sale(transaction_id) => {
                    Vec::from_iter(journal.newest_of_sale(transaction_id)?)
                }
                Search::List { open_only: true, limit } => journal.payments(true, limit)?,
                Search::List { open_only: false, limit } => journal.newest_sales(limit)?,
                Search::Unconfirmed { generation, before, limit } => {
                    journal.unconfirmed(generation, before, limit)?
                }
            };
            Ok(JournalAnswer::Found { payments, context })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RecoveryLevel, StorageFault};
    use super::*;
    use crate::domain::UnixTime;
    use crate::terminal::PaymentState;

    /// A journal in a list, without a database, that takes so many records and then is full.
    struct ListJournal {
        payments: Vec<Payment>,
        room: usize,
    }

    impl Journal for ListJournal {
        fn append(&mut self, payment: &Payment) -> Result<(), JournalError> {
            if self.payments.len() == self.room {
                return Err(JournalError::Storage {
                    journal: "list".into(),
                    fault: StorageFault::Full,
                    recovery_level: RecoveryLevel::Open,
                    detail: format!("room for {}", self.room),
                });
            }
            self.payments.push(payment.clone());
            Ok(())
        }

        fn payment(&mut self, id: TransactionId) -> Result<Option<Payment>, JournalError> {
            Ok(self.payments.iter().find(|payment| payment.transaction_id == id).cloned())
        }

        fn payment_by_key(&mut self, key: &str) -> Result<Option<Payment>, JournalError> {
            let has_key = |payment: &&Payment| {
                payment.idempotency.as_ref().is_some_and(|(other, _)| other == key)
            };
            Ok(self.payments.iter().rfind(has_key).cloned())
        }

        fn payments(&mut self, _: bool, limit: usize) -> Result<Vec<Payment>, JournalError> {
            Ok(self.payments.iter().take(limit).cloned().collect())
        }

        fn newest_sequence(&mut self) -> Result<u64, JournalError> {
            Ok(self.payments.iter().map(|payment| payment.sequence).max().unwrap_or_default())
        }

        fn newest_of_sale(&mut self, id: TransactionId) -> Result<Option<Payment>, JournalError> {
            Ok(self.payments.iter().rfind(|payment| payment.sale_id == id).cloned())
        }

        fn newest_sales(&mut self, limit: usize) -> Result<Vec<Payment>, JournalError> {
            self.payments(false, limit)
        }

        fn unconfirmed(
            &mut self,
            _: StoreGeneration,
            _: Option<TransactionId>,
            limit: usize,
        ) -> Result<Vec<Payment>, JournalError> {
            Ok(self.payments.iter().take(limit).cloned().collect())
        }
    }

    fn payment(number: u8) -> Payment {
        Payment {
            transaction_id: TransactionId::from_random([number; 16]),
            sale_id: TransactionId::from_random([number; 16]),
            state: PaymentState::Offered,
            amount: "2.50 EUR".parse().unwrap(),
            reference: String::new(),
            capture_after_dispense: true,
            offer: Vec::new(),
            command: None,
            sequence: 0,
            receipt: None,
            exclusion: None,
            confirmed_generation: None,
            released: false,
            dispense_restarts: 0,
            idempotency: None,
            created_at: UnixTime { seconds: 10 },
            updated_at: UnixTime { seconds: 10 },
        }
    }

    #[tokio::test]
    async fn a_journal_of_another_kind_is_written_until_its_own_fault_ends_the_thread() {
        let journal = ListJournal { payments: Vec::new(), room: 1 };
        let mut writer = JournalWriter::start(journal).unwrap();
        for number in 1..=3 {
            writer.ask(JournalRequest::Append {
                record: RecordNumber(number.into()),
                payment: Box::new(payment(number)),
            });
        }
        let written: Option<JournalAnswer<()>> = writer.next_answer().await;
        assert!(matches!(written, Some(JournalAnswer::Journalled(RecordNumber(1)))));
        let Some(JournalAnswer::Failed(error)) = writer.next_answer().await else {
            panic!("there was no room for the second")
        };
        assert_eq!(error.recovery_level(), RecoveryLevel::Open);
        assert_eq!(
            error.to_string(),
            format!("the journal list cannot be used: {} (room for 1)", StorageFault::Full)
        );
        assert!(writer.next_answer().await.is_none(), "the failure is the last answer");
    }
}
