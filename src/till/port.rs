//! The channels between the till API and the driver of the engine. They know nothing of HTTP and
//! decide nothing about payments.

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::domain::TransactionId;
use crate::terminal::{PaymentView, TillRefusal, TillRequest};

/// How many calls may wait for the driver: more than a till makes at once, as it waits for each
/// answer.
pub const CALLS_MAX: usize = 64;
/// How many updates a slow listener may be behind before it has to read the payment again.
pub const UPDATES_MAX: usize = 256;

/// Takes the answer to a call. The caller may have given up: a failed send is no error.
pub type Answer<T> = oneshot::Sender<Result<T, TillRefusal>>;

/// One call of the till. The driver answers each, from the engine or the journal.
#[derive(Debug)]
pub enum TillCall {
    /// A request to the engine.
    Request {
        request: TillRequest,
        /// The payment after the request, once that is durable.
        answer: Answer<PaymentView>,
    },
    /// One payment, open or finished.
    Read {
        transaction_id: TransactionId,
        /// [`TillRefusal::Unknown`] if the journal does not hold it.
        answer: Answer<PaymentView>,
    },
    /// Payments, newest first; oldest first if only open ones are asked for.
    List {
        /// Only those that are not final.
        open_only: bool,
        /// How many payments at most.
        limit: usize,
        answer: Answer<PaymentList>,
    },
    Status {
        answer: Answer<TillStatus>,
    },
    Metrics {
        answer: Answer<String>,
    },
}

/// The answer to [`TillCall::List`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentList {
    /// At most as many as were asked for.
    pub views: Vec<PaymentView>,
    /// How many more are open; none unless only open ones were asked for.
    pub more: Option<usize>,
}

/// The terminal's state, as far as it changes while the service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TillStatus {
    /// Why it cannot take payments now, and what to do; none while it can.
    pub out_of_service: Option<String>,
    /// How many payments are not final.
    pub open_payments: usize,
    /// The age of the oldest of them, in seconds; 0 if there is none.
    pub oldest_open_s: u64,
    /// Some of the payments that were escalated to an operator: old or disputed, oldest first.
    pub escalated: Vec<TransactionId>,
}

/// The end of the till API: it sends calls and listens to updates.
#[derive(Debug, Clone)]
pub struct TillPort {
    calls: mpsc::Sender<TillCall>,
    updates: broadcast::Sender<PaymentView>,
}

/// The end of the driver.
#[derive(Debug)]
pub struct TillDriverEnd {
    /// The till's calls, in order.
    pub calls: mpsc::Receiver<TillCall>,
    /// Every payment that changed, after the change is durable. It is no error if nobody listens.
    pub updates: broadcast::Sender<PaymentView>,
}

/// Why the driver did not answer a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TillPortError {
    /// [`CALLS_MAX`] calls are waiting already. This one was not taken.
    #[error("{CALLS_MAX} calls are waiting already")]
    Full,
    /// The driver has stopped. It may have taken the call before.
    #[error("the terminal is stopping")]
    Stopped,
}

impl TillPort {
    /// Makes both ends.
    pub fn new() -> (Self, TillDriverEnd) {
        let (calls, calls_receiver) = mpsc::channel(CALLS_MAX);
        let (updates, _) = broadcast::channel(UPDATES_MAX);
        (Self { calls, updates: updates.clone() }, TillDriverEnd { calls: calls_receiver, updates })
    }

    /// Returns every update from now on. Listen before you read a payment, to miss none.
    pub fn listen(&self) -> broadcast::Receiver<PaymentView> {
        self.updates.subscribe()
    }

    /// Sends a call to the driver and waits for the answer. `call` makes it from its [`Answer`].
    ///
    /// # Errors
    /// [`TillPortError`]; the inner result is the driver's answer.
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
