//! Keeps a copy of the top 50 of the leaderboard, correct within moments, and prints each change.
//!
//! ```sh
//! cargo run --example leaderboard_cache
//! cargo run --example leaderboard_cache -- http://127.0.0.1:50051
//! ```
//!
//! How it stays correct:
//!
//! - `WatchPoints` begins with `resync`. From then on no change is missed: load the board with
//!   `GetLeaderboard`. The server sends `resync` again whenever changes may be missing.
//! - A change carries the points after a heist. Apply it to a player unless a change with a higher
//!   `heist_id` was applied before: changes may overtake each other.
//! - If a change does not suffice (a player enters or leaves the board), load.
//! - Load once more a few seconds after a `resync`. A change that is older than the loaded board
//!   may still be on its way from another replica; by then it has arrived, and is corrected.
//! - Load every minute in any case: the stream does not report points that the application itself
//!   gives.

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
/// The time after a `resync` by which all older changes have arrived.
const SETTLED: Duration = Duration::from_secs(3);
/// The longest time for which points that are not from heists may be missing.
const LOAD_AT_LEAST_EVERY: Duration = Duration::from_mins(1);
/// The time limit of a load.
const DEADLINE: Duration = Duration::from_secs(2);
/// Upper bound of the random pause between attempts to watch. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

struct Cache {
    client: HeistServiceClient<Channel>,
    board: Board,
    next_load: Instant,
}

impl Cache {
    /// Connects on first use.
    fn new(address: String) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(address)?
            .connect_timeout(Duration::from_secs(1))
            // A server that vanished does not even close the connection.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Ok(Self {
            client: HeistServiceClient::new(channel),
            board: Board::new(PLACES.into()),
            next_load: Instant::now(),
        })
    }

    /// Keeps the copy correct, and opens the stream again whenever it ends. Never returns.
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let watched = Instant::now();
            let Err(status) = self.watch().await;
            eprintln!("The stream has ended: {status}");
            // A stream that worked for a while is opened again without a long pause.
            failures = if watched.elapsed() > LONGEST_PAUSE {
                0
            } else {
                failures + 1
            };
            let longest = (FIRST_PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST_PAUSE);
            sleep(longest.mul_f64(rand::random())).await;
        }
    }

    /// Keeps the copy correct until the stream ends.
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
