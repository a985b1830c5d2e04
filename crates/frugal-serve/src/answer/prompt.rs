//! From an Ask to token ids.
