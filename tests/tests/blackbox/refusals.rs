//! What the process refuses: flags, configuration and data directories.
