//! Proposals survive their encoding, and nothing else decodes as one.

use holdfast_core::domain::{Proposal, ProposalError};
use proptest::prelude::*;

use crate::cases::for_each_history;

#[test]
fn every_proposal_reads_back_from_its_bytes() {
    for_each_history(|_, log| {
        for (at, (_, proposal)) in log.iter().enumerate() {
            let bytes = proposal.encode();
            if Proposal::decode(&bytes).as_ref() != Ok(proposal) {
                return Err(format!("entry {at} reads back as {:?}", Proposal::decode(&bytes)));
            }
        }
        Ok(())
    });
}

#[test]
fn a_cut_or_longer_proposal_is_refused() {
    for_each_history(|_, log| {
        for (at, (_, proposal)) in log.iter().enumerate().step_by(37) {
            let bytes = proposal.encode();
            let cuts = (0..bytes.len()).step_by(1 + bytes.len() / 40);
            if let Some(cut) = cuts.clone().find(|cut| Proposal::decode(&bytes[..*cut]).is_ok()) {
                return Err(format!("entry {at} decodes from its first {cut} bytes"));
            }
            let longer = [&bytes[..], &[0]].concat();
            if Proposal::decode(&longer) != Err(ProposalError::Malformed) {
                return Err(format!("entry {at} decodes with a byte left over"));
            }
        }
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever decodes is what its own encoding decodes to, and nothing panics.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), body in any::<bool>()) {
        let bytes = if body { [&[1][..], &bytes].concat() } else { bytes };
        if let Ok(proposal) = Proposal::decode(&bytes) {
            prop_assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
        }
    }
}
