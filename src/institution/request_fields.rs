//! Fields of requests that several services read alike.

use tonic::Status;

use crate::domain::TransactionId;

/// A transaction id: 16 octets, a UUID of version 4.
pub(super) fn read_transaction_id(octets: &[u8]) -> Result<TransactionId, Status> {
    TransactionId::from_octets(octets)
        .map_err(|error| Status::invalid_argument(format!("transaction_id: {error}")))
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
            (vec![7; 15], "15 octets"),
            (vec![7; 17], "17 octets"),
            (vec![], "0 octets"),
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
