//! End-to-end tests.
mod crate_map;
mod encoder;
mod xmore;
