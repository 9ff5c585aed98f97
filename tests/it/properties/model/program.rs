//! Random programs. A seed determines the program, but not the interleaving of its callers.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use super::{
    history::{Call, Read},
    sequential::{Rules, Start},
};

/// Players that rob each other.
const ROBBERS: i32 = 6;
/// Players that signed up with or without a referral code. They can be robbed, too.
const SIGNUPS: i32 = 8;
const CALLERS: usize = 8;
const CALLS_EACH: usize = 45;

#[derive(Clone, Debug)]
pub struct Program {
    pub rules: Rules,
    /// With the ids that a fresh database gives them.
    pub cast: Vec<Start>,
    /// What each caller calls, one after the other.
    pub callers: Vec<Vec<Call>>,
}

impl Program {
    /// With `faults`, answers may get lost. The program then holds only calls whose effects can be
    /// told apart in the books.
    pub fn random(seed: u64, faults: bool) -> Self {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let rules = Rules {
            percentage: random.pick(&[1, 5, 5, 33, 100]),
            cap: random.pick(&[None, Some(100), Some(7)]),
            minimum: random.pick(&[0, 20, 20, 500]),
            cooldown: random.one_in(4),
            protected_after: random.pick(&[None, None, Some(3), Some(10)]),
        };
        let robbers = (1..=ROBBERS).map(|id| Start {
            id,
            points: random.pick(&[0, 1, 19, 20, 150, 1000, 5000, 100_000]),
            tokens: random.pick(&[0, 1, 3, 20]),
            referred_by: None,
        });
        let mut cast: Vec<Start> = robbers.collect();
        cast.extend((ROBBERS + 1..=ROBBERS + SIGNUPS).map(|id| Start {
            id,
            points: random.pick(&[0, 20, 300]),
            tokens: 0,
            referred_by: random.one_in(2).then(|| random.0.random_range(1..=ROBBERS)),
        }));
        let request_ids: Vec<Uuid> = (0..40)
            .map(|_| uuid::Builder::from_random_bytes(random.0.random()).into_uuid())
            .collect();
        let callers = (0..CALLERS)
            .map(|caller| {
                (0..CALLS_EACH)
                    .map(|_| random.call(caller, &request_ids, faults))
                    .collect()
            })
            .collect();
        Self {
            rules,
            cast,
            callers,
        }
    }
}

struct Random(StdRng);

impl Random {
    fn one_in(&mut self, times: u32) -> bool {
        self.0.random_range(0..times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.0.random_range(0..from.len())].clone()
    }

    fn robber(&mut self) -> i32 {
        self.0.random_range(1..=ROBBERS)
    }

    /// Mostly a player that other callers use, too; in one of twenty cases an unknown id.
    fn player(&mut self) -> i32 {
        match self.0.random_range(0..20) {
            0 => ROBBERS + SIGNUPS + 1,
            1..=6 => self.signup(),
            _ => self.robber(),
        }
    }

    fn signup(&mut self) -> i32 {
        self.0.random_range(ROBBERS + 1..=ROBBERS + SIGNUPS)
    }

    fn call(&mut self, caller: usize, request_ids: &[Uuid], faults: bool) -> Call {
        match self.0.random_range(0..100) {
            0..=34 => Call::Rob {
                attacker: if self.one_in(8) {
                    self.player()
                } else {
                    self.robber()
                },
                victim: self.player(),
                request_id: (faults || self.one_in(2)).then(|| self.pick(request_ids)),
            },
            35..=46 => Call::Award {
                referrer: if self.one_in(8) {
                    self.player()
                } else {
                    self.robber()
                },
                referred: if self.one_in(12) {
                    self.player()
                } else {
                    self.signup()
                },
            },
            47..=56 => Call::Adjust {
                user: self.player(),
                delta: self.pick(&[-3, -1, 1, 2, 5]),
                request_id: self.pick(request_ids),
            },
            // One caller marks the notifications of a player: two that marked the same ones at once
            // could not be told apart in the books.
            57..=62 if !faults => Call::Mark {
                user: i32::try_from(1 + caller).expect("a few"),
                up_to: if self.one_in(2) { i64::MAX } else { 0 },
                ids: Vec::new(),
            },
            63 => Call::Delete {
                user: self.player(),
            },
            _ => Call::Read(self.read(caller)),
        }
    }

    fn read(&mut self, caller: usize) -> Read {
        match self.0.random_range(0..11) {
            0 => Read::Balance(self.player()),
            1 => Read::Balances((0..3).map(|_| self.player()).collect()),
            2 => Read::Statement(self.player()),
            // Replaced by a heist that this caller knows.
            3 => Read::Heist(0),
            4 => Read::Heists(self.player()),
            5 => Read::Stats(self.player()),
            6 | 7 => Read::Eligibility {
                attacker: self.robber(),
                victims: vec![self.player(), self.player()],
            },
            8 => Read::Leaderboard,
            9 => Read::Notifications(i32::try_from(1 + caller).expect("a few")),
            _ => Read::UnreadCount(self.player()),
        }
    }
}
