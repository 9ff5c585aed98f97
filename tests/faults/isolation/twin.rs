//! A second server on the same database, which the fault does not touch.
//!
//! Its callers use other players and make the same calls at the same time. The success of its
//! callers shows how much faster or slower the machine and the database became during the fault.

use std::time::Instant;

use super::{
    arena::{Arena, PLAYERS, Running},
    load::{Call, Group, Load, Players, Samples},
};

/// The players of the server that the fault touches, and of its twin.
pub const FAULTED: Players = 1..=PLAYERS / 2;
const TWINS: Players = PLAYERS / 2 + 1..=PLAYERS;

pub struct Twin {
    running: Running,
    load: Load,
}

impl Twin {
    /// Starts a server and the calls of these groups, with the players of the twin.
    pub async fn start(arena: &Arena, groups: &[Group]) -> anyhow::Result<Self> {
        let running = arena.serve(&arena.url()).await?;
        let groups: Vec<Group> = groups.iter().map(with_own_players).collect();
        let load = Load::start(running.address(), &groups);
        Ok(Self { running, load })
    }

    pub async fn stop(self) -> anyhow::Result<Samples> {
        let samples = self.load.stop().await?;
        self.running.stop().await?;
        Ok(samples)
    }
}

fn with_own_players(group: &Group) -> Group {
    let call = match &group.call {
        Call::Heist { .. } => Call::Heist {
            attackers: TWINS,
            victims: TWINS,
        },
        Call::Balance(_) => Call::Balance(TWINS),
        Call::MarkRead(_) => Call::MarkRead(TWINS),
        Call::Board(_) => Call::Board(TWINS),
    };
    Group {
        call,
        avoids_failures: false,
        ..group.clone()
    }
}

/// The success of a group in an interval, relative to its success in the interval before, and to
/// the same ratio of the twin's callers.
pub fn success_ratio(
    [samples, twins]: [&Samples; 2],
    group: &str,
    before: [Instant; 2],
    during: [Instant; 2],
) -> f64 {
    let change = |samples: &Samples| {
        let rate = |[from, to]: [Instant; 2]| samples.rate(group, from, to);
        rate(during) / rate(before)
    };
    change(samples) / change(twins)
}
