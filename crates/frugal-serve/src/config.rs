//! The server's configuration: flags or one TOML file.
