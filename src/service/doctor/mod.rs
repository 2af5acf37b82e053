//! `florin doctor`: looks at everything that the service needs, and says of each whether it is fine
//! or what to do.
//!
//! `florin serve --check` is the part of it that keeps the service from running. It mends nothing,
//! and changes nothing but to switch the adapter on; where BlueZ has no terminal's service, it is
//! given another one for a moment.

mod bluez_settings;
mod storage;
mod time;

use std::time::Duration;

use rand::TryRngCore;
use serde::Serialize;
use tokio::time::timeout;

use super::clock::wall_clock;
use super::terminal_service::relay;
use super::{Configuration, Enrolment, EnrolmentError, ServiceError, ServiceExit};
use crate::bluetooth::{BLUEZ_TRIED_SINCE, RadioExamination, examine_radio, probe_registration};
use crate::domain::{TransactionId, UnixTime};
use crate::journal::{SqliteJournal, SqliteJournalError};
use crate::till::{StatusJson, TillClient, TillClientError};

/// A certificate that runs out within so many seconds is to be renewed: 30 days.
pub(super) const EXPIRY_WARNING_S: u64 = 30 * 24 * 3600;
/// How long BlueZ and the bus may take for one thing, in seconds. D-Bus itself waits 25 s.
const RADIO_TIMEOUT_S: u64 = 30;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It could not be looked at, because of something else that is named wrong.
    NotExamined,
    /// The terminal works; something should be done all the same.
    Advice,
    /// The terminal does not work so.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which, by a stable name (docs/operations.md lists them).
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and unless it is fine, what to do.
    pub detail: String,
    /// What the command ends with where this is the first that is wrong.
    #[serde(skip)]
    pub exit: Option<ServiceExit>,
}

impl Finding {
    fn fine(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fine, detail: detail.into(), exit: None }
    }

    fn advice(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Advice, detail: detail.into(), exit: None }
    }

    fn not_examined(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::NotExamined, detail: detail.into(), exit: None }
    }

    fn wrong(check: &'static str, detail: impl Into<String>, exit: ServiceExit) -> Self {
        Self { check, verdict: Verdict::Wrong, detail: detail.into(), exit: Some(exit) }
    }

    /// A thing that is wrong as the service would say it.
    pub fn fault(check: &'static str, error: &ServiceError) -> Self {
        Self::wrong(check, error.to_string(), error.exit())
    }
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the service cannot do without.
    Service,
    /// All that can be examined.
    Everything,
}

/// Looks, in the order in which the service needs things.
pub async fn examine(configuration: &Configuration, extent: Extent) -> Vec<Finding> {
    let everything = extent == Extent::Everything;
    let mut findings = Vec::new();
    let mut is_owner = true;
    if everything {
        let files = storage::files(&configuration.state_directory);
        is_owner = files.is_owner;
        findings.push(files.finding);
        findings.push(storage::disk(&configuration.state_directory));
        findings.push(time::clock(wall_clock()).await);
    }
    let enrolment =
        Enrolment::load(&configuration.state_directory, wall_clock()).map_err(ServiceError::from);
    findings.push(match &enrolment {
        Ok(enrolment) => Finding::fine(
            "enrolment",
            format!(
                "terminal {}, with {}",
                enrolment.identity.terminal_id(),
                enrolment.institution
            ),
        ),
        // That a certificate has run out is said of the certificates.
        Err(ServiceError::Enrolment(
            EnrolmentError::Expired { .. } | EnrolmentError::NotYetValid { .. },
        )) if everything => Finding::fine("enrolment", "there is one"),
        Err(error) => Finding::fault("enrolment", error),
    });
    if everything {
        findings.push(certificates(&enrolment, wall_clock()));
    }
    findings.push(journal(configuration, extent, is_owner).await);
    let status = if everything { Some(status(configuration).await) } else { None };
    let served = status.as_ref().and_then(|(_, status)| status.as_ref());
    findings.extend(radio(configuration, extent, served).await);
    findings.extend(institution(configuration, &enrolment, extent).await);
    findings.extend(status.map(|(finding, _)| finding));
    findings
}

fn certificates(enrolment: &Result<Enrolment, ServiceError>, now: UnixTime) -> Finding {
    let check = "certificates";
    let enrolment = match enrolment {
        Ok(enrolment) => enrolment,
        Err(
            error @ ServiceError::Enrolment(
                EnrolmentError::Expired { .. } | EnrolmentError::NotYetValid { .. },
            ),
        ) => return Finding::fault(check, error),
        Err(_) => return Finding::not_examined(check, "without an enrolment there are none"),
    };
    let periods = match enrolment.certificates() {
        Ok(periods) => periods,
        Err(problem) => return Finding::wrong(check, problem, ServiceExit::NotEnrolled),
    };
    let days = |seconds: u64| seconds / 86_400;
    let lines: Vec<String> = periods
        .iter()
        .map(|(what, from, until)| {
            format!(
                "the {what} is {} days old and good until {until}",
                days(now.seconds.saturating_sub(from.seconds))
            )
        })
        .collect();
    let left_s =
        periods.iter().map(|(_, _, until)| until.seconds.saturating_sub(now.seconds)).min();
    let left_s = left_s.unwrap_or_default();
    let detail = lines.join("; ");
    if left_s < EXPIRY_WARNING_S {
        let left = days(left_s);
        Finding::advice(
            check,
            format!("{detail}: {left} days are left; enrol again: `florin enrol --replace`"),
        )
    } else {
        Finding::fine(check, detail)
    }
}

