//! Open payments that this terminal did not begin: only who began them can settle them, with the
//! institution that holds the money. Another terminal would ask about them in vain, be told that
//! there are no such payments, and take them for given back.

use crate::domain::TerminalId;
use crate::protocol::decode_offer;
use crate::terminal::Payment;

/// The terminal that began one of these payments, if that is another.
pub(super) fn begun_by_another(open: &[Payment], terminal_id: TerminalId) -> Option<TerminalId> {
    // Every offer that was ever journalled decodes; one that did not would say nothing of who made
    // it.
    let begun_by = open.iter().filter_map(|payment| decode_offer(&payment.offer).ok());
    begun_by.map(|offer| offer.terminal_id()).find(|begun_by| *begun_by != terminal_id)
}
