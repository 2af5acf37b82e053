//! The institution: whether it can be reached and answers, and how its clock compares with ours.

use super::super::clock::wall_clock;
use super::super::randomness::random_octets;
use super::super::{Configuration, Enrolment, ServiceError, ServiceExit};
use super::{Extent, Finding, time};
use crate::domain::TransactionId;
use crate::relay::Relay;

const CHECK: &str = "institution";

/// Asks over the relay that `connect` makes for the enrolment.
pub(super) async fn examine<R: Relay>(
    configuration: &Configuration,
    connect: impl FnOnce(&Configuration, &Enrolment) -> Result<R, ServiceError>,
    enrolment: &Result<Enrolment, ServiceError>,
    extent: Extent,
) -> Vec<Finding> {
    let everything = extent == Extent::Everything;
    let Ok(enrolment) = enrolment else {
        return if everything {
            let detail = "without a valid enrolment the institution cannot be asked";
            vec![Finding::not_examined(CHECK, detail)]
        } else {
            Vec::new()
        };
    };
    let asked = async {
        let relay = connect(configuration, enrolment)?;
        let unused = TransactionId::from_random(random_octets()?);
        let examined = relay.examine(unused).await?;
        Ok((relay.address(), examined))
    };
    let (address, examined) = match asked.await {
        Ok(asked) => asked,
        Err(error) => return vec![Finding::fault(CHECK, &error)],
    };
    let mut findings = vec![match &examined.refusal {
        None => Finding::fine(
            CHECK,
            format!(
                "connected to {address} in {} ms; a question takes {} ms",
                examined.connect_ms, examined.round_trip_ms
            ),
        ),
        Some(refusal) => Finding::wrong(
            CHECK,
            format!("{address} can be reached, but nobody can pay: {refusal}"),
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
