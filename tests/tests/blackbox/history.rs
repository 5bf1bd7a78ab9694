//! Histories of many clients through all nodes under kills and pauses, checked for linearizability and the contract.
