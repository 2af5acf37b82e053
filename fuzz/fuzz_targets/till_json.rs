//! The bodies that a till sends, and its idempotency key: any octets are a payment in its ranges,
//! or a problem that says what is wrong.

#![no_main]

use florin::till::{Problem, read_cancel, read_complete, read_create, read_idempotency_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    match read_create(octets, None) {
        Ok(payment) => {
            assert!((1..=999_999_999_999).contains(&payment.amount.minor()));
            assert!(is_line(&payment.reference) && payment.items.len() <= 32);
            assert!(payment.valid_for_s.is_none_or(|seconds| (1..=3600).contains(&seconds)));
            for item in &payment.items {
                assert!(
                    !item.name.is_empty()
                        && is_line(&item.name)
                        && (1..=10_000).contains(&item.quantity)
                );
            }
        }
        Err(problem) => explains(&problem),
    }
    for problem in [read_complete(octets).err(), read_cancel(octets).err()].into_iter().flatten() {
        explains(&problem);
    }
    if let Ok(text) = std::str::from_utf8(octets) {
        match read_idempotency_key(text) {
            Ok(key) => {
                assert!(
                    (1..=64).contains(&text.len())
                        && text.bytes().all(|octet| octet.is_ascii_graphic())
                        && key.as_str() == text
                )
            }
            Err(problem) => explains(&problem),
        }
    }
});

fn is_line(text: &str) -> bool {
    florin::domain::check_displayed_text(text, 0..=64).is_ok()
}

/// A problem is a short JSON object with what RFC 9457 wants in it.
fn explains(problem: &Problem) {
    let json = serde_json::to_value(problem).expect("a problem is JSON");
    let text = |name: &str| json[name].as_str().unwrap_or_default().len();
    assert!(text("type") > 0 && text("title") > 0 && text("detail") > 0, "{json}");
    assert!(json["status"].as_u64().is_some_and(|status| (400..500).contains(&status)), "{json}");
    assert!(json.to_string().len() < 4096, "a problem longer than it is worth: {json}");
}
