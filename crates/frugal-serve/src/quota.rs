//! How much of its allowance each key has used.
