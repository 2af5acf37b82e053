//! A session with BlueZ that ends completely when it is dropped.
//!
//! bluer (0.17.4) starts tasks for a session and does not end them with it. The task that takes
//! BlueZ's calls waits for ever, since it keeps open the queue through which they come; another
//! keeps the connection to the bus for half a minute. A terminal without an adapter retries every
//! three seconds, for months. So each session has a runtime of its own, on a thread of its own, and
//! what was started there ends with the runtime.
//!
//! Everything that uses the session runs there too: libdbus sometimes loses a wake-up if one thread
//! sends while another reads.
//!
//! This file makes no calls to BlueZ.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use bluer::Session;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::answer_timeout::with_answer_timeout;
use super::fault::RadioFault;

/// How many connections to the bus may be opened at once: the service's, the advertisement's and
/// the watch's. Each blocks a thread until the bus answers. Without this limit, each attempt would
/// leave another thread behind while the bus hangs.
pub(super) static CONNECTING: Semaphore = Semaphore::const_new(3);
/// The runtimes of all sessions.
static SESSIONS: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

fn sessions() -> MutexGuard<'static, Vec<Handle>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many tasks run in the sessions of this process.
pub fn tasks_of_sessions() -> usize {
    sessions().iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum()
}

/// A connection to the bus for calls to and from BlueZ. When it is dropped, BlueZ removes what was
/// registered over it.
pub(super) struct BlueZSession {
    session: Session,
    runtime: SessionRuntime,
}

impl BlueZSession {
    /// Connects to the system bus.
    pub(super) async fn open() -> Result<Self, RadioFault> {
        let connecting = async {
            let permit = CONNECTING.acquire().await.map_err(RadioFault::bus_unreachable)?;
            // This task continues even if the caller stops waiting: it holds the permit until the
            // bus has answered.
            let opening = tokio::spawn(async move {
                let _permit = permit;
                let started = SessionRuntime::start().await;
                let runtime = started.map_err(|error| {
                    RadioFault::bus_unreachable(format!("no thread could be started: {error}"))
                })?;
                // This does not call BlueZ, so an error comes from the bus.
                let session =
                    runtime.run(Session::new()).await.map_err(RadioFault::bus_unreachable)?;
                sessions().push(runtime.handle.clone());
                Ok(Self { session, runtime })
            });
            opening.await.map_err(RadioFault::bus_unreachable)?
        };
        with_answer_timeout(connecting).await?
    }

    /// Runs `work` on the session's thread. Tasks that it starts end with the session.
    pub(super) async fn run<T, Work>(&self, work: impl FnOnce(Session) -> Work) -> T
    where
        T: Send + 'static,
        Work: Future<Output = T> + Send + 'static,
    {
        self.runtime.run(work(self.session.clone())).await
    }
}

impl Drop for BlueZSession {
    fn drop(&mut self) {
        sessions().retain(|runtime| runtime.id() != self.runtime.handle.id());
    }
}

/// A current-thread runtime on a thread of its own. Tasks take turns in the order in which they
/// were started. The runtime ends when this is dropped.
struct SessionRuntime {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl SessionRuntime {
    async fn start() -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        // The thread makes the runtime itself: a runtime must not be dropped in an asynchronous
        // context, not even if the thread cannot be started.
        thread::Builder::new().name("bluez".into()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = started.send(Ok(runtime.handle().clone()));
                    let _ = runtime.block_on(ended);
                    // Does not wait for a thread that is connecting to a bus that hangs.
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let handle = starting.await.map_err(io::Error::other)??;
        Ok(Self { handle, _end: end })
    }

    /// A panic of the work continues in the caller.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.handle.spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime outlives this call, so nothing cancels the work.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn tasks_end_with_the_session_that_started_them() {
        let runtime = SessionRuntime::start().await.unwrap();
        let (held, ended) = oneshot::channel::<()>();
        runtime
            .run(async {
                tokio::spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            })
            .await;
        assert!(runtime.handle.metrics().num_alive_tasks() > 0);
        drop(runtime);
        // The task drops its end of the channel.
        assert!(timeout(Duration::from_secs(10), ended).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn tasks_of_a_session_run_in_the_order_in_which_they_were_started() {
        let runtime = SessionRuntime::start().await.unwrap();
        let order = runtime
            .run(async {
                let (turn, mut turns) = mpsc::unbounded_channel();
                for number in 0..100 {
                    let turn = turn.clone();
                    tokio::spawn(async move { turn.send(number).unwrap() });
                }
                drop(turn);
                let mut order = Vec::new();
                while let Some(number) = turns.recv().await {
                    order.push(number);
                }
                order
            })
            .await;
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
