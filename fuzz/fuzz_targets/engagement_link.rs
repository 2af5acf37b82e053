//! What a QR code says, or a name on the air: any text.

#![no_main]

use florin::domain::{Amount, TerminalId, TransactionId};
use florin::protocol::{AdvertisedName, EngagementLink, advertised_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(link) = text.parse::<EngagementLink>() {
        let printed = link.to_string();
        assert_eq!(printed.parse::<EngagementLink>().as_ref(), Ok(&link), "{printed}");
        assert!(printed.len() <= 128, "too long to be read again");
        // Letters come in any case, with blanks around; else there is one way to write a link
        // without a transaction.
        let is_sticker = link.transaction_id.is_none();
        assert!(!is_sticker || printed == text.trim().to_ascii_uppercase(), "{text} is {printed}");
    }
    if let Ok(id) = text.parse::<TerminalId>() {
        assert_eq!(id.to_string().parse().as_ref(), Ok(&id));
        for is_out_of_service in [false, true] {
            let name = advertised_name(&id, is_out_of_service);
            let read = AdvertisedName { short_code: id.short_code(), is_out_of_service };
            assert_eq!(AdvertisedName::read(&name), Some(read));
        }
    }
    if let Ok(id) = text.parse::<TransactionId>() {
        assert_eq!(id.to_string().parse().as_ref(), Ok(&id));
    }
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(amount.to_string().parse().as_ref(), Ok(&amount));
        assert!(amount.minor() > 0);
    }
    if let Some(name) = AdvertisedName::read(text) {
        assert_eq!(name.short_code.len(), 4);
    }
});
