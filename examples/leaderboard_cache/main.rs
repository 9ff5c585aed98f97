//! Keeps a copy of the top 50 of the leaderboard that is correct within moments, and prints it
//! whenever it changes.
//!
//! ```sh
//! cargo run --example leaderboard_cache
//! cargo run --example leaderboard_cache -- http://127.0.0.1:50051
//! ```
//!
//! How it stays correct:
//!
//! - `WatchPoints` begins with `resync`: load the board with `GetLeaderboard`, now that no later
//!   change can be missed. It says so again whenever it may have left something out.
//! - A change holds the points after a heist. Apply it to a player unless a change with a higher
//!   `heist_id` was applied before: changes may overtake each other.
//! - Where a change does not tell enough (somebody enters the board, or falls off), load.
//! - Load once more a few seconds after a `resync`. A change may be on its way from another replica
//!   at that moment that is older than what was loaded; after these seconds it has arrived, and is
//!   corrected.
//! - Load every minute in any case: heists are not all that moves points. What the application
//!   itself gives its players is not in the stream.

mod board;

use std::{process::ExitCode, time::Duration};

use heist::pb::{
    GetLeaderboardRequest, WatchPointsRequest, heist_service_client::HeistServiceClient,
};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Error},
};

use self::board::{Board, Effect};

const PLACES: u8 = 50;
/// After this nothing is on its way any more that is older than a `resync`.
const SETTLED: Duration = Duration::from_secs(3);
/// How long the board may differ by points that are not from heists.
const LOAD_AT_LEAST_EVERY: Duration = Duration::from_mins(1);
/// How long a load may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between attempts to watch: random up to this, and doubled with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

struct Cache {
    client: HeistServiceClient<Channel>,
    board: Board,
    next_load: Instant,
}

impl Cache {
    /// Connects when it is first used.
    fn new(address: String) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(address)?
            .connect_timeout(Duration::from_secs(1))
            // A server that vanished says nothing, not even that it is gone.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Ok(Self {
            client: HeistServiceClient::new(channel),
            board: Board::new(PLACES.into()),
            next_load: Instant::now(),
        })
    }

    /// Keeps the copy correct for ever, whatever happens to the stream.
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let watched = Instant::now();
            let Err(status) = self.watch().await;
            eprintln!("The stream has ended: {status}");
            // One that had worked for a while is tried again at once.
            failures = if watched.elapsed() > LONGEST_PAUSE {
                0
            } else {
                failures + 1
            };
            let longest = (FIRST_PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST_PAUSE);
            sleep(longest.mul_f64(rand::random())).await;
        }
    }

    /// Keeps the copy correct for as long as the stream lives.
    async fn watch(&mut self) -> Result<std::convert::Infallible, Status> {
        let stream = self.client.watch_points(WatchPointsRequest {}).await?;
        let mut messages = stream.into_inner();
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = sleep_until(self.next_load) => {
                    self.load().await?;
                    continue;
                }
            };
            let Some(message) = message else {
                return Err(Status::unavailable("the stream ended without a status"));
            };
            match self.board.apply(&message) {
                Effect::Nothing => {}
                Effect::Changed => self.print(),
                Effect::Reload => self.load().await?,
            }
            if message.resync {
                self.next_load = Instant::now() + SETTLED;
            }
        }
    }

    async fn load(&mut self) -> Result<(), Status> {
        let mut request = Request::new(GetLeaderboardRequest {
            page_size: PLACES.into(),
            ..GetLeaderboardRequest::default()
        });
        request.set_timeout(DEADLINE);
        let page = self.client.get_leaderboard(request).await?.into_inner();
        self.next_load = Instant::now() + LOAD_AT_LEAST_EVERY;
        if self.board.load(page.entries) {
            self.print();
        }
        Ok(())
    }

    fn print(&self) {
        println!("--");
        for (place, player) in (1..).zip(self.board.places()) {
            println!("{place:>3} {:>8} {}", player.monthly_points, player.name);
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    match Cache::new(address) {
        Ok(cache) => {
            cache.run().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("leaderboard_cache: {error}");
            ExitCode::from(2)
        }
    }
}
