//! What passes between the till's transport and the driver of the engine.
//!
//! Channels only: nothing here knows HTTP, and nothing here decides anything about a payment.

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::domain::TransactionId;
use crate::terminal::{PaymentView, TillRefusal, TillRequest};

/// How many calls may wait for the driver: more than one till ever has open, since it waits for
/// each answer.
pub const CALLS_MAX: usize = 64;
/// How many updates a slow listener may be behind before it has to read the payment anew.
pub const UPDATES_MAX: usize = 256;

/// Where the one answer to a call goes. The caller may have given up: a failed send is no fault.
pub type Answer<T> = oneshot::Sender<Result<T, TillRefusal>>;

/// One call of the till, with the place for its answer. The driver answers each, from the engine or
/// the journal.
#[derive(Debug)]
pub enum TillCall {
    /// For the engine.
    Request {
        /// What is asked.
        request: TillRequest,
        /// The payment after the request, once that is durable.
        answer: Answer<PaymentView>,
    },
    /// One payment, open or finished.
    Read {
        /// Which.
        transaction_id: TransactionId,
        /// [`TillRefusal::Unknown`] if the journal does not hold it.
        answer: Answer<PaymentView>,
    },
    /// Payments, newest first; where only open ones, oldest first.
    List {
        /// Only those that are not final.
        open_only: bool,
        /// How many at most.
        limit: usize,
        /// The payments.
        answer: Answer<PaymentList>,
    },
    /// How the terminal is.
    Status {
        /// Its state.
        answer: Answer<TillStatus>,
    },
    /// The service's figures, for monitoring.
    Metrics {
        /// OpenMetrics text.
        answer: Answer<String>,
    },
}

/// Some payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentList {
    /// As many as were asked for.
    pub views: Vec<PaymentView>,
    /// How many are open beyond these; none where not only open ones were asked for.
    pub more: Option<usize>,
}

/// How the terminal is, as far as it changes while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TillStatus {
    /// Why it cannot take payments now and what to do about it; none while it can.
    pub out_of_service: Option<String>,
    /// How many payments are not final.
    pub open_payments: usize,
    /// The age of the oldest of them, in seconds; 0 if there is none.
    pub oldest_open_s: u64,
    /// Some of those that are open for so long that a person should look, oldest first.
    pub escalated: Vec<TransactionId>,
}

/// The transport's end: calls go out here, updates can be listened to.
#[derive(Debug, Clone)]
pub struct TillPort {
    calls: mpsc::Sender<TillCall>,
    updates: broadcast::Sender<PaymentView>,
}

/// The driver's end.
#[derive(Debug)]
pub struct TillDriverEnd {
    /// What the till asks, in order.
    pub calls: mpsc::Receiver<TillCall>,
    /// Every payment that changed, after the change is durable. Nobody listening is no fault.
    pub updates: broadcast::Sender<PaymentView>,
}

/// Why a call has no answer from the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TillPortError {
    /// [`CALLS_MAX`] calls wait already. This one was not taken.
    #[error("{CALLS_MAX} calls are waiting already")]
    Full,
    /// The driver has stopped. A request may have been taken before.
    #[error("the terminal is stopping")]
    Stopped,
}

impl TillPort {
    /// Both ends.
    pub fn new() -> (Self, TillDriverEnd) {
        let (calls, calls_receiver) = mpsc::channel(CALLS_MAX);
        let (updates, _) = broadcast::channel(UPDATES_MAX);
        (Self { calls, updates: updates.clone() }, TillDriverEnd { calls: calls_receiver, updates })
    }

    /// Every update from now on. Listen before you read, and you miss none.
    pub fn listen(&self) -> broadcast::Receiver<PaymentView> {
        self.updates.subscribe()
    }

    /// Hands a call to the driver and waits for the answer. `call` is given the place for it.
    ///
    /// # Errors
    /// [`TillPortError`]; the inner result is the driver's own answer.
    pub async fn call<T>(
        &self,
        call: impl FnOnce(Answer<T>) -> TillCall,
    ) -> Result<Result<T, TillRefusal>, TillPortError> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(call(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TillPortError::Full,
            mpsc::error::TrySendError::Closed(_) => TillPortError::Stopped,
        })?;
        answered.await.map_err(|_| TillPortError::Stopped)
    }
}
