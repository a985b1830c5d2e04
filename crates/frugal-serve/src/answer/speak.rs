//! From token ids to what is said.
