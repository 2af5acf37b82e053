//! x
mod port;
pub use port::{Answer as TillAnswer, TillCall, TillDriverEnd, TillPort, TillPortError, TillStatus};
