//! A number with its noun, for sentences that people read.

/// Returns the count with the form of the noun that fits it: `1 payment`, `2 payments`.
pub fn counted(count: u64, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_every_other_count_plural() {
        for (count, text) in [(0, "0 payments"), (1, "1 payment"), (2, "2 payments")] {
            assert_eq!(counted(count, "payment", "payments"), text);
        }
    }
}
