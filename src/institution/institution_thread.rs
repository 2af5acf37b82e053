//! One thread that owns the institution, and its queue: SQLite blocks, and asynchronous tasks must
//! not.
//!
//! What a request means is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::processing::{Institution, InstitutionError};

/// How many requests may wait for the thread. At some milliseconds each, the last has its answer
/// before its terminal loses patience.
const QUEUE_REQUESTS_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Institution) + Send>;

/// Why a request has no answer from the institution's thread.
#[derive(Debug, thiserror::Error)]
pub(super) enum ThreadError {
    /// The institution's own answer.
    #[error(transparent)]
    Institution(#[from] InstitutionError),
    /// The queue is full; nothing was begun.
    #[error("the institution is busy; nothing was begun; send the same request again later")]
    Busy,
    /// The thread has ended; nothing was begun.
    #[error(
        "the institution is shutting down; nothing was begun; send the same request again later"
    )]
    Ended,
    /// The work was begun and did not end as it should.
    #[error(
        "the institution failed in the middle of this request; what became of it is not known: ask for the transaction, \
         or send the same request again"
    )]
    Failed,
}

/// Gives work to the thread. The thread ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(super) struct InstitutionThread {
    jobs: mpsc::Sender<Job>,
}

impl InstitutionThread {
    /// Starts the thread.
    pub(super) fn start(
        mut institution: Institution,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_REQUESTS_MAX);
        let handle = thread::Builder::new().name("institution".to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                // A fault in one request must not stop the others. What it had begun in the store
                // is rolled back as the transaction is dropped.
                if catch_unwind(AssertUnwindSafe(|| job(&mut institution))).is_err() {
                    tracing::error!(
                        "a request made the institution panic; the others are served on"
                    );
                }
            }
        })?;
        Ok((Self { jobs }, handle))
    }

    /// Has the thread do `work`, after all that came before. Once begun, it is done to its end,
    /// whether or not anybody still waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Institution) -> Result<T, InstitutionError> + Send + 'static,
    ) -> Result<T, ThreadError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |institution| {
            // Nobody waits any more: the terminal will ask again.
            let _ = answer.send(work(institution));
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ThreadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ThreadError::Ended,
        })?;
        match answered.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(ThreadError::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::domain::UnixTime;
    use crate::institution::{InstitutionKeys, KEY_SEED_OCTETS, Store};

    fn start() -> (InstitutionThread, thread::JoinHandle<()>) {
        let (keys, _) =
            InstitutionKeys::generate("Bank", &[7; KEY_SEED_OCTETS], UnixTime::default()).unwrap();
        InstitutionThread::start(Institution::new(keys, Store::open_in_memory().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_nothing_else() {
        let (institution, thread) = start();
        let failed =
            institution.run(|_| -> Result<(), InstitutionError> { panic!("on purpose") }).await;
        assert!(matches!(failed, Err(ThreadError::Failed)));
        assert_eq!(institution.run(Institution::accounts).await.unwrap(), []);
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
                    .run(move |_| {
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
            waiting.spawn(async move { institution.run(Institution::accounts).await });
        }
        while institution.jobs.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(institution.run(Institution::accounts).await, Err(ThreadError::Busy)));
        go_on.send(()).unwrap();
        busy.await.unwrap().unwrap();
        while let Some(answer) = waiting.join_next().await {
            answer.unwrap().unwrap();
        }
        drop(institution);
        thread.join().unwrap();
    }
}
