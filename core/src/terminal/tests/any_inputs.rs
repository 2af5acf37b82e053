//! Any inputs in any order, from a link, a journal, a till and an institution that break every
//! rule.

use proptest::prelude::*;

use super::*;

/// How many payments the inputs are about.
const PAYMENTS: u32 = 4;

fn any_answer() -> impl Strategy<Value = InstitutionAnswer> {
    let detail = String::new;
    prop_oneof![
        prop::sample::select(vec![
            TransactionState::Unknown,
            TransactionState::Declined(DeclineReason::CardBlocked),
            TransactionState::Declined(DeclineReason::MalformedCommand),
            TransactionState::Approved,
            TransactionState::Captured,
            TransactionState::Reversed,
        ])
        .prop_map(|state| InstitutionAnswer::Transaction { state, receipt: None }),
        Just(InstitutionAnswer::NotSent { detail: detail() }),
        Just(InstitutionAnswer::Refused { detail: detail() }),
        Just(InstitutionAnswer::Unanswered { detail: detail() }),
    ]
}

/// The ids are those of fixtures; [`with_real_id`] replaces them.
fn any_input() -> impl Strategy<Value = Input> {
    let id = || (0..PAYMENTS).prop_map(fixtures::transaction_id);
    let phone = || (1u64..4).prop_map(PhoneId);
    let value = prop::collection::vec(any::<u8>(), 0..80);
    let till_request = prop_oneof![
        any::<bool>().prop_map(|is_at_once| TillRequest::Create(request(is_at_once))),
        (id(), any::<bool>()).prop_map(|(transaction_id, dispensed)| TillRequest::Complete {
            transaction_id,
            dispensed
        }),
        id().prop_map(|transaction_id| TillRequest::Cancel { transaction_id }),
    ];
    prop_oneof![
        1 => (phone(), prop::option::of(any::<bool>())).prop_map(|(phone, address)| {
            let address = address.map(|address| PhoneAddress([address.into(); 6]));
            Input::PhoneConnected { phone, address }
        }),
        1 => phone().prop_map(Input::PhoneDisconnected),
        1 => (phone(), value, 0usize..600).prop_map(|(phone, value, value_octets_max)| {
            Input::PhoneWrote { phone, value_octets_max, value }
        }),
        3 => (any::<u64>(), till_request).prop_map(|(call, request)| {
            Input::Till { call: TillCallId(call), request, stored: None }
        }),
        1 => (0u64..20).prop_map(|record| Input::Journalled(RecordNumber(record))),
        1 => (id(), any_answer()).prop_map(|(transaction_id, answer)| {
            Input::Institution { transaction_id, answer }
        }),
        1 => Just(Input::Tick),
    ]
}

/// The input, about the payment that was offered in the place of the fixture, if there is one.
fn with_real_id(mut input: Input, offered: &[TransactionId]) -> Input {
    use TillRequest::{Cancel, Complete};
    let id = match &mut input {
        Input::Institution { transaction_id, .. }
        | Input::Till {
            request: Complete { transaction_id, .. } | Cancel { transaction_id },
            ..
        } => transaction_id,
        _ => return input,
    };
    let place = (0..PAYMENTS).position(|number| fixtures::transaction_id(number) == *id);
    if let Some(offered) = place.and_then(|place| offered.get(place)) {
        *id = *offered;
    }
    input
}

proptest! {
    #[test]
    fn any_inputs_in_any_order_are_survived(
        inputs in prop::collection::vec((any_input(), 0u64..100_000), 0..60)
    ) {
        let (mut terminal, _) =
            Terminal::new(identity(), Settings::default(), [7; 32], Vec::new(), Now::default());
        let mut now = Now::default();
        let mut offered = Vec::new();
        for (input, milliseconds) in inputs {
            now.moment = now.moment.plus_ms(milliseconds);
            let outputs = terminal.handle(now, with_real_id(input, &offered));
            prop_assert!(outputs.len() < 100);
            for output in outputs {
                if let Output::Append { payment, .. } = output
                    && payment.state == PaymentState::Offered
                {
                    offered.push(payment.transaction_id);
                }
            }
        }
        let Settings { phones_max, waiting_max, .. } = Settings::default();
        prop_assert!(terminal.phone_count() <= phones_max + waiting_max);
    }
}
