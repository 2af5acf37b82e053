//! Reconciliation: every transaction of a period, page by page.

use super::*;

for_every_store!(reconciliation_gives_every_transaction_of_the_period_once,);

fn reconciliation_gives_every_transaction_of_the_period_once(mut bench: Bench) {
    let count = u32::from(u8::MAX) + 100;
    for number in 0..count {
        let id = TransactionId::from_random(
            [[0; 12].as_slice(), &number.to_be_bytes()].concat().try_into().unwrap(),
        );
        let now = UnixTime { seconds: NOW.seconds + u64::from(number) };
        bench.institution.reverse(bench.terminal, id, ReversalReason::Unanswered, now).unwrap();
    }
    let collect = |bench: &mut Bench, from: u64, until: u64| {
        let (from, until) = (UnixTime { seconds: from }, UnixTime { seconds: until });
        let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (page, next) =
                bench.institution.reconcile(bench.terminal, from, until, after).unwrap();
            all.extend(page.into_iter().map(|transaction| transaction.created_at.seconds));
            pages += 1;
            match next {
                Some(_) => after = next,
                None => return (all, pages),
            }
        }
    };
    let (all, pages) = collect(&mut bench, 0, u64::MAX);
    assert_eq!(all, (NOW.seconds..NOW.seconds + u64::from(count)).collect::<Vec<_>>());
    assert_eq!(pages, 2);
    let (some, _) = collect(&mut bench, NOW.seconds + 10, NOW.seconds + 20);
    assert_eq!(some, (NOW.seconds + 10..NOW.seconds + 20).collect::<Vec<_>>());
    let backwards = bench.institution.reconcile(bench.terminal, LATER, NOW, None);
    assert!(matches!(backwards, Err(InstitutionError::InvalidRequest { .. })));
    let other = TerminalId::from_random([9; 10]);
    let (none, _) = bench.institution.reconcile(other, NOW, LATER, None).unwrap();
    assert_eq!(none, []);
}
