//! TOML to a checked configuration.