async fn journal(configuration: &Configuration, extent: Extent, is_owner: bool) -> Finding {
    let check = "journal";
    let path = configuration.journal();
    if !is_owner {
        return Finding::not_examined(
            check,
            "SQLite would leave files there that the service cannot use",
        );
    }
    if !path.exists() {
        return Finding::fine(check, format!("{} will be made", path.display()));
    }
    let looking = tokio::task::spawn_blocking(move || {
        let journal = SqliteJournal::open_to_read(&path)?;
        if extent == Extent::Everything {
            journal.check_content()?;
        }
        Ok(path)
    });
    match looking.await {
        Ok(Ok(path)) if extent == Extent::Everything => {
            Finding::fine(check, format!("{}, every page of it", path.display()))
        }
        Ok(Ok(path)) => Finding::fine(check, path.display().to_string()),
        Ok(Err(error @ SqliteJournalError::Older { .. })) => {
            Finding::fine(check, error.to_string())
        }
        Ok(Err(error)) => Finding::fault(check, &ServiceError::from(error)),
        Err(error) => Finding::wrong(check, error.to_string(), ServiceExit::Other),
    }
}

/// The adapter; and of everything, BlueZ's version and settings, and whether it takes a GATT
/// service.
async fn radio(
    configuration: &Configuration,
    extent: Extent,
    served: Option<&StatusJson>,
) -> Vec<Finding> {
    let adapter = configuration.adapter.as_deref();
    let time_limit = Duration::from_secs(RADIO_TIMEOUT_S);
    let silent = |check| {
        let detail = format!(
            "BlueZ or D-Bus did not answer within {RADIO_TIMEOUT_S} s; `systemctl restart bluetooth`"
        );
        Finding::wrong(check, detail, ServiceExit::BlueZNotRunning)
    };
    let everything = extent == Extent::Everything;
    let examined = match timeout(time_limit, examine_radio(adapter)).await {
        Ok(Ok(examined)) => Ok(examined),
        Ok(Err(fault)) => Err(Finding::fault("bluetooth", &fault.into())),
        Err(_) => Err(silent("bluetooth")),
    };
    let version = examined.as_ref().ok().and_then(|examined| examined.bluez_version);
    let is_reached = examined.is_ok();
    let is_registered = examined.as_ref().is_ok_and(|examined| examined.is_registered);
    let mut findings = vec![
        examined
            .map_or_else(|wrong| wrong, |examined| adapter_finding(&examined, served.is_some())),
    ];
    if !everything {
        return findings;
    }
    findings.push(if is_reached {
        bluez_version(version)
    } else {
        Finding::not_examined("bluez_version", "BlueZ or the adapter is not there to be asked")
    });
    findings.push(bluez_settings::examine(version));
    findings.push(if !is_reached {
        Finding::not_examined("bus_policy", "BlueZ or the adapter is not there to be asked")
    } else if is_registered {
        Finding::fine("bus_policy", "a terminal is registered with BlueZ")
    } else {
        // So no phone is served over BlueZ that would see it.
        match timeout(time_limit, probe_registration(adapter)).await {
            Ok(Ok(())) => may_register(served),
            Ok(Err(fault)) => Finding::fault("bus_policy", &fault.into()),
            Err(_) => silent("bus_policy"),
        }
    });
    findings
}

/// This user may register with BlueZ, and the service, if one runs, has not.
fn may_register(served: Option<&StatusJson>) -> Finding {
    let check = "bus_policy";
    match served {
        None => Finding::fine(check, "this user can register with BlueZ"),
        Some(StatusJson { reason: None, .. }) => Finding::fine(
            check,
            "this user can register with BlueZ; the service that runs does without (`serve --air`)",
        ),
        Some(StatusJson { reason: Some(reason), .. }) => Finding::advice(
            check,
            format!(
                "this user can register with BlueZ, the service that runs has not, and is out of service: {reason}. Ask \
                 again as the service's user: `sudo -u florin florin doctor`"
            ),
        ),
    }
}

fn adapter_finding(examined: &RadioExamination, is_served: bool) -> Finding {
    let check = "bluetooth";
    let RadioExamination { adapter, address, advertisements_free, .. } = examined;
    if *advertisements_free == 0 && !is_served {
        return Finding::advice(
            check,
            format!(
                "{adapter} ({address}) has no advertisement left: other programs use them all; end those, or use \
                 another adapter"
            ),
        );
    }
    Finding::fine(check, format!("{adapter} ({address})"))
}

