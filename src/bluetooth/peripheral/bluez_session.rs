//! A session with BlueZ that ends whole.
//!
//! bluer (0.17.4) starts tasks for a session and does not end them with it: the one that takes
//! BlueZ's calls waits for ever, since it keeps open itself the queue that they come by, and
//! another keeps the connection to the bus for half a minute. A terminal without an adapter tries
//! again every three seconds, for months. So a session has a runtime of its own, on a thread of its
//! own, and what was started there ends when the runtime does.
//!
//! All that uses the session runs there, too: libdbus loses a wake-up now and then where one thread
//! sends while another reads.
//!
//! It asks nothing of BlueZ.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use bluer::Session;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::fault::RadioFault;
use super::radio::in_time;

/// Connecting blocks a thread until the bus answers. So many at once are enough, for the service,
/// its advertisement and the watch; were the bus to hang, each new attempt would otherwise leave
/// another thread behind.
pub(super) static OPENING: Semaphore = Semaphore::const_new(3);
/// The runtimes of the sessions that there are.
static SESSIONS: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

fn sessions() -> MutexGuard<'static, Vec<Handle>> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many tasks the sessions of this process have.
pub fn tasks_of_sessions() -> usize {
    sessions().iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum()
}

/// A connection to the bus by which BlueZ is asked and calls back. Once it is dropped BlueZ forgets
/// what was registered over it.
pub(super) struct BlueZSession {
    session: Session,
    runtime: SessionRuntime,
}

impl BlueZSession {
    /// Connects to the system bus.
    pub(super) async fn open() -> Result<Self, RadioFault> {
        let connecting = async {
            let permit = OPENING.acquire().await.map_err(RadioFault::no_bus)?;
            // In a task of its own, which goes on where the caller has given up: the permit is for
            // as long as the bus is waited for.
            let opening = tokio::spawn(async move {
                let _permit = permit;
                let started = SessionRuntime::start().await;
                let runtime = started
                    .map_err(|error| RadioFault::no_bus(format!("no thread to do it: {error}")))?;
                // Nothing is asked of BlueZ here, so whatever fails, it is the bus.
                let session = runtime.run(Session::new()).await.map_err(RadioFault::no_bus)?;
                sessions().push(runtime.handle.clone());
                Ok(Self { session, runtime })
            });
            opening.await.map_err(RadioFault::no_bus)?
        };
        in_time(connecting).await?
    }

    /// Does something with the session, on its thread. What that starts ends with the session.
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

/// A current-thread runtime on a thread of its own, whose tasks take turns in the order in which
/// they came. Its end is dropping this.
struct SessionRuntime {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl SessionRuntime {
    async fn start() -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        // Made there: a runtime must not be dropped among tasks, not even where the thread cannot
        // be started.
        thread::Builder::new().name("bluez".into()).spawn(move || {
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = started.send(Ok(runtime.handle().clone()));
                    let _ = runtime.block_on(ended);
                    // Without waiting for a thread that connects to a bus which does not answer.
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

    /// A panic of the work goes on here.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.handle.spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends after this, so nothing cancels the work.
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
    async fn what_was_started_in_a_session_ends_with_it() {
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
        // The task lets go of its end of the channel.
        assert!(timeout(Duration::from_secs(10), ended).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn tasks_of_a_session_take_turns_in_the_order_in_which_they_came() {
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
