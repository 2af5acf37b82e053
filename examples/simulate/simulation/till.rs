//! The till: a script of payments, one offer after another; it releases goods when told to, and not
//! always behaves.
//!
//! It knows a payment by what it was answered and by what it noted. A payment that it handles
//! against its own word is marked: what becomes of the goods is then its own fault, and everything
//! else must still hold.

use std::collections::{BTreeMap, BTreeSet};

use florin::domain::{Amount, Currency, IdempotencyKey, TransactionId};
use florin::terminal::{PaymentRequest, PaymentState, PaymentView, TillRefusal, TillRequest};

use super::event::{Event, TillAsk, Visit};
use super::fault::FaultKind;
use super::model::{Dispensed, TillWord, Told};
use super::randomness::Dice;
use super::stage::Stage;

/// How long the till waits for an answer, in milliseconds.
const CALL_TIMEOUT_MS: u64 = 15_000;
/// How often it looks at what there is to do, in milliseconds.
const WAKE_MS: u64 = 3_000;

/// What the goods do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goods {
    Waiting,
    /// On their way out until then.
    Moving(u64),
    Released,
    Stuck,
}

/// One payment of the script.
#[derive(Debug)]
struct Item {
    request: PaymentRequest,
    /// When which phones come after the offer, and whether with the screen's link.
    visitors: Vec<(u64, usize, bool)>,
    /// Does the machine get the goods out, and how long does it take?
    releases: bool,
    release_ms: u64,
    pause_ms: u64,
    transaction_id: Option<TransactionId>,
    state: Option<PaymentState>,
    goods: Goods,
    /// It was decided whether the till says what became of the goods.
    has_chance_to_report: bool,
    has_reported: bool,
    /// It has not, and will not.
    is_silent: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Call {
    item: Option<usize>,
    asked_ms: u64,
    is_create: bool,
    is_complete: bool,
}

/// The till.
#[derive(Debug)]
pub struct Till {
    items: Vec<Item>,
    /// How many of the script have begun.
    begun: usize,
    next_at_ms: u64,
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    epoch: u64,
    is_down: bool,
    dice: Dice,
}

impl Till {
    /// A till with a script of that many payments; those in `left_out` are not made.
    pub fn new(
        seed: u64,
        payments: usize,
        phones: usize,
        currencies: &[Currency],
        left_out: &BTreeSet<usize>,
    ) -> Self {
        let items = (0..payments)
            .filter(|number| !left_out.contains(number))
            .filter_map(|number| Item::of_script(seed, number, phones, currencies))
            .collect();
        Self {
            items,
            begun: 0,
            next_at_ms: 1_000,
            calls: BTreeMap::new(),
            last_call: 0,
            epoch: 1,
            is_down: false,
            dice: Dice::of(&[seed, 5]),
        }
    }

    /// The till begins to work.
    pub fn begins(&mut self, stage: &mut Stage) {
        self.wake_after(stage, 100);
    }

    /// Is every payment of the script made and past its offer?
    pub fn is_through(&self) -> bool {
        self.begun == self.items.len() && self.items.iter().all(|item| !item.blocks())
    }

    /// What became of the goods of its payments.
    pub fn goods(&self) -> impl Iterator<Item = Dispensed> {
        self.items.iter().filter_map(|item| {
            Some(Dispensed {
                transaction_id: item.transaction_id?,
                are_out: item.goods == Goods::Released,
                are_stuck: item.goods == Goods::Stuck,
                is_captured_at_once: !item.request.capture_after_dispense,
            })
        })
    }

    /// An operator goes through the terminal's list of approved payments: says what the till did
    /// not say, and calls off what the till does not know, as after a lost answer.
    pub fn operator_decides(&mut self, stage: &mut Stage, approved: &[TransactionId]) {
        for transaction_id in approved.iter().copied() {
            let item = self.items.iter().find(|item| item.transaction_id == Some(transaction_id));
            let request = match item {
                Some(item) if item.is_silent => TillRequest::Complete {
                    transaction_id,
                    dispensed: item.goods == Goods::Released,
                },
                Some(_) => continue,
                None => TillRequest::Cancel { transaction_id },
            };
            stage.model.till_goes_wrong(transaction_id);
            self.call(stage, None, TillAsk::Request(request));
        }
    }

    /// Nothing goes wrong any more: the till is there.
    pub fn comes_back(&mut self, stage: &mut Stage) {
        self.epoch += 1;
        self.is_down = false;
        self.wake_after(stage, 100);
    }

    fn wake_after(&mut self, stage: &mut Stage, delay_ms: u64) {
        stage.after(delay_ms, Event::TillWakes { epoch: self.epoch });
    }

