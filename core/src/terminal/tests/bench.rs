//! The terminal, among a journal, a till and an institution that do what a test says.

use super::*;
use crate::terminal::Identity;

/// The highest sequence number in the bench's journal.
pub(super) const NEWEST_SEQUENCE: u64 = 40;

/// A terminal whose journal confirms at once, or when told to.
pub(super) struct Bench {
    pub(super) terminal: Terminal,
    pub(super) now: Now,
    /// Every record, in order.
    pub(super) journal: Vec<Payment>,
    /// Records that are appended and not yet confirmed.
    pub(super) unconfirmed: Vec<RecordNumber>,
    pub(super) holds_journal: bool,
    pub(super) outputs: Vec<Output>,
    pub(super) next_call: u64,
    /// What the journal held at the start.
    pub(super) resumed: Vec<Payment>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Settings::default(), Vec::new())
    }

    pub(super) fn with(settings: Settings, open: Vec<Payment>) -> Self {
        Self::of(identity(), settings, open)
    }

    pub(super) fn of(identity: Identity, settings: Settings, open: Vec<Payment>) -> Self {
        let now = Now {
            moment: Moment { milliseconds: 1_000 },
            wall: UnixTime { seconds: 1_700_000_000 },
        };
        let resumed = open.clone();
        let (terminal, outputs) =
            Terminal::new(identity, settings, [7; 32], open, NEWEST_SEQUENCE, now);
        let mut bench = Self {
            terminal,
            now,
            journal: Vec::new(),
            unconfirmed: Vec::new(),
            holds_journal: false,
            outputs: Vec::new(),
            next_call: 0,
            resumed,
        };
        bench.take(outputs);
        bench
    }

    /// A phone has sent its command for an offer, and the institution has the request.
    pub(super) fn paying(capture_after_dispense: bool) -> (Self, Phone, TransactionId) {
        let mut bench = Self::new();
        let (phone, transaction_id) = bench.pay(capture_after_dispense);
        (bench, phone, transaction_id)
    }

    pub(super) fn pay(&mut self, capture_after_dispense: bool) -> (Phone, TransactionId) {
        let transaction_id = self.offer(capture_after_dispense);
        let mut phone = Phone::new(1, 512);
        phone.pay(self);
        let requests = self.requests();
        assert!(matches!(requests[..], [InstitutionRequest::Authorise { .. }]), "{requests:?}");
        (phone, transaction_id)
    }

    pub(super) fn input(&mut self, input: Input) {
        let outputs = self.terminal.handle(self.now, input);
        self.take(outputs);
    }

    pub(super) fn take(&mut self, outputs: Vec<Output>) {
        self.keep(outputs);
        if !self.holds_journal {
            self.confirm();
        }
    }

    fn keep(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Append { record, payment } = output {
                self.journal.push(*payment);
                self.unconfirmed.push(record);
            } else {
                self.outputs.push(output);
            }
        }
    }

    /// The journal confirms every record.
    pub(super) fn confirm(&mut self) {
        while !self.unconfirmed.is_empty() {
            for record in std::mem::take(&mut self.unconfirmed) {
                let outputs = self.terminal.handle(self.now, Input::Journalled(record));
                self.keep(outputs);
            }
        }
    }

    pub(super) fn pass_ms(&mut self, milliseconds: u64) {
        self.now.moment = self.now.moment.plus_ms(milliseconds);
        self.input(Input::Tick);
    }

    pub(super) fn till(&mut self, request: TillRequest) -> Result<PaymentView, TillRefusal> {
        self.till_with(request, None)
    }

    pub(super) fn till_with(
        &mut self,
        request: TillRequest,
        stored: Option<Payment>,
    ) -> Result<PaymentView, TillRefusal> {
        let call = self.call(request, stored);
        self.till_answer(call).unwrap()
    }

    /// Calls, and leaves the answer in the outputs.
    pub(super) fn call(&mut self, request: TillRequest, stored: Option<Payment>) -> TillCallId {
        self.next_call += 1;
        let call = TillCallId(self.next_call);
        self.input(Input::Till { call, request, stored });
        call
    }

    pub(super) fn till_answer(
        &mut self,
        wanted: TillCallId,
    ) -> Option<Result<PaymentView, TillRefusal>> {
        let at = self.outputs.iter().position(
            |output| matches!(output, Output::AnswerTill { call, .. } if *call == wanted),
        )?;
        match self.outputs.remove(at) {
            Output::AnswerTill { answer, .. } => Some(answer),
            _ => None,
        }
    }

    pub(super) fn offer(&mut self, capture_after_dispense: bool) -> TransactionId {
        self.till(TillRequest::Create(request(capture_after_dispense))).unwrap().transaction_id
    }

    /// The requests to the institution since the last time.
    pub(super) fn requests(&mut self) -> Vec<InstitutionRequest> {
        let mut requests = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Request { request, .. } => {
                requests.push(request.clone());
                false
            }
            _ => true,
        });
        requests
    }

    /// What was published since the last time.
    pub(super) fn published(&mut self) -> Vec<PaymentView> {
        let mut published = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Publish(view) => {
                published.push(view.clone());
                false
            }
            _ => true,
        });
        published
    }

    /// Was the till told to release goods?
    pub(super) fn has_released(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, Output::Publish(view) if view.release))
    }

    /// An honest institution answers.
    pub(super) fn answer(&mut self, transaction_id: TransactionId, state: TransactionState) {
        let claim = fixtures::claim(&self.payment(transaction_id), state);
        self.claim(transaction_id, claim);
    }

    /// The institution has seen a reversal and no command.
    pub(super) fn answer_tombstone(&mut self, transaction_id: TransactionId) {
        let claim = fixtures::tombstone(&self.payment(transaction_id));
        self.claim(transaction_id, claim);
    }

    /// The institution answers anything.
    pub(super) fn claim(&mut self, transaction_id: TransactionId, claim: TransactionClaim) {
        let answer = InstitutionAnswer::Transaction(claim);
        self.input(Input::Institution { transaction_id, answer });
    }

    /// The journal answers searches, as the driver does it.
    pub(super) fn load(&mut self) {
        let mut loads = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Load { phone, question } => {
                loads.push((*phone, question.clone()));
                false
            }
            _ => true,
        });
        for (phone, question) in loads {
            let id = question.transaction_id;
            let of_id = |payment: &&Payment| payment.transaction_id == id;
            let payment = self.journal.iter().rev().find(of_id).cloned();
            self.input(Input::Loaded { phone, question, payment });
        }
    }

    /// A payment's newest record.
    pub(super) fn payment(&self, transaction_id: TransactionId) -> Payment {
        let of_id = |payment: &&Payment| payment.transaction_id == transaction_id;
        let open = self.resumed.iter().find(of_id);
        self.journal.iter().rev().find(of_id).or(open).unwrap().clone()
    }

    /// The newest state of a payment in the journal.
    pub(super) fn state(&self, transaction_id: TransactionId) -> PaymentState {
        self.payment(transaction_id).state
    }

    /// The values that a phone got since the last time.
    pub(super) fn values_for(&mut self, wanted: PhoneId) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        self.outputs.retain(|output| match output {
            Output::Notify { phone, value } if *phone == wanted => {
                values.push(value.clone());
                false
            }
            _ => true,
        });
        values
    }

    pub(super) fn is_disconnected(&self, wanted: PhoneId) -> bool {
        self.outputs
            .iter()
            .any(|output| matches!(output, Output::Disconnect { phone, .. } if *phone == wanted))
    }
}
