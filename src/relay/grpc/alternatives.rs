//! Several addresses of one server: which to try, in which order, and when the next one starts
//! (RFC 8305, "Happy Eyeballs").
//!
//! An address that drops everything must cost nobody a payment while another one works. So each
//! address has its whole time for itself, and the next one starts before that has passed.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long after the start of one attempt the next one starts, in milliseconds (RFC 8305,
/// section 5).
const NEXT_ATTEMPT_DELAY_MS: u64 = 250;
/// How long the next attempt waits for one whose address has accepted a connection, in
/// milliseconds: it lacks only some round trips, and a second connection would be for nothing.
const ACCEPTED_DELAY_MS: u64 = 2_000;
/// How many addresses are tried at most.
const ADDRESSES_MAX: usize = 8;

/// With this an attempt says that its address has accepted a connection.
#[derive(Debug, Clone)]
pub(super) struct Acceptance(mpsc::UnboundedSender<()>);

impl Acceptance {
    pub(super) fn note(&self) {
        let _ = self.0.send(());
    }
}

/// In the order of the resolver, but with the families of addresses in turn, so that a family that
/// leads nowhere is left after one attempt (RFC 8305, section 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            ordered.truncate(ADDRESSES_MAX);
            return ordered;
        }
        ordered.extend(one.into_iter().chain(other));
    }
}

/// Tries the addresses, beside each other where one is slow, and returns what the first attempt
/// brings that succeeds. The others are ended.
///
/// # Errors
/// What became of each address, if none succeeded.
pub(super) async fn first_success<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr, Acceptance) -> F,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut waiting = in_turn(addresses).into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut faults = Vec::new();
    let (accepted, mut acceptances) = mpsc::unbounded_channel();
    let mut next_at = Instant::now();
    loop {
        if attempts.is_empty() && waiting.peek().is_none() {
            return Err(faults);
        }
        tokio::select! {
            biased;
            Some(ended) = attempts.join_next() => match ended {
                Ok((_, Ok(success))) => return Ok(success),
                Ok((address, Err(fault))) => {
                    faults.push((address, fault));
                    next_at = Instant::now();
                }
                // A bug in the attempt; the others go on.
                Err(_) => next_at = Instant::now(),
            },
            Some(()) = acceptances.recv() => {
                next_at = Instant::now() + Duration::from_millis(ACCEPTED_DELAY_MS);
            }
            () = sleep_until(next_at), if waiting.peek().is_some() => {
                if let Some(address) = waiting.next() {
                    let attempting = attempt(address, Acceptance(accepted.clone()));
                    attempts.spawn(async move { (address, attempting.await) });
                }
                next_at = Instant::now() + Duration::from_millis(NEXT_ATTEMPT_DELAY_MS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::sleep;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_first_choice_comes_first() {
        for (resolved, tried) in [
            (vec!["[::1]:1", "[::2]:1", "1.1.1.1:1"], vec!["[::1]:1", "1.1.1.1:1", "[::2]:1"]),
            (vec!["1.1.1.1:1", "[::1]:1", "[::2]:1"], vec!["1.1.1.1:1", "[::1]:1", "[::2]:1"]),
            (vec!["1.1.1.1:1", "2.2.2.2:1"], vec!["1.1.1.1:1", "2.2.2.2:1"]),
            (vec![], vec![]),
        ] {
            assert_eq!(in_turn(addresses(&resolved)), addresses(&tried));
        }
        let many: Vec<_> = (0..50).map(|port| SocketAddr::from(([1, 1, 1, 1], port))).collect();
        assert_eq!(in_turn(many).len(), ADDRESSES_MAX);
    }

    /// What an address does, in milliseconds after the start of its attempt.
    #[derive(Clone, Copy)]
    enum Conduct {
        Works(u64),
        Fails(u64),
        AcceptsThenWorks(u64, u64),
        AcceptsThenFails(u64, u64),
        Silent,
    }

    /// Which port won, and when each attempt started, in milliseconds.
    async fn race(conducts: &[Conduct]) -> (Result<u16, Vec<(SocketAddr, ())>>, Vec<u128>) {
        let begun = Instant::now();
        let starts = Arc::new(Mutex::new(Vec::new()));
        let conducts = conducts.to_vec();
        let addresses =
            (0..conducts.len()).map(|port| SocketAddr::from(([1, 1, 1, 1], port as u16))).collect();
        let won = first_success(addresses, |address, acceptance| {
            starts.lock().unwrap().push(begun.elapsed().as_millis());
            let conduct = conducts[usize::from(address.port())];
            let after = |milliseconds| sleep(Duration::from_millis(milliseconds));
            async move {
                match conduct {
                    Conduct::Works(at) => after(at).await,
                    Conduct::AcceptsThenWorks(accepts, works) => {
                        after(accepts).await;
                        acceptance.note();
                        after(works).await;
                    }
                    Conduct::Fails(at) => {
                        after(at).await;
                        return Err(());
                    }
                    Conduct::AcceptsThenFails(accepts, fails) => {
                        after(accepts).await;
                        acceptance.note();
                        after(fails).await;
                        return Err(());
                    }
                    Conduct::Silent => std::future::pending().await,
                }
                Ok(address.port())
            }
        })
        .await;
        let starts = starts.lock().unwrap().clone();
        (won, starts)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_or_fails_keeps_nobody_from_the_next() {
        use Conduct::{AcceptsThenFails, AcceptsThenWorks, Fails, Silent, Works};
        for (conducts, winner, starts) in [
            (vec![Works(5), Works(5)], 0, vec![0]),
            (vec![Silent, Works(5)], 1, vec![0, 250]),
            (vec![Silent, Silent, Works(5)], 2, vec![0, 250, 500]),
            (vec![Fails(10), Works(5)], 1, vec![0, 10]),
            // The first is only slow, and wins all the same.
            (vec![Works(300), Silent], 0, vec![0, 250]),
            (vec![AcceptsThenWorks(20, 1_500), Works(5)], 0, vec![0]),
            (vec![AcceptsThenFails(20, 600), Works(5)], 1, vec![0, 620]),
            (vec![AcceptsThenWorks(20, 60_000), Works(5)], 1, vec![0, 2_020]),
        ] {
            let (won, started) = race(&conducts).await;
            assert_eq!(won, Ok(winner));
            assert_eq!(started, starts);
        }
        let (lost, _) = race(&[Fails(400), Fails(1)]).await;
        let ports: Vec<u16> =
            lost.unwrap_err().iter().map(|(address, ())| address.port()).collect();
        assert_eq!(ports, [1, 0], "each address is accounted for");
        assert_eq!(race(&[]).await.0, Err(Vec::new()));
    }
}
