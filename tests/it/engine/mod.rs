//! Orders that are executed together and at the same time.

mod batches;
mod heist_races;
