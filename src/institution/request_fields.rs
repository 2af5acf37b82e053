//! Fields of requests that several services read alike.

use tonic::Status;

use crate::domain::TransactionId;

/// A transaction id: 16 octets, a UUID of version 4.
pub(super) fn read_transaction_id(octets: &[u8]) -> Result<TransactionId, Status> {
    let refused = |detail: String| Status::invalid_argument(format!("transaction_id: {detail}"));
    let id = TransactionId::from_octets(octets)
        .map_err(|_| refused(format!("expected 16 octets, got {}", octets.len())))?;
    let is_version_4 = octets[6] >> 4 == 4 && octets[8] >> 6 == 0b10;
    is_version_4.then_some(id).ok_or_else(|| refused("expected a UUID of version 4".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_is_a_uuid_of_version_4() {
        let good = TransactionId::from_random([7; 16]);
        assert_eq!(read_transaction_id(good.as_octets()).unwrap(), good);
        let other_version = |octet: usize, value| {
            let mut octets = *good.as_octets();
            octets[octet] = value;
            octets.to_vec()
        };
        for (bad, words) in [
            (vec![7; 15], "got 15"),
            (vec![7; 17], "got 17"),
            (vec![], "got 0"),
            (other_version(6, 0x17), "version 4"),
            (other_version(6, 0x77), "version 4"),
            (other_version(8, 0xc0), "version 4"),
            (other_version(8, 0x07), "version 4"),
        ] {
            let status = read_transaction_id(&bad).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(words), "{bad:?}: {status}");
        }
    }
}
