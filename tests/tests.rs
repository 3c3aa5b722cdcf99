//! End-to-end tests, oracles and the crate map.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod calibrate;
mod classify;
mod crate_map;
mod daemon;
mod devices;
mod encoder;
mod eval;
mod get;
mod hostile;
mod hub;
mod import;
mod index;
mod labels;
mod reload;
mod replay;
mod restart;
mod sources;
mod suggest;
mod support;
mod teach;
mod xmore;
