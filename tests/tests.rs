//! End-to-end tests.
mod xmore;
