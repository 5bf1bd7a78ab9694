//! The encoding of a proposal: a version byte, then postcard. Made once at ingress; the same bytes go to the log, the
//! followers and apply. The log's record around it has the checksum.

use bytes::Bytes;

use crate::domain::Proposal;

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u8 = 1;

/// Why bytes are not a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// A newer version wrote it.
    #[error("proposal format {found} is newer than {FORMAT}, the newest this build reads")]
    NewerFormat {
        /// The format found.
        found: u8,
    },
    /// The bytes do not decode, or bytes are left over.
    #[error("it does not decode as format {FORMAT}")]
    Malformed,
}

impl Proposal {
    /// The bytes of this proposal.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![FORMAT]).expect("a proposal holds only plain data");
        Bytes::from(bytes)
    }

    /// The proposal of these bytes.
    ///
    /// # Errors
    /// [`ProposalError`] when the bytes are of a newer format or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProposalError> {
        let (format, body) = bytes.split_first().ok_or(ProposalError::Empty)?;
        if *format != FORMAT {
            return Err(ProposalError::NewerFormat { found: *format });
        }
        let (proposal, rest) = postcard::take_from_bytes(body).map_err(|_| ProposalError::Malformed)?;
        if rest.is_empty() { Ok(proposal) } else { Err(ProposalError::Malformed) }
    }
}