fn bluez_version(version: Option<(u8, u8)>) -> Finding {
    let check = "bluez_version";
    match version {
        None => Finding::advice(
            check,
            "BlueZ does not say: is DeviceID set in /etc/bluetooth/main.conf? Take it out; Florin goes by the version",
        ),
        Some((major, minor)) if (major, minor) < BLUEZ_TRIED_SINCE => Finding::advice(
            check,
            format!(
                "{major}.{minor}, which Florin was never tried with; {}.{} or later is better",
                BLUEZ_TRIED_SINCE.0, BLUEZ_TRIED_SINCE.1
            ),
        ),
        Some((major, minor)) => Finding::fine(check, format!("{major}.{minor}")),
    }
}

/// Whether the institution is reached; and of everything, how its clock compares with ours.
async fn institution(
    configuration: &Configuration,
    enrolment: &Result<Enrolment, ServiceError>,
    extent: Extent,
) -> Vec<Finding> {
    let check = "institution";
    let everything = extent == Extent::Everything;
    let Ok(enrolment) = enrolment else {
        return if everything {
            vec![Finding::not_examined(check, "without a good enrolment it would not be asked")]
        } else {
            Vec::new()
        };
    };
    let relay = match relay(configuration, enrolment) {
        Ok(relay) => relay,
        Err(error) => return vec![Finding::fault(check, &error)],
    };
    let mut unused = [0; 16];
    if let Err(error) = rand::rngs::OsRng.try_fill_bytes(&mut unused) {
        let error = ServiceError::System { what: "randomness", detail: error.to_string() };
        return vec![Finding::fault(check, &error)];
    }
    let examined = match relay.examine(TransactionId::from_random(unused)).await {
        Ok(examined) => examined,
        Err(error) => return vec![Finding::fault(check, &error.into())],
    };
    let address = configuration.institution.as_ref().unwrap_or(&enrolment.institution);
    let mut findings = vec![match &examined.refusal {
        None => Finding::fine(
            check,
            format!(
                "{address}: connected in {} ms, a question takes {} ms",
                examined.connect_ms, examined.round_trip_ms
            ),
        ),
        Some(refusal) => Finding::wrong(
            check,
            format!(
                "{address} is reached and does not answer this terminal ({refusal}); ask the institution whether it \
                 knows the terminal"
            ),
            ServiceExit::Institution,
        ),
    }];
    if everything {
        findings.push(time::against_institution(
            wall_clock(),
            examined.clock,
            examined.round_trip_ms,
        ));
    }
    findings
}

/// Whether a service runs, and what it says of itself.
async fn status(configuration: &Configuration) -> (Finding, Option<StatusJson>) {
    let check = "service";
    match TillClient::new(configuration.till_address.clone()).status().await {
        Ok(status) => {
            let finding = match &status.reason {
                None => Finding::fine(
                    check,
                    format!(
                        "version {} runs and is in service; {} payments are open",
                        status.version, status.open_payments
                    ),
                ),
                Some(reason) => Finding::wrong(
                    check,
                    format!("it runs, out of service: {reason}"),
                    ServiceExit::Other,
                ),
            };
            (finding, Some(status))
        }
        Err(TillClientError::Unreachable { address, detail }) => (
            Finding::advice(
                check,
                format!(
                    "none runs, or this user may not use {address} ({detail}); start it: `systemctl start florin`"
                ),
            ),
            None,
        ),
        Err(
            error @ (TillClientError::Lost(_)
            | TillClientError::Refused { .. }
            | TillClientError::Foreign { .. }),
        ) => (Finding::wrong(check, error.to_string(), ServiceExit::Till), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_looked_at_is_said_so_and_the_first_fault_decides() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = Configuration {
            state_directory: directory.path().join("state"),
            till_address: format!("unix:{}", directory.path().join("till.sock").display())
                .parse()
                .unwrap(),
            // No machine has it, so no radio is touched.
            adapter: Some("hci999".into()),
            ..Configuration::default()
        };
        let findings = examine(&configuration, Extent::Everything).await;
        let verdict =
            |check| findings.iter().find(|finding| finding.check == check).unwrap().verdict;
        assert_eq!(verdict("enrolment"), Verdict::Wrong);
        assert_eq!(verdict("certificates"), Verdict::NotExamined);
        assert_eq!(verdict("institution"), Verdict::NotExamined);
        assert_eq!(verdict("journal"), Verdict::Fine);
        assert_eq!(verdict("bluetooth"), Verdict::Wrong);
        assert_eq!(verdict("bus_policy"), Verdict::NotExamined);
        assert_eq!(verdict("service"), Verdict::Advice);
        assert_eq!(
            findings.iter().find_map(|finding| finding.exit),
            Some(ServiceExit::NotEnrolled)
        );
        assert!(!configuration.state_directory.exists(), "a doctor makes nothing");

        let of_service = examine(&configuration, Extent::Service).await;
        let checks: Vec<_> = of_service.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["enrolment", "journal", "bluetooth"]);
    }

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
