//! The queue of requests, and the one thread that works on them: the store blocks, and asynchronous
//! tasks must not.
//!
//! What a request means is not known here.
//!
//! One rule for requests that wait, whether for others before them or for another process that
//! writes to the store: each has [`WAIT_MAX_MS`] from when it was heard. After that it is not begun
//! any more, and is told so. So none is done after its sender was told that nothing was begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Institution;
use super::error::InstitutionError;
use super::store::StoreError;

/// How many requests may wait. At some milliseconds each, the last is answered before its terminal
/// times out.
const QUEUE_REQUESTS_MAX: usize = 256;

/// How long a request may wait before it is begun, in milliseconds. Its terminal waits 10 s.
const WAIT_MAX_MS: u64 = 5_000;
/// How long one attempt waits while another process writes, in milliseconds. Then everything that
/// depends on the time is looked at anew, such as the age of an offer.
const LOCK_WAIT_MS: u64 = 100;

type Job = Box<dyn FnOnce(&mut Institution) + Send>;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueError {
    /// The institution's own answer.
    #[error(transparent)]
    Institution(#[from] InstitutionError),
    /// The queue is full; nothing was begun.
    #[error("the institution is busy; nothing was begun; send the same request again later")]
    Busy,
    /// It has waited too long: others were before it, or another process writes to the store.
    #[error(
        "the institution's store is busy, and this request waited for {WAIT_MAX_MS} ms; nothing \
         was begun; send the same request again later"
    )]
    Late,
    /// The thread has ended; nothing was begun.
    #[error(
        "the institution is shutting down; nothing was begun; send the same request again later"
    )]
    Ended,
    /// The work was begun, and a fault of the program ended it.
    #[error(
        "the institution failed in the middle of this request, and whether it was done is not \
         known; ask for the transaction, or send the same request again"
    )]
    Failed,
}

/// Puts requests into the queue. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct RequestQueue {
    jobs: mpsc::Sender<Job>,
}

impl RequestQueue {
    /// Starts the thread.
    pub(super) fn start(
        mut institution: Institution,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        institution.wait_for_lock_at_most(LOCK_WAIT_MS).map_err(std::io::Error::other)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_REQUESTS_MAX);
        let handle = thread::Builder::new().name("institution".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                // A fault in one request must not stop the others. What it began in the store is
                // rolled back when the database transaction is dropped.
                if catch_unwind(AssertUnwindSafe(|| job(&mut institution))).is_err() {
                    tracing::error!(
                        "a request made the institution panic; the others are still served; this \
                         is a fault in the program, please report it"
                    );
                }
            }
        })?;
        Ok((Self { jobs }, handle))
    }

    /// Has the thread do `work` after everything that waits already, for a request that was heard
    /// at `heard_at`. Where another process writes to the store, `work` has changed nothing, and is
    /// done again. Once begun, it is done to its end, whether or not anybody still waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        heard_at: Instant,
        mut work: impl FnMut(&mut Institution) -> Result<T, InstitutionError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |institution| {
            let done = loop {
                if heard_at.elapsed() >= Duration::from_millis(WAIT_MAX_MS) {
                    break Err(QueueError::Late);
                }
                match work(institution) {
                    Err(InstitutionError::Store(StoreError::Busy)) => {}
                    done => break done.map_err(QueueError::from),
                }
            };
            // If nobody waits any more, the terminal will ask again.
            let _ = answer.send(done);
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => QueueError::Busy,
            mpsc::error::TrySendError::Closed(_) => QueueError::Ended,
        })?;
        match answered.await {
            Ok(done) => done,
            Err(_) => Err(QueueError::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::domain::UnixTime;
    use crate::institution::{InstitutionKeys, KEY_SEED_OCTETS, MemoryStore};

    fn start() -> (RequestQueue, thread::JoinHandle<()>) {
        let (keys, _) =
            InstitutionKeys::generate("Bank", &[7; KEY_SEED_OCTETS], UnixTime::default()).unwrap();
        RequestQueue::start(Institution::new(keys, MemoryStore::new())).unwrap()
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_nothing_else() {
        let (institution, thread) = start();
        let failed = institution
            .run(Instant::now(), |_| -> Result<(), InstitutionError> { panic!("on purpose") })
            .await;
        assert!(matches!(failed, Err(QueueError::Failed)));
        assert_eq!(institution.run(Instant::now(), Institution::accounts).await.unwrap(), []);
        drop(institution);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_says_so_and_begins_nothing() {
        let (institution, thread) = start();
        let (go_on, wait) = channel::<()>();
        let (begun, has_begun) = channel();
        let busy = tokio::spawn({
            let institution = institution.clone();
            async move {
                institution
                    .run(Instant::now(), move |_| {
                        begun.send(()).unwrap();
                        wait.recv().unwrap();
                        Ok(())
                    })
                    .await
            }
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..QUEUE_REQUESTS_MAX {
            let institution = institution.clone();
            waiting
                .spawn(async move { institution.run(Instant::now(), Institution::accounts).await });
        }
        while institution.jobs.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            institution.run(Instant::now(), Institution::accounts).await,
            Err(QueueError::Busy)
        ));
        go_on.send(()).unwrap();
        busy.await.unwrap().unwrap();
        while let Some(answer) = waiting.join_next().await {
            answer.unwrap().unwrap();
        }
        drop(institution);
        thread.join().unwrap();
    }
    #[tokio::test]
    async fn a_request_that_has_waited_too_long_is_not_begun() {
        let (institution, thread) = start();
        let limit = Duration::from_millis(WAIT_MAX_MS);
        let Some(long_ago) = Instant::now().checked_sub(limit) else { return };
        let late = institution
            .run(long_ago, |_| -> Result<(), InstitutionError> { panic!("it was begun") })
            .await;
        assert!(matches!(late, Err(QueueError::Late)));
        drop(institution);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn while_another_process_writes_a_request_is_tried_again_until_its_time_is_over() {
        let (institution, thread) = start();
        let mut left = 3;
        let done = institution
            .run(Instant::now(), move |_| {
                left -= 1;
                if left == 0 { Ok("done") } else { Err(StoreError::Busy.into()) }
            })
            .await;
        assert_eq!(done.unwrap(), "done");
        let late = institution
            .run(Instant::now(), |_| -> Result<(), InstitutionError> {
                thread::sleep(Duration::from_millis(LOCK_WAIT_MS));
                Err(StoreError::Busy.into())
            })
            .await;
        assert!(matches!(late, Err(QueueError::Late)));
        drop(institution);
        thread.join().unwrap();
    }
}
