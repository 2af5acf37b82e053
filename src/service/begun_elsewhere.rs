//! Open payments that another terminal began. Only that terminal can settle them, with the
//! institution that holds the money. Another terminal would be told that there are no such
//! payments, and would take them for given back.

use crate::domain::TerminalId;
use crate::protocol::decode_offer;
use crate::terminal::Payment;

/// The other terminal that began one of these payments; none if this terminal began them all.
pub(super) fn begun_by_another(open: &[Payment], terminal_id: TerminalId) -> Option<TerminalId> {
    // Every offer that was ever journalled decodes. One that did not would not say who made it.
    let begun_by = open.iter().filter_map(|payment| decode_offer(&payment.offer).ok());
    begun_by.map(|offer| offer.terminal_id()).find(|begun_by| *begun_by != terminal_id)
}
