//! What can happen in a world, to whom.

use florin::domain::TransactionId;
use florin::terminal::{
    Input, InstitutionAnswer, InstitutionRequest, PaymentView, PhoneId, TillRefusal, TillRequest,
};
use florin::wallet::Decision;

/// Something that happens at some time.
#[derive(Debug)]
pub enum Event {
    /// The terminal's process starts.
    MachineStarts,
    /// The terminal's process of this number tries to open its journal again.
    MachineTriesJournal { boot: u64 },
    /// An input for the terminal's engine of this number, from the institution.
    MachineHears { epoch: u64, input: Box<Input> },
    /// The engine's deadline.
    MachineTick { epoch: u64, at_ms: u64 },
    /// A call of the till reaches the terminal.
    MachineCalled { call: u64, ask: TillAsk },
    /// The journal is done with its oldest request.
    DiskDone { epoch: u64 },
    /// Something over the air for the terminal.
    ToMachine { connection: PhoneId, what: FromAir },
    /// A notification for a phone.
    ToPhone { connection: PhoneId, phone: usize, value: Vec<u8> },
    /// A phone sees that its connection is gone.
    PhoneLinkLost { connection: PhoneId, phone: usize },
    /// A person comes with a phone.
    PhoneVisits { phone: usize, visit: Visit },
    /// A phone tries to connect, or tries again.
    PhoneConnects { phone: usize, visit_number: u64 },
    /// A phone is connected, or is not.
    PhoneConnected { phone: usize, visit_number: u64, connection: Option<PhoneId> },
    /// The person has decided.
    PhoneDecides { phone: usize, connection: PhoneId, decision: Decision },
    /// The session's deadline.
    PhoneTick { phone: usize, connection: PhoneId, at_ms: u64 },
    /// A request reaches the institution.
    BankHears { request: Box<InstitutionRequest>, ask: Option<u64> },
    /// An answer of the institution, or what stands for it, reaches the relay.
    RelayHears { ask: u64, answer: Box<InstitutionAnswer> },
    /// The till hears the answer to its call.
    TillHears { call: u64, answer: Result<Box<PaymentView>, TillRefusal> },
    /// The till hears of a change.
    TillSees { view: Box<PaymentView> },
    /// The till looks at what there is to do.
    TillWakes { epoch: u64 },
    /// An operator looks at what waits for a word.
    OperatorDecides,
}

/// What comes over the air to the terminal.
#[derive(Debug)]
pub enum FromAir {
    /// A phone connected.
    Connected,
    /// It wrote.
    Value(Vec<u8>),
    /// It is gone.
    Disconnected,
}

/// Why a person comes with a phone.
#[derive(Debug, Clone, Copy)]
pub enum Visit {
    /// To pay: what the screen's link says, or whatever is offered.
    Pay(Option<TransactionId>),
    /// To ask for the result of an earlier command.
    Ask(TransactionId),
}

/// A call of the till.
#[derive(Debug, Clone)]
pub enum TillAsk {
    Request(TillRequest),
    Read(TransactionId),
}
