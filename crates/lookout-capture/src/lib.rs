//! Camera URIs to frames.