    /// It looks at what there is to do.
    pub fn wakes(&mut self, stage: &mut Stage, epoch: u64) {
        if self.epoch != epoch {
            return;
        }
        self.is_down = false;
        self.begin_next(stage);
        let now_ms = stage.now_ms;
        self.calls.retain(|_, call| now_ms < call.asked_ms + CALL_TIMEOUT_MS);
        for index in 0..self.begun {
            if !self.items[index].is_over {
                self.attend(stage, index);
            }
        }
        self.misbehave(stage);
        if self.epoch == epoch && self.items.iter().any(|item| !item.is_over) {
            self.wake_after(stage, WAKE_MS);
        }
    }

    /// The till's process may die: what it had asked is forgotten; its notes and the goods are as
    /// they were.
    fn crashes(&mut self, stage: &mut Stage) -> bool {
        let Some(mut dice) = stage.fault(FaultKind::TillCrashes) else { return false };
        stage.say(|_| "till: crashes".into());
        self.calls.clear();
        self.epoch += 1;
        self.is_down = true;
        self.wake_after(stage, dice.magnitude(1_000, 600_000));
        true
    }

    fn begin_next(&mut self, stage: &mut Stage) {
        let is_blocked = self.items[..self.begun].iter().any(Item::blocks);
        if is_blocked || stage.now_ms < self.next_at_ms || self.begun == self.items.len() {
            return;
        }
        self.begun += 1;
        let item = &self.items[self.begun - 1];
        self.next_at_ms = stage.now_ms + item.pause_ms;
        // Some stand there before the till is ready.
        for (delay_ms, phone, with_link) in item.visitors.clone() {
            if !with_link && delay_ms < 2_000 {
                stage.after(0, Event::PhoneVisits { phone, visit: Visit::Pay(None) });
            }
        }
    }

    /// Does for one payment what its state calls for.
    fn attend(&mut self, stage: &mut Stage, index: usize) {
        let item = &mut self.items[index];
        if let Goods::Moving(until_ms) = item.goods
            && until_ms <= stage.now_ms
        {
            item.goods = if item.releases { Goods::Released } else { Goods::Stuck };
            if let (Goods::Released, Some(transaction_id)) = (item.goods, item.transaction_id) {
                stage.say(|stage| {
                    format!("till: the goods of {} are out", stage.name(transaction_id))
                });
                stage.model.goods_are_out(transaction_id);
            }
        }
        if self.calls.values().any(|call| call.item == Some(index)) {
            return;
        }
        let item = &self.items[index];
        let Some(transaction_id) = item.transaction_id else {
            let request = TillRequest::Create(item.request.clone());
            return self.call(stage, Some(index), TillAsk::Request(request));
        };
        let must_report = item.request.capture_after_dispense
            && !item.has_reported
            && matches!(item.goods, Goods::Released | Goods::Stuck);
        if must_report {
            let dispensed = item.goods == Goods::Released;
            if !item.has_chance_to_report && stage.fault(FaultKind::TillSaysNothing).is_some() {
                stage.say(|stage| format!("till: says nothing of {}", stage.name(transaction_id)));
                stage.model.till_goes_wrong(transaction_id);
                self.items[index].has_reported = true;
                self.items[index].is_silent = true;
                return;
            }
            self.items[index].has_chance_to_report = true;
            let request = TillRequest::Complete { transaction_id, dispensed };
            return self.call(stage, Some(index), TillAsk::Request(request));
        }
        self.call(stage, Some(index), TillAsk::Read(transaction_id));
    }

