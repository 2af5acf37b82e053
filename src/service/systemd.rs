//! What systemd is told: ready, well, why not, alive.

use sd_notify::NotifyState;

/// Nobody listens where systemd did not start the service; that is no fault.
pub(super) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
