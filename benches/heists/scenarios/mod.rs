//! The measurements, one file each. A scenario starts the servers it needs, adds its rows and bars
//! to the report, and leaves no process running.

mod awards;
mod callers;
mod costs;
mod hot;
mod leaderboard;
mod mixed;
mod reads;
mod single;
mod soak;
mod uniform;
mod year;

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    bench::Bench,
    options::{Options, Scenario},
};

/// Runs the scenarios that the options include.
pub async fn run(bench: &mut Bench<'_>, options: &Options) -> anyhow::Result<()> {
    if options.includes(Scenario::Uniform) {
        uniform::run(bench).await.context("uniform")?;
    }
    if options.includes(Scenario::Hot) {
        hot::run(bench).await.context("hot")?;
    }
    if options.includes(Scenario::Single) {
        single::run(bench).await.context("single")?;
    }
    if options.includes(Scenario::Mixed) {
        mixed::run(bench).await.context("mixed")?;
    }
    if options.includes(Scenario::Reads) {
        reads::run(bench).await.context("reads")?;
    }
    if options.includes(Scenario::Leaderboard) {
        leaderboard::run(bench).await.context("leaderboard")?;
    }
    if options.includes(Scenario::Awards) {
        awards::run(bench).await.context("awards")?;
    }
    if options.includes(Scenario::Year) {
        year::run(bench).await.context("year")?;
    }
    if options.includes(Scenario::Costs) {
        costs::run(bench).await.context("costs")?;
    }
    if options.includes(Scenario::Callers) {
        callers::run(bench).await.context("callers")?;
    }
    if options.includes(Scenario::Soak) {
        let length = Duration::from_mins(options.soak_minutes);
        soak::run(bench, length).await.context("soak")?;
    }
    Ok(())
}