    fn misbehave(&mut self, stage: &mut Stage) {
        let known: Vec<usize> =
            (0..self.begun).filter(|index| self.items[*index].transaction_id.is_some()).collect();
        // Mostly the newest: what is over long since answers the same every time.
        let newest = known.len().min(3) as u64;
        let pick = |dice: &mut Dice| {
            let all = if dice.percent(80) { newest } else { known.len() as u64 };
            known.get(known.len().checked_sub(1 + dice.below(all) as usize)?).copied()
        };
        if let Some(mut dice) = stage.fault(FaultKind::TillCancels)
            && let Some(transaction_id) =
                pick(&mut dice).and_then(|index| self.items[index].transaction_id)
        {
            stage.model.till_goes_wrong(transaction_id);
            self.call(stage, None, TillAsk::Request(TillRequest::Cancel { transaction_id }));
        }
        if let Some(mut dice) = stage.fault(FaultKind::TillContradicts)
            && let Some(transaction_id) =
                pick(&mut dice).and_then(|index| self.items[index].transaction_id)
        {
            stage.model.till_goes_wrong(transaction_id);
            for _ in 0..=dice.below(2) {
                let request = TillRequest::Complete { transaction_id, dispensed: dice.percent(50) };
                self.call(stage, None, TillAsk::Request(request));
            }
        }
        if let Some(mut dice) = stage.fault(FaultKind::TillRepeats)
            && self.begun > 0
            && let index = self.begun - 1 - dice.below(3.min(self.begun as u64)) as usize
            && self.items[index].request.idempotency_key.is_some()
        {
            let request = TillRequest::Create(self.items[index].request.clone());
            self.call(stage, Some(index), TillAsk::Request(request));
        }
        if let Some(mut dice) = stage.fault(FaultKind::TillReusesKey)
            && let Some(index) = pick(&mut dice)
            && self.items[index].request.idempotency_key.is_some()
        {
            let mut content = self.items[index].request.clone();
            content.reference.push('x');
            self.call(stage, None, TillAsk::Request(TillRequest::Create(content)));
        }
        if let Some(mut dice) = stage.fault(FaultKind::TillAsksNonsense) {
            let transaction_id = TransactionId::from_random(dice.octets());
            let ask = match dice.below(5) {
                0 => TillAsk::Read(transaction_id),
                1 => TillAsk::Request(TillRequest::Cancel { transaction_id }),
                2 => TillAsk::Request(TillRequest::Complete { transaction_id, dispensed: true }),
                3 => self.nonsense(|content| content.valid_for_s = Some(0)),
                _ => self.nonsense(|content| content.reference = "x".repeat(65)),
            };
            self.call(stage, None, ask);
        }
    }

    /// A request with a field out of its range.
    fn nonsense(&self, change: impl FnOnce(&mut PaymentRequest)) -> TillAsk {
        let mut content = self.items[0].request.clone();
        content.idempotency_key = "k".parse().ok();
        change(&mut content);
        TillAsk::Request(TillRequest::Create(content))
    }

    fn call(&mut self, stage: &mut Stage, item: Option<usize>, ask: TillAsk) {
        if self.is_down || self.crashes(stage) {
            return;
        }
        self.last_call += 1;
        let call = self.last_call;
        if let TillAsk::Request(request) = &ask {
            stage.say(|stage| {
                let what = match request {
                    TillRequest::Create(content) => {
                        format!(
                            "create {} ({})",
                            content.amount,
                            content.idempotency_key.as_ref().map_or("-", IdempotencyKey::as_str)
                        )
                    }
                    TillRequest::Cancel { transaction_id } => {
                        format!("cancel {}", stage.name(*transaction_id))
                    }
                    TillRequest::Complete { transaction_id, dispensed } => {
                        format!("complete {}, dispensed: {dispensed}", stage.name(*transaction_id))
                    }
                    TillRequest::Resolve { transaction_id, dispensed } => {
                        format!("resolve {}, dispensed: {dispensed}", stage.name(*transaction_id))
                    }
                };
                format!("till -> terminal: {what}")
            });
        }
        match &ask {
            TillAsk::Request(TillRequest::Complete { transaction_id, dispensed }) => {
                stage.model.till_says(*transaction_id, TillWord::Dispensed(*dispensed));
            }
            TillAsk::Request(TillRequest::Cancel { transaction_id }) => {
                stage.model.till_says(*transaction_id, TillWord::Cancel);
            }
            TillAsk::Request(TillRequest::Create(_) | TillRequest::Resolve { .. })
            | TillAsk::Read(_) => {}
        }
        let is_create = matches!(ask, TillAsk::Request(TillRequest::Create(_)));
        let is_complete = matches!(ask, TillAsk::Request(TillRequest::Complete { .. }));
        self.calls.insert(call, Call { item, asked_ms: stage.now_ms, is_create, is_complete });
        let delay_ms = self.dice.between(1, 10);
        stage.after(delay_ms, Event::MachineCalled { call, ask });
    }

    /// An answer.
    pub fn hears(
        &mut self,
        stage: &mut Stage,
        call: u64,
        answer: Result<Box<PaymentView>, TillRefusal>,
    ) {
        let Some(Call { item, is_create, is_complete, .. }) = self.calls.remove(&call) else {
            return;
        };
        if self.crashes(stage) {
            return;
        }
        let Some(index) = item else {
            if let Ok(view) = answer {
                self.sees(stage, &view);
            }
            return;
        };
        match answer {
            Ok(view) => {
                let item = &mut self.items[index];
                if is_create {
                    let is_new = item.transaction_id.is_none();
                    stage.model.key_answers(&item.request, view.transaction_id, view.amount);
                    item.transaction_id = Some(view.transaction_id);
                    if is_new {
                        for (delay_ms, phone, with_link) in item.visitors.clone() {
                            let visit =
                                Visit::Pay(with_link.then_some(view.current_transaction_id));
                            stage.after(delay_ms, Event::PhoneVisits { phone, visit });
                        }
                    }
                }
                if is_complete {
                    item.has_reported = true;
                }
                self.sees(stage, &view);
            }
            // Somebody's payment waits, perhaps one that this till has forgotten: it goes away by
            // itself.
            Err(TillRefusal::OfferWaiting(transaction_id))
                if is_create && self.dice.percent(30) =>
            {
                stage.model.till_goes_wrong(transaction_id);
                self.call(stage, None, TillAsk::Request(TillRequest::Cancel { transaction_id }));
            }
            // Its word comes too late, or was said by another call: the state says which.
            Err(TillRefusal::WrongState { .. }) if is_complete => {
                self.items[index].has_reported = true
            }
            Err(_) => {}
        }
    }

