//! The caption index: build, open, search.
