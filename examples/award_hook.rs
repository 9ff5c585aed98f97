//! The hook of the signup flow for callers in Rust: awards the referrer of a new player a heist
//! token, without making the signup wait or fail.
//!
//! Try it against the demo players, where nobody has asked for the token of player 50 yet:
//!
//! ```sh
//! cargo run --example award_hook -- 1 50
//! cargo run --example award_hook -- 1 50 http://127.0.0.1:50051
//! ```
//!
//! In a signup, [`AwardHook::deliver`] runs in a task of its own, after the commit:
//!
//! ```ignore
//! let user = signup.commit().await?;          // the user and a row of the outbox
//! tokio::spawn(async move {
//!     match hook.deliver(award).await {
//!         Delivery::Awarded { .. } | Delivery::Refused { .. } => outbox.settle(award).await,
//!         Delivery::Postponed(status) => outbox.note(award, &status).await,
//!     }
//! });
//! answer(user)                                // without waiting for the task
//! ```
//!
//! The outbox is a table of the application, written in the signup's transaction, from which a
//! worker delivers again what was postponed: `examples/signup/outbox.sql`, and the worker in
//! `examples/signup/src/awards.ts`. Without it an award is lost with the process. Delivering one
//! twice is fine: `AwardToken` gives one token for one referred player.

use std::{process::ExitCode, time::Duration};

use heist::pb::{AwardTokenRequest, token_service_client::TokenServiceClient};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Error},
};
use tonic_types::StatusExt as _;

/// How long one delivery may take, with its retries. Nobody waits for it, but tasks must not
/// pile up while the service hangs.
const DEADLINE: Duration = Duration::from_secs(2);
/// The pause before the second attempt is random up to this, and doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 4;
/// What no repetition changes. Everything else may be put right by somebody: a switch, a
/// deployment, a key.
const FINAL_REASONS: [&str; 4] = [
    "SELF_REFERRAL",
    "USER_NOT_FOUND",
    "REFERRAL_MISMATCH",
    "REFERRAL_ALREADY_AWARDED",
];

/// Somebody signed up with somebody's code.
#[derive(Clone, Copy, Debug)]
struct Award {
    referrer_id: i32,
    referred_id: i32,
}

/// What became of one delivery.
#[derive(Debug)]
enum Delivery {
    /// The referrer has the token.
    Awarded {
        /// It was an earlier delivery that earned it.
        already: bool,
        balance: i32,
    },
    /// There is no token for this award, today or later. Record the reason; do not try again.
    Refused { reason: String },
    /// Nothing is decided. Leave it in the outbox and try again later.
    Postponed(Status),
}

/// Calls the heist service. Cheap to clone: clones share one connection.
#[derive(Clone)]
struct AwardHook {
    client: TokenServiceClient<Channel>,
}

impl AwardHook {
    /// Connects when it is first used, and again whenever the connection is lost, so that a
    /// signup service starts and runs without a heist service.
    fn new(address: String) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(address)?
            .connect_timeout(Duration::from_secs(1))
            // A host that vanished answers nothing, not even that the connection is closed.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Ok(Self {
            client: TokenServiceClient::new(channel),
        })
    }

    /// Delivers an award whose signup is committed. Takes no longer than [`DEADLINE`].
    async fn deliver(&self, award: Award) -> Delivery {
        let until = Instant::now() + DEADLINE;
        for attempt in 1.. {
            let status = match self.call(award, until).await {
                Ok((already, balance)) => return Delivery::Awarded { already, balance },
                Err(status) => status,
            };
            if let Some(reason) = final_reason(&status) {
                return Delivery::Refused { reason };
            }
            // UNAVAILABLE says that the service could not even try. Of the other codes a
            // repetition within the same second makes none better.
            let pause = pause_after(attempt);
            let again = status.code() == Code::Unavailable && attempt < ATTEMPTS;
            if !again || Instant::now() + pause >= until {
                return Delivery::Postponed(status);
            }
            sleep(pause).await;
        }
        unreachable!("the attempts are counted")
    }

    /// Whether the token had been awarded before, and the referrer's balance.
    async fn call(&self, award: Award, until: Instant) -> Result<(bool, i32), Status> {
        let mut request = Request::new(AwardTokenRequest {
            referrer_id: award.referrer_id,
            referred_id: award.referred_id,
            // The service takes the name on the account, which the signup has just made.
            referred_name: String::new(),
        });
        // Tells the service how long we wait; the time-out below also covers connecting.
        request.set_timeout(until - Instant::now());
        let mut client = self.client.clone();
        let response = timeout_at(until, client.award_token(request))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no answer in time"))??
            .into_inner();
        let balance = response.balance.map_or(0, |account| account.balance);
        Ok((response.already_awarded, balance))
    }
}

/// The reason of a refusal that stands.
fn final_reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    let ours = info.domain == "heist.v1" && FINAL_REASONS.contains(&info.reason.as_str());
    ours.then_some(info.reason)
}

/// Random, so that callers who failed together do not come back together.
fn pause_after(attempt: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.pow(attempt - 1)).mul_f64(rand::random())
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut player = || arguments.next()?.parse().ok();
    let (Some(referrer_id), Some(referred_id)) = (player(), player()) else {
        eprintln!("usage: award_hook REFERRER_ID REFERRED_ID [ADDRESS]");
        return ExitCode::from(2);
    };
    let address = arguments.next();
    let address = address.unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let hook = match AwardHook::new(address) {
        Ok(hook) => hook,
        Err(error) => {
            eprintln!("award_hook: {error}");
            return ExitCode::from(2);
        }
    };

    let award = Award {
        referrer_id,
        referred_id,
    };
    // The signup would answer now.
    let delivery = tokio::spawn(async move { hook.deliver(award).await });
    match delivery.await {
        Ok(Delivery::Awarded { already, balance }) => {
            let when = if already { "before" } else { "now" };
            println!("Player {referrer_id} earned the token {when}, and has {balance}.");
            ExitCode::SUCCESS
        }
        Ok(Delivery::Refused { reason }) => {
            println!("No token, for good: {reason}.");
            ExitCode::FAILURE
        }
        Ok(Delivery::Postponed(status)) => {
            println!("Later, from the outbox: {:?}.", status.code());
            ExitCode::FAILURE
        }
        Err(panic) => {
            eprintln!("award_hook: {panic}");
            ExitCode::FAILURE
        }
    }
}
