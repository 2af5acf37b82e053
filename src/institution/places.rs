//! Places for connections: so many in all and so many for each key, such as an address. A newcomer
//! always gets one; where there is none left, whoever has held one longest makes room.
//!
//! So whoever holds connections without using them keeps nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places of one kind of connection. Clones share them.
#[derive(Debug)]
pub(super) struct Places<K> {
    total_max: usize,
    per_key_max: usize,
    taken: Arc<Mutex<Taken<K>>>,
}

/// In the order in which they were taken.
#[derive(Debug)]
struct Taken<K> {
    next: u64,
    holders: BTreeMap<u64, Holder<K>>,
}

#[derive(Debug)]
struct Holder<K> {
    key: K,
    /// Dropped to tell the holder that its place went to a newcomer.
    _stay: oneshot::Sender<()>,
}

/// One place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<K> {
    number: u64,
    taken: Arc<Mutex<Taken<K>>>,
    stay: oneshot::Receiver<()>,
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        let Self { total_max, per_key_max, taken } = self;
        Self { total_max: *total_max, per_key_max: *per_key_max, taken: Arc::clone(taken) }
    }
}

impl<K: PartialEq> Places<K> {
    pub(super) fn new(total_max: usize, per_key_max: usize) -> Self {
        let taken = Taken { next: 0, holders: BTreeMap::new() };
        Self { total_max, per_key_max, taken: Arc::new(Mutex::new(taken)) }
    }

    /// Takes a place; from whoever of this key, or of all, has held one longest, if none is left.
    pub(super) fn take(&self, key: K) -> Place<K> {
        let (sender, stay) = oneshot::channel();
        let mut taken = lock(&self.taken);
        let of_key: Vec<u64> = taken
            .holders
            .iter()
            .filter(|(_, holder)| holder.key == key)
            .map(|(number, _)| *number)
            .collect();
        let leaves = if of_key.len() >= self.per_key_max {
            of_key.first().copied()
        } else if taken.holders.len() >= self.total_max {
            taken.holders.keys().next().copied()
        } else {
            None
        };
        if let Some(leaves) = leaves {
            taken.holders.remove(&leaves);
        }
        let number = taken.next;
        taken.next += 1;
        taken.holders.insert(number, Holder { key, _stay: sender });
        Place { number, taken: Arc::clone(&self.taken), stay }
    }
}

impl<K> Place<K> {
    /// Is ready when the place went to a newcomer.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.stay).await;
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.taken).holders.remove(&self.number);
    }
}

fn lock<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    // Nothing panics while it holds this lock.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    async fn is_lost(place: &mut Place<&'static str>) -> bool {
        timeout(Duration::from_millis(1), place.lost()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_oldest_place_of_its_key_or_of_all() {
        let places = Places::new(3, 2);
        let mut first = places.take("a");
        let mut second = places.take("a");
        let mut other = places.take("b");
        let mut third = places.take("a");
        assert!(is_lost(&mut first).await, "its own kind makes room before others do");
        for place in [&mut second, &mut other, &mut third] {
            assert!(!is_lost(place).await);
        }
        let mut fourth = places.take("c");
        assert!(is_lost(&mut second).await, "the oldest of all");
        drop(fourth);
        fourth = places.take("d");
        for place in [&mut other, &mut third, &mut fourth] {
            assert!(!is_lost(place).await, "a place that was given back is taken first");
        }
        // A place that was lost gives nothing back.
        drop((first, second));
        let mut fifth = places.take("e");
        assert!(is_lost(&mut other).await);
        assert!(!is_lost(&mut fifth).await);
    }
}
