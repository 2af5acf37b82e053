//! x
use crate::terminal::{InstitutionAnswer, InstitutionRequest};
use std::time::Duration;
/// x
pub trait Relay: Send + Sync + 'static {
    /// x
    fn ask(
        &self,
        request: InstitutionRequest,
        timeout: Duration,
    ) -> impl Future<Output = InstitutionAnswer> + Send;
}
