//! Counts with their nouns, for people: `1 payment`, `2 payments`.

/// The count, and the noun or words that go with it.
pub fn counted(count: u64, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        assert_eq!(counted(0, "payment is open", "payments are open"), "0 payments are open");
        assert_eq!(counted(1, "payment is open", "payments are open"), "1 payment is open");
        assert_eq!(counted(2, "payment is open", "payments are open"), "2 payments are open");
    }
}
