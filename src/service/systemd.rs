//! What systemd is told: that the service is ready, its status, and that it is alive.

use sd_notify::NotifyState;

/// Without effect where systemd did not start the service; that is no fault.
pub(super) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "could not notify systemd");
    }
}
