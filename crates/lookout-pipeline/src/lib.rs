//! Stages, latest-wins slots, supervision, counters.
