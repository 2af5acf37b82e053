//! A session with BlueZ that ends whole.
//!
//! bluer (0.17.4) starts tasks for a session and does not end them with it: the one that takes BlueZ's calls waits for ever, since it
//! keeps open itself the queue that they come by, and another keeps the connection to the bus for half a minute. A terminal
//! without an adapter tries again every three seconds, for months. So a session has a runtime of its own, on a thread of its own,
//! and what bluer started there ends when the runtime does.
//!
//! It asks nothing of BlueZ.

use std::sync::{Mutex, PoisonError};
use std::thread;

use bluer::Session;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::fault::RadioFault;
use super::radio::in_time;

/// Connecting blocks a thread until the bus answers. So many at once are enough, for the service, its advertisement and the watch;
/// were the bus to hang, each new attempt would otherwise leave another thread behind.
pub(super) static OPENING: Semaphore = Semaphore::const_new(3);
/// The runtimes that run, for [`tasks_of_sessions`].
static RUNNING: Mutex<Vec<Handle>> = Mutex::new(Vec::new());

/// A connection to the bus by which BlueZ is asked and calls back. Once it is dropped BlueZ forgets what was registered over it, and
/// what is asked over it has no answer any more.
pub(super) struct BlueZSession {
    session: Session,
    runtime: SessionRuntime,
}

impl BlueZSession {
    /// Connects to the system bus.
    pub(super) async fn open() -> Result<Self, RadioFault> {
        let connecting = async {
            let permit = OPENING.acquire().await.map_err(no_bus)?;
            // In a task of its own, which ends in any case: one that is given up half-way would leave its thread behind.
            let opening = tokio::spawn(async move {
                let _permit = permit;
                let runtime = SessionRuntime::start().map_err(|error| RadioFault::Other {
                    during: "starting a thread",
                    detail: error.to_string(),
                })?;
                // Nothing is asked of BlueZ here, so whatever fails, it is the bus.
                let session = runtime.run(Session::new()).await?.map_err(no_bus)?;
                Ok(Self { session, runtime })
            });
            opening.await.map_err(no_bus)?
        };
        in_time(connecting).await?
    }

    /// What is asked of BlueZ over it.
    pub(super) fn bluez(&self) -> &Session {
        &self.session
    }

    /// Has the session's own thread do what leaves a task behind: to register something.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RadioFault> {
        in_time(self.runtime.run(work)).await?
    }
}

/// How many tasks the sessions of this process have.
pub fn tasks_of_sessions() -> usize {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.iter().map(|runtime| runtime.metrics().num_alive_tasks()).sum()
}

/// A current-thread runtime on a thread of its own, whose tasks take turns in the order in which they came. Its end is dropping
/// this.
struct SessionRuntime {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl SessionRuntime {
    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let running = handle.clone();
        thread::Builder::new().name("bluez".into()).spawn(move || {
            with_running(|all| all.push(running.clone()));
            let _ = runtime.block_on(ended);
            with_running(|all| all.retain(|other| other.id() != running.id()));
            // Without waiting for a thread that connects to a bus which does not answer.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _end: end })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RadioFault> {
        self.handle.spawn(work).await.map_err(no_bus)
    }
}

fn no_bus(error: impl ToString) -> RadioFault {
    RadioFault::NoBus(error.to_string())
}

fn with_running(change: impl FnOnce(&mut Vec<Handle>)) {
    change(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn what_was_started_in_a_session_ends_with_it() {
        let runtime = SessionRuntime::start().unwrap();
        let (held, ended) = oneshot::channel::<()>();
        runtime
            .run(async {
                tokio::spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                })
            })
            .await
            .unwrap();
        assert!(tasks_of_sessions() > 0);
        drop(runtime);
        // The task lets go of its end of the channel.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
        assert!(ended.unwrap().is_err());
    }

    #[tokio::test]
    async fn tasks_of_a_session_take_turns_in_the_order_in_which_they_came() {
        let runtime = SessionRuntime::start().unwrap();
        let order = runtime
            .run(async {
                let (turn, mut turns) = tokio::sync::mpsc::unbounded_channel();
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
            .await
            .unwrap();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
