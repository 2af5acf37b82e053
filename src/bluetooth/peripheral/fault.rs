//! Why phones cannot find the terminal, in words that say what to do.

use bluer::{Error, ErrorKind, InternalErrorKind};

/// What is wrong with BlueZ, the adapter, or the way to them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RadioFault {
    /// No system bus.
    #[error("the D-Bus system bus cannot be reached ({0}); start it: `systemctl start dbus`")]
    NoBus(String),
    /// No bluetoothd.
    #[error(
        "BlueZ is not running ({0}); install it (`apt install bluez`) and start it: `systemctl start bluetooth`"
    )]
    BlueZNotRunning(String),
    /// bluetoothd hangs, or is busy: for so many milliseconds.
    #[error(
        "BlueZ gives no answer within {0} ms; unless it comes to itself: `systemctl restart bluetooth`"
    )]
    Silent(u64),
    /// The bus policy does not let us.
    #[error(
        "D-Bus does not let this user talk to BlueZ ({0}); install deploy/florin-dbus.conf as \
         /etc/dbus-1/system.d/florin.conf, or run as the user it names"
    )]
    Forbidden(String),
    /// No adapter at all.
    #[error(
        "there is no Bluetooth adapter; plug one in, or enable the built-in one (see `bluetoothctl list`)"
    )]
    NoAdapter,
    /// Not the one that is configured.
    #[error(
        "there is no Bluetooth adapter `{wanted}`, only: {present}; change [bluetooth] adapter, or plug it in"
    )]
    AdapterNotFound {
        /// As configured.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// Switched off by rfkill.
    #[error("the Bluetooth adapter {0} is blocked; unblock it: `rfkill unblock bluetooth`")]
    Blocked(String),
    /// It cannot advertise.
    #[error(
        "the Bluetooth adapter {0} cannot advertise (no LE peripheral role); use another adapter"
    )]
    NoAdvertising(String),
    /// bluetoothd ended, or was started anew.
    #[error("BlueZ went away or was started anew; connecting to it again")]
    BlueZRestarted,
    /// The adapter was switched off by somebody.
    #[error("the Bluetooth adapter {0} was switched off; switching it on again")]
    PoweredOff(String),
    /// What was put up does not stay.
    #[error(
        "the advertisement of the Bluetooth adapter {0} vanishes again and again; setting everything up anew \
         (does another program use it? see `journalctl -u bluetooth`)"
    )]
    AdvertisementLost(String),
    /// All else.
    #[error("Bluetooth does not work: {during}: {detail}; see `journalctl -u bluetooth`")]
    Other {
        /// What was tried.
        during: &'static str,
        /// What was said.
        detail: String,
    },
}

impl RadioFault {
    /// The bus cannot be reached, because of this.
    pub(super) fn no_bus(error: impl ToString) -> Self {
        Self::NoBus(error.to_string())
    }

    /// What an error of bluer means, on this adapter, while something was tried.
    // The kinds are bluer's, and it keeps the list open.
    #[allow(clippy::wildcard_enum_match_arm)]
    pub(super) fn of(error: &Error, adapter: &str, during: &'static str) -> Self {
        // What D-Bus or BlueZ said; where they said nothing, bluer's name for it.
        let detail =
            if error.message.is_empty() { error.to_string() } else { error.message.clone() };
        if detail.to_ascii_lowercase().contains("rfkill")
            || error.to_string().contains("org.bluez.Error.Blocked")
        {
            return Self::Blocked(adapter.to_owned());
        }
        match &error.kind {
            ErrorKind::NotFound | ErrorKind::DoesNotExist => Self::NoAdapter,
            ErrorKind::Internal(InternalErrorKind::DBus(name)) => match name.as_str() {
                "org.freedesktop.DBus.Error.AccessDenied"
                | "org.freedesktop.DBus.Error.AuthFailed" => Self::Forbidden(detail),
                "org.freedesktop.DBus.Error.ServiceUnknown"
                | "org.freedesktop.DBus.Error.NameHasNoOwner"
                | "org.freedesktop.DBus.Error.NoReply"
                | "org.freedesktop.DBus.Error.TimedOut"
                | "org.freedesktop.DBus.Error.Timeout" => Self::BlueZNotRunning(detail),
                name if name.starts_with("org.freedesktop.DBus.Error.Spawn")
                    || name.starts_with("org.freedesktop.systemd1.") =>
                {
                    Self::BlueZNotRunning(detail)
                }
                "org.freedesktop.DBus.Error.UnknownMethod"
                | "org.freedesktop.DBus.Error.UnknownInterface" => {
                    Self::NoAdvertising(adapter.to_owned())
                }
                "org.freedesktop.DBus.Error.FileNotFound"
                | "org.freedesktop.DBus.Error.NoServer"
                | "org.freedesktop.DBus.Error.Disconnected" => Self::NoBus(detail),
                _ => Self::Other { during, detail },
            },
            ErrorKind::Internal(
                InternalErrorKind::DBusConnectionLost | InternalErrorKind::Io(_),
            ) => Self::NoBus(detail),
            _ => Self::Other { during, detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, message: &str) -> RadioFault {
        let kind = ErrorKind::Internal(InternalErrorKind::DBus(name.into()));
        RadioFault::of(&Error { kind, message: message.into() }, "hci0", "testing")
    }

    #[test]
    fn each_cause_has_its_words_and_what_to_do() {
        for (fault, words) in [
            (
                fault("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message"),
                "florin-dbus.conf",
            ),
            (
                fault("org.freedesktop.DBus.Error.ServiceUnknown", "not provided"),
                "systemctl start bluetooth",
            ),
            (
                fault("org.freedesktop.systemd1.NoSuchUnit", "dbus-org.bluez.service"),
                "apt install bluez",
            ),
            (fault("org.freedesktop.DBus.Error.FileNotFound", "no socket"), "systemctl start dbus"),
            (fault("org.bluez.Error.Blocked", "Blocked through rfkill"), "rfkill unblock"),
            (fault("org.example.Odd", "odd"), "journalctl -u bluetooth"),
        ] {
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}
