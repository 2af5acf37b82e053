//! What the doctor examines, in the order in which the service needs it.

use std::path::Path;

use super::super::clock::wall_clock;
use super::super::enrolment::moved_machine;
use super::super::{Configuration, Enrolment, EnrolmentError, ServiceError, ServiceExit};
use super::{Extent, Finding};
use super::{certificates, institution, journal, radio, running_service, storage, time};
use crate::relay::Relay;

/// Examines what the service needs; the institution over the relay that `connect` makes for the
/// enrolment.
pub async fn examine<R: Relay>(
    configuration: &Configuration,
    connect: impl FnOnce(&Configuration, &Enrolment) -> Result<R, ServiceError>,
    extent: Extent,
) -> Vec<Finding> {
    let everything = extent == Extent::Everything;
    let mut findings = Vec::new();
    let mut is_owner = true;
    if everything {
        let files = storage::files(&configuration.state_directory);
        is_owner = files.is_owner;
        findings.push(files.finding);
        findings.push(storage::disk(
            &configuration.state_directory,
            configuration.allows_volatile_state,
        ));
        findings.push(time::clock(wall_clock()).await);
    }
    let enrolment =
        Enrolment::load(&configuration.state_directory, wall_clock()).map_err(ServiceError::from);
    findings.push(enrolment_finding(&enrolment, extent));
    if everything {
        findings.push(machine_finding(&configuration.state_directory, &enrolment));
        findings.push(certificates::examine(&enrolment, wall_clock()));
    }
    findings.push(journal::examine(configuration, extent, is_owner).await);
    let status =
        if everything { Some(running_service::examine(configuration).await) } else { None };
    let served = status.as_ref().and_then(|(_, status)| status.as_ref());
    findings.extend(radio::examine(configuration, extent, served).await);
    findings.extend(institution::examine(configuration, connect, &enrolment, extent).await);
    findings.extend(status.map(|(finding, _)| finding));
    findings
}

/// Whether the disk is still in the machine on which the terminal was enrolled.
fn machine_finding(state_directory: &Path, enrolment: &Result<Enrolment, ServiceError>) -> Finding {
    let check = "machine";
    if matches!(enrolment, Err(ServiceError::Enrolment(EnrolmentError::NotEnrolled(_)))) {
        return Finding::not_examined(
            check,
            "without an enrolment it is not known which it should be",
        );
    }
    match moved_machine(state_directory) {
        Some(moved) => Finding::wrong(check, moved, ServiceExit::NotEnrolled),
        None => Finding::fine(check, "it is not another one than at the enrolment"),
    }
}

fn enrolment_finding(enrolment: &Result<Enrolment, ServiceError>, extent: Extent) -> Finding {
    let check = "enrolment";
    match enrolment {
        Ok(enrolment) => Finding::fine(
            check,
            format!(
                "terminal {}, enrolled with {}",
                enrolment.identity.terminal_id(),
                enrolment.institution
            ),
        ),
        // That a certificate has expired is said of the certificates.
        Err(error) if extent == Extent::Everything && certificates::is_out_of_period(error) => {
            Finding::fine(check, "there is one")
        }
        Err(error) => Finding::fault(check, error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::grpc_relay;
    use super::super::Verdict;
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
        let findings = examine(&configuration, grpc_relay, Extent::Everything).await;
        let verdict =
            |check| findings.iter().find(|finding| finding.check == check).unwrap().verdict;
        assert_eq!(verdict("enrolment"), Verdict::Wrong);
        assert_eq!(verdict("machine"), Verdict::NotExamined);
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

        let of_service = examine(&configuration, grpc_relay, Extent::Service).await;
        let checks: Vec<_> = of_service.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["enrolment", "journal", "bluetooth"]);
    }
}
