//! Bluetooth: the adapter, BlueZ's version and settings, and whether BlueZ takes a GATT service
//! from this user.

use std::time::Duration;

use tokio::time::timeout;

use super::super::{Configuration, ServiceExit};
use super::{Extent, Finding, bluez_settings};
use crate::bluetooth::{BLUEZ_TRIED_SINCE, RadioExamination, examine_radio, probe_registration};
use crate::till::StatusJson;

/// How long BlueZ and the bus may take for one thing, in seconds. D-Bus itself waits 25 s.
const RADIO_TIMEOUT_S: u64 = 30;

const ADAPTER: &str = "bluetooth";
const BLUEZ_VERSION: &str = "bluez_version";
const BUS_POLICY: &str = "bus_policy";

/// The adapter; and of everything, BlueZ's version and settings, and the bus policy. `served` is
/// what a service that runs says of itself.
pub(super) async fn examine(
    configuration: &Configuration,
    extent: Extent,
    served: Option<&StatusJson>,
) -> Vec<Finding> {
    let adapter = configuration.adapter.as_deref();
    let examined = match in_time(examine_radio(adapter)).await {
        Some(Ok(examined)) => Ok(examined),
        Some(Err(fault)) => Err(Finding::fault(ADAPTER, &fault.into())),
        None => Err(silent(ADAPTER)),
    };
    let reached = examined.as_ref().ok();
    let mut findings = vec![match &examined {
        Ok(examined) => adapter_finding(examined, served.is_some()),
        Err(wrong) => wrong.clone(),
    }];
    if extent == Extent::Service {
        return findings;
    }
    let version = reached.and_then(|examined| examined.bluez_version);
    let unreached = "neither BlueZ nor an adapter is there to be asked";
    findings.push(match reached {
        Some(_) => bluez_version(version),
        None => Finding::not_examined(BLUEZ_VERSION, unreached),
    });
    findings.push(bluez_settings::examine(version));
    findings.push(match reached {
        None => Finding::not_examined(BUS_POLICY, unreached),
        Some(examined) if examined.is_registered => {
            Finding::fine(BUS_POLICY, "a terminal is registered with BlueZ")
        }
        Some(_) => bus_policy(adapter, served).await,
    });
    findings
}

/// Tries to register. No terminal is registered, so no phone would notice.
async fn bus_policy(adapter: Option<&str>, served: Option<&StatusJson>) -> Finding {
    match in_time(probe_registration(adapter)).await {
        Some(Ok(())) => may_register(served),
        Some(Err(fault)) => Finding::fault(BUS_POLICY, &fault.into()),
        None => silent(BUS_POLICY),
    }
}

async fn in_time<T>(examining: impl Future<Output = T>) -> Option<T> {
    timeout(Duration::from_secs(RADIO_TIMEOUT_S), examining).await.ok()
}

fn silent(check: &'static str) -> Finding {
    let detail = format!(
        "BlueZ or D-Bus did not answer within {RADIO_TIMEOUT_S} s; restart BlueZ: `systemctl \
         restart bluetooth`"
    );
    Finding::wrong(check, detail, ServiceExit::BlueZNotRunning)
}

/// This user may register with BlueZ, and the service, if one runs, has not.
fn may_register(served: Option<&StatusJson>) -> Finding {
    match served {
        None => Finding::fine(BUS_POLICY, "this user can register with BlueZ"),
        Some(StatusJson { reason: None, .. }) => Finding::fine(
            BUS_POLICY,
            "this user can register with BlueZ; the running service does not use BlueZ (`serve \
             --air`)",
        ),
        Some(StatusJson { reason: Some(reason), .. }) => Finding::advice(
            BUS_POLICY,
            format!(
                "this user can register with BlueZ, but the running service has not and is out of \
                 service: {reason}. Examine it again as the service's user: `sudo -u florin florin \
                 doctor`"
            ),
        ),
    }
}

fn adapter_finding(examined: &RadioExamination, is_served: bool) -> Finding {
    let RadioExamination { adapter, address, advertisements_free, .. } = examined;
    if *advertisements_free == 0 && !is_served {
        return Finding::advice(
            ADAPTER,
            format!(
                "{adapter} ({address}) has no advertisement left: other programs use them all; end \
                 those, or use another adapter"
            ),
        );
    }
    Finding::fine(ADAPTER, format!("{adapter} ({address})"))
}

fn bluez_version(version: Option<(u8, u8)>) -> Finding {
    match version {
        None => Finding::advice(
            BLUEZ_VERSION,
            "BlueZ does not tell its version, which Florin needs; if DeviceID is set in \
             /etc/bluetooth/main.conf, remove that line",
        ),
        Some((major, minor)) if (major, minor) < BLUEZ_TRIED_SINCE => Finding::advice(
            BLUEZ_VERSION,
            format!(
                "{major}.{minor}; Florin was never tried with it. Install {}.{} or later",
                BLUEZ_TRIED_SINCE.0, BLUEZ_TRIED_SINCE.1
            ),
        ),
        Some((major, minor)) => Finding::fine(BLUEZ_VERSION, format!("{major}.{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_service_that_has_not_registered_is_not_taken_for_one_that_may() {
        let mut status = StatusJson {
            terminal_id: "t".into(),
            short_code: "t".into(),
            in_service: true,
            reason: None,
            engagement_link: "l".into(),
            open_payments: 0,
            oldest_open_s: 0,
            escalated: Vec::new(),
            version: "0".into(),
        };
        assert_eq!(may_register(None).verdict, Verdict::Fine);
        assert!(may_register(Some(&status)).detail.contains("--air"));
        status.reason = Some("D-Bus does not let this user talk to BlueZ".into());
        let finding = may_register(Some(&status));
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(finding.detail.contains("D-Bus does not let"), "{}", finding.detail);
    }

    #[test]
    fn an_old_or_silent_bluez_is_named() {
        assert_eq!(bluez_version(Some((5, 82))).verdict, Verdict::Fine);
        assert_eq!(bluez_version(Some((5, 66))).verdict, Verdict::Fine);
        assert_eq!(bluez_version(Some((5, 55))).verdict, Verdict::Advice);
        assert!(bluez_version(None).detail.contains("DeviceID"));
    }
}
