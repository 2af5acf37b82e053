//! Several people with their phones at one terminal that has fewer slots than there are people.

use proptest::prelude::*;

use super::*;

/// What four people with their phones, the till, the institution and the clock may do.
#[derive(Debug, Clone)]
enum Act {
    Hello(usize),
    Pay(usize),
    /// One inquires about a payment of its own, or with what it knows of another's.
    Inquire(usize, usize),
    Noise(usize, Vec<u8>),
    Reconnect(usize),
    Offer,
    Decide,
    Pass(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let person = || 0usize..4;
    let noise = (person(), prop::collection::vec(any::<u8>(), 0..40));
    prop_oneof![
        4 => person().prop_map(Act::Hello),
        4 => person().prop_map(Act::Pay),
        2 => (person(), person()).prop_map(|(who, whose)| Act::Inquire(who, whose)),
        1 => noise.prop_map(|(who, value)| Act::Noise(who, value)),
        1 => person().prop_map(Act::Reconnect),
        3 => Just(Act::Offer),
        3 => Just(Act::Decide),
        2 => (0u64..25_000).prop_map(Act::Pass),
    ]
}

struct Person {
    phone: Phone,
    hellos: u32,
    offer: Option<Vec<u8>>,
    /// The payments that the person has paid, or tried to, with the digests of the commands.
    commands: Vec<(TransactionId, [u8; 32])>,
}

struct Crowd {
    bench: Bench,
    people: Vec<Person>,
    last_phone: u64,
    /// Whose command the institution decides on, or has decided on.
    payers: Vec<(TransactionId, PhoneId)>,
    evicted: usize,
}

impl Crowd {
    fn new() -> Self {
        let settings = Settings {
            phones_max: 3,
            waiting_max: 1,
            slot_hold_min_ms: 10_000,
            ..Settings::default()
        };
        let mut crowd = Self {
            bench: Bench::with(settings, Vec::new()),
            people: Vec::new(),
            last_phone: 4,
            payers: Vec::new(),
            evicted: 0,
        };
        for id in 1..=4 {
            let phone = Phone::new(id, 512);
            crowd.people.push(Person { phone, hellos: 0, offer: None, commands: Vec::new() });
        }
        crowd
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Hello(who) => self.hello(who),
            Act::Pay(who) => self.pay(who),
            Act::Inquire(who, whose) => self.inquire(who, whose),
            Act::Noise(who, value) => self.noise(who, value),
            Act::Reconnect(who) => self.reconnect(who),
            Act::Offer => drop(self.bench.till(TillRequest::Create(request(false)))),
            Act::Decide => self.decide(),
            Act::Pass(milliseconds) => self.bench.pass_ms(milliseconds),
        }
    }

    fn reconnect(&mut self, who: usize) {
        let person = &mut self.people[who];
        self.bench.input(Input::PhoneDisconnected(person.phone.id));
        self.last_phone += 1;
        person.phone = Phone::new(self.last_phone, 512);
        person.hellos = 0;
        person.offer = None;
    }

    fn hello(&mut self, who: usize) {
        let is_gone = self.bench.is_disconnected(self.people[who].phone.id);
        if is_gone || self.people[who].hellos + 1 >= Settings::default().hellos_max {
            self.reconnect(who);
        }
        let person = &mut self.people[who];
        self.bench.input(Input::PhoneConnected { phone: person.phone.id, address: None });
        if !self.bench.is_disconnected(person.phone.id) {
            person.hellos += 1;
            person.phone.reassembler = Reassembler::default();
            person.offer = None;
            if let FromTerminal::Offer(offer) = person.phone.hello(&mut self.bench, None) {
                person.offer = Some(offer);
            }
        }
    }

    fn pay(&mut self, who: usize) {
        let person = &mut self.people[who];
        let Some(offer) = person.offer.take() else { return };
        let command = person.phone.command(&offer);
        let FromPhone::PaymentCommand { transaction_id, sealed_command } = &command else {
            unreachable!()
        };
        let transaction_id = *transaction_id;
        let digest = SealedCommand::digest_of_encoded(sealed_command);
        person.commands.push((transaction_id, digest));
        let was_offered = self.bench.state(transaction_id) == PaymentState::Offered;
        person.phone.say(&mut self.bench, &command);
        if was_offered && self.bench.state(transaction_id) == PaymentState::Authorising {
            self.payers.push((transaction_id, person.phone.id));
        }
    }

    fn inquire(&mut self, who: usize, whose: usize) {
        let Some(&(transaction_id, digest)) = self.people[whose].commands.last() else { return };
        // Nobody else knows the command.
        let command_digest = if who == whose { digest } else { [0; 32] };
        let phone = &mut self.people[who].phone;
        if phone.channel.is_some() {
            let query = FromPhone::ResultQuery { transaction_id, command_digest };
            phone.say(&mut self.bench, &query);
        }
    }

    fn noise(&mut self, who: usize, value: Vec<u8>) {
        let person = &mut self.people[who];
        let phone = person.phone.id;
        self.bench.input(Input::PhoneWrote { phone, value_octets_max: 512, value });
        // Whatever the noise was, and whatever it began: the next hello is on a new connection.
        person.phone.channel = None;
        person.offer = None;
        person.hellos = Settings::default().hellos_max;
    }

    fn decide(&mut self) {
        for request in self.bench.requests() {
            let state = match request {
                InstitutionRequest::Capture { .. } => TransactionState::Captured,
                _ => TransactionState::Approved,
            };
            self.bench.answer(request.transaction_id(), state);
        }
    }

    /// The journal answers searches, as the driver does it.
    fn load(&mut self) {
        let mut loads = Vec::new();
        self.bench.outputs.retain(|output| match output {
            Output::Load { phone, question } => {
                loads.push((*phone, question.clone()));
                false
            }
            _ => true,
        });
        for (phone, question) in loads {
            let id = question.transaction_id;
            let of_id = |payment: &&Payment| payment.transaction_id == id;
            let payment = self.bench.journal.iter().rev().find(of_id).cloned();
            self.bench.input(Input::Loaded { phone, question, payment });
        }
    }

    /// Every phone takes what came for it, and checks it.
    fn hear(&mut self) {
        for person in &mut self.people {
            if person.phone.channel.is_none() {
                self.bench.values_for(person.phone.id);
                continue;
            }
            for message in person.phone.hear(&mut self.bench) {
                match message {
                    FromTerminal::Result { transaction_id, .. } => {
                        let is_own = person.commands.iter().any(|(own, _)| *own == transaction_id);
                        assert!(is_own, "another's result");
                    }
                    FromTerminal::Offer(offer) => person.offer = Some(offer),
                    _ => {}
                }
            }
        }
    }

    fn check_evictions(&mut self) {
        let evictions: Vec<PhoneId> = self
            .bench
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Disconnect {
                    phone,
                    reason: "a newcomer needs its slot" | "another phone has said hello",
                } => Some(*phone),
                _ => None,
            })
            .collect();
        for phone in evictions.iter().skip(self.evicted) {
            let is_paying = self.payers.iter().any(|(transaction_id, payer)| {
                payer == phone && self.bench.state(*transaction_id) == PaymentState::Authorising
            });
            assert!(!is_paying, "the payer was evicted");
        }
        self.evicted = evictions.len();
        assert!(self.bench.terminal.phone_count() <= 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_crowd_results_go_to_who_paid_and_payers_keep_their_slot(
        acts in prop::collection::vec(any_act(), 0..60)
    ) {
        let mut crowd = Crowd::new();
        for act in acts {
            crowd.act(act);
            crowd.load();
            crowd.hear();
            crowd.check_evictions();
        }
    }
}
