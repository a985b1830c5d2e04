//! API keys: salted hashes in the database, what each may do.
