//! Why phones cannot find the terminal, and what the operator can do about it.

use std::time::Duration;

use bluer::{Error, ErrorKind, InternalErrorKind};

/// A fault of BlueZ, of the adapter, or of the bus between BlueZ and the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RadioFault {
    #[error("the D-Bus system bus cannot be reached ({0}). Run `systemctl start dbus`")]
    BusUnreachable(String),
    /// bluetoothd does not run, and D-Bus could not start it.
    #[error(
        "BlueZ is not running ({0}). Run `systemctl start bluetooth`; if BlueZ is not installed, \
         run `apt install bluez` first"
    )]
    BlueZNotRunning(String),
    /// bluetoothd hangs or is busy: a call was not answered within this time.
    #[error(
        "BlueZ has not answered for {} s. If it does not recover, run \
         `systemctl restart bluetooth`",
        .0.as_secs()
    )]
    AnswerTimeout(Duration),
    /// The bus policy does not allow this user to call BlueZ.
    #[error(
        "D-Bus does not let this user talk to BlueZ ({0}). To allow it, install \
         deploy/florin-dbus.conf as /etc/dbus-1/system.d/florin.conf, or run florin as the user \
         that this file names"
    )]
    AccessDenied(String),
    #[error(
        "there is no Bluetooth adapter. Plug one in, or enable the built-in one; `bluetoothctl \
         list` shows the adapters that BlueZ has"
    )]
    NoAdapter,
    /// The configured adapter is absent, and others are present.
    #[error(
        "there is no Bluetooth adapter `{wanted}`; BlueZ has: {present}. Plug it in, or correct \
         `adapter` in section [bluetooth] of the configuration"
    )]
    AdapterNotFound { wanted: String, present: String },
    #[error("rfkill blocks the Bluetooth adapter {0}. Run `rfkill unblock bluetooth`")]
    Blocked(String),
    #[error(
        "the Bluetooth adapter {0} cannot advertise (no LE peripheral role). Use another adapter"
    )]
    AdvertisingUnsupported(String),
    #[error("BlueZ stopped or was restarted. The terminal connects to it again by itself")]
    BlueZRestarted,
    #[error(
        "the Bluetooth adapter {0} was switched off. The terminal switches it on again by itself"
    )]
    PoweredOff(String),
    /// BlueZ has dropped the advertisement twice within a short time.
    #[error(
        "the advertisement on the Bluetooth adapter {0} keeps disappearing. The terminal registers \
         everything again by itself; if this repeats, look in `journalctl -u bluetooth` for \
         another program that uses the adapter"
    )]
    AdvertisementLost(String),
    /// An error that is none of the above; `during` says what was being done.
    #[error("Bluetooth failed while {during}: {detail}. See `journalctl -u bluetooth`")]
    Other { during: &'static str, detail: String },
}

impl RadioFault {
    /// The bus cannot be reached because of this error.
    pub(super) fn bus_unreachable(error: impl ToString) -> Self {
        Self::BusUnreachable(error.to_string())
    }

    /// What an error of bluer means, on this adapter, during this operation.
    // The kinds are bluer's, and it keeps the list open.
    #[allow(clippy::wildcard_enum_match_arm)]
    pub(super) fn of(error: &Error, adapter: &str, during: &'static str) -> Self {
        // The message is that of D-Bus or BlueZ. If it is empty, bluer's name for the error serves.
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
                | "org.freedesktop.DBus.Error.AuthFailed" => Self::AccessDenied(detail),
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
                    Self::AdvertisingUnsupported(adapter.to_owned())
                }
                "org.freedesktop.DBus.Error.FileNotFound"
                | "org.freedesktop.DBus.Error.NoServer"
                | "org.freedesktop.DBus.Error.Disconnected" => Self::BusUnreachable(detail),
                _ => Self::Other { during, detail },
            },
            ErrorKind::Internal(
                InternalErrorKind::DBusConnectionLost | InternalErrorKind::Io(_),
            ) => Self::BusUnreachable(detail),
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
    fn each_fault_says_what_to_do() {
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
            (
                RadioFault::AnswerTimeout(Duration::from_secs(5)),
                "has not answered for 5 s. If it does not recover, run \
                 `systemctl restart bluetooth`",
            ),
        ] {
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}
