//! Every request of the REST API, with good and bad input.