    /// How a payment is now.
    pub fn sees(&mut self, stage: &mut Stage, view: &PaymentView) {
        if self.is_down {
            return;
        }
        let Some(item) =
            self.items.iter_mut().find(|item| item.transaction_id == Some(view.transaction_id))
        else {
            return;
        };
        item.state = Some(view.state);
        if view.release && item.goods == Goods::Waiting {
            item.goods = Goods::Moving(stage.now_ms + item.release_ms);
        }
        let are_goods_settled = !matches!(item.goods, Goods::Moving(_));
        item.is_over = view.state.is_final() && are_goods_settled;
    }
}

impl Item {
    fn of_script(seed: u64, number: usize, phones: usize, currencies: &[Currency]) -> Option<Self> {
        let mut dice = Dice::of(&[seed, 4, number as u64]);
        let currency = currencies[dice.below(currencies.len() as u64) as usize];
        // Now and then more than a card may pay at once.
        let minor = if dice.percent(3) { 3_000 } else { dice.between(1, 400) };
        let amount = Amount::new(minor, currency).ok()?;
        let valid_for_s = u32::try_from(dice.between(30, 120)).ok();
        let capture_after_dispense = dice.percent(60);
        let key = format!("key-{number}").parse().ok();
        let idempotency_key = key.filter(|_| dice.percent(95));
        let request = PaymentRequest {
            amount,
            reference: format!("slot {}", number % 30),
            items: Vec::new(),
            capture_after_dispense,
            valid_for_s,
            idempotency_key,
        };
        let comers =
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 0][dice.below(20) as usize];
        let visitors = (0..comers)
            .map(|_| {
                (
                    dice.magnitude(1_000, 20_000),
                    dice.below(phones as u64) as usize,
                    dice.percent(70),
                )
            })
            .collect();
        Some(Self {
            request,
            visitors,
            releases: dice.percent(92),
            release_ms: dice.magnitude(500, 20_000),
            pause_ms: dice.magnitude(1_000, 60_000),
            transaction_id: None,
            state: None,
            goods: Goods::Waiting,
            has_chance_to_report: false,
            has_reported: false,
            is_silent: false,
            is_over: false,
        })
    }

    /// Does the next offer have to wait for it?
    fn blocks(&self) -> bool {
        matches!(self.state, None | Some(PaymentState::Offered | PaymentState::Authorising))
    }
}

impl Stage {
    /// The terminal answers the till.
    pub fn answer_till(
        &mut self,
        call: u64,
        about: Option<TransactionId>,
        answer: Result<PaymentView, TillRefusal>,
    ) {
        match &answer {
            Ok(view) => self.till_is_told(view),
            Err(TillRefusal::WrongState { state, explanation }) => {
                let name = about.map(|about| self.name(about)).unwrap_or_default();
                self.say(|_| {
                    format!("terminal -> till: refused, {name} is {state}: {explanation}")
                });
                if let Some(about) = about {
                    self.model.till_is_told_state(about, Told::name(state));
                }
            }
            Err(refusal) => self.say(|_| format!("terminal -> till: refused, {refusal}")),
        }
        if self.fault(FaultKind::TillAnswerLost).is_none() {
            let answer = answer.map(Box::new);
            self.after(2, Event::TillHears { call, answer });
        }
    }

    /// The terminal tells the till of a change.
    pub fn tell_till_update(&mut self, view: PaymentView) {
        self.till_is_told(&view);
        if self.fault(FaultKind::TillUpdateLost).is_none() {
            self.after(2, Event::TillSees { view: Box::new(view) });
        }
    }

    fn till_is_told(&mut self, view: &PaymentView) {
        // What is read again and again is told once in the trace.
        let is_news = self.model.is_news_to_till(view);
        if is_news {
            self.say_told(view);
        }
        self.model.till_is_told(view);
    }

    fn say_told(&mut self, view: &PaymentView) {
        self.say(|stage| {
            let release = if view.release { ", release" } else { "" };
            let (name, state) = (stage.name(view.transaction_id), view.state);
            format!("terminal -> till: {name} is {} {}{release}", state.name(), state.reason())
        });
    }
}
