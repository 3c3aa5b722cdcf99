//! End-to-end tests, oracles and the crate map.

mod classify;
mod crate_map;
mod daemon;
mod encoder;
mod index;
mod support;
mod xmore;
