//! The hook of the signup flow for callers in Rust: awards a heist token to the referrer of a new
//! player. The signup neither waits for it nor fails with it.
//!
//! Try it against the demo players. The token for player 50 has not been awarded yet:
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
//! The outbox is a table of the application, written in the signup's transaction
//! (`examples/signup/outbox.sql`). A worker delivers postponed awards from it, as in
//! `examples/signup/src/awards.ts`. Without the outbox an award is lost when the process dies.
//! Delivering an award twice is harmless: `AwardToken` gives one token per referred player.

use std::{process::ExitCode, time::Duration};

use heist::pb::{AwardTokenRequest, token_service_client::TokenServiceClient};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Error},
};
use tonic_types::StatusExt as _;

/// The time limit of one delivery, retries included. The signup does not wait for it, but tasks
/// must not accumulate while the service hangs.
const DEADLINE: Duration = Duration::from_secs(2);
/// Upper bound of the random pause before the second attempt. It doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 4;
/// Refusals that no retry changes. All other errors may be repaired: by a switch, a deployment, a
/// key.
const FINAL_REASONS: [&str; 4] = [
    "SELF_REFERRAL",
    "USER_NOT_FOUND",
    "REFERRAL_MISMATCH",
    "REFERRAL_ALREADY_AWARDED",
];

/// A player signed up with a referrer's code.
#[derive(Clone, Copy, Debug)]
struct Award {
    referrer_id: i32,
    referred_id: i32,
}

/// The outcome of one delivery.
#[derive(Debug)]
enum Delivery {
    /// The referrer has the token.
    Awarded {
        /// An earlier delivery earned it.
        already: bool,
        balance: i32,
    },
    /// This award never earns a token. Record the reason; do not try again.
    Refused { reason: String },
    /// The outcome is open. Leave the award in the outbox and try again later.
    Postponed(Status),
}

/// Calls the heist service. Cheap to clone: clones share one connection.
#[derive(Clone)]
struct AwardHook {
    client: TokenServiceClient<Channel>,
}

impl AwardHook {
    /// Connects on first use, and again after the connection is lost, so that a signup service
    /// starts and runs without the heist service.
    fn new(address: String) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(address)?
            .connect_timeout(Duration::from_secs(1))
            // A host that vanished does not even close the connection.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Ok(Self {
            client: TokenServiceClient::new(channel),
        })
    }

    /// Delivers an award whose signup is committed. Takes [`DEADLINE`] at most.
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
            // UNAVAILABLE: the service did not process the call. Repeating other codes within the
            // same second does not help.
            let pause = pause_after(attempt);
            let again = status.code() == Code::Unavailable && attempt < ATTEMPTS;
            if !again || Instant::now() + pause >= until {
                return Delivery::Postponed(status);
            }
            sleep(pause).await;
        }
        unreachable!("the attempts are counted")
    }

    /// Returns whether the token had been awarded before, and the referrer's balance.
    async fn call(&self, award: Award, until: Instant) -> Result<(bool, i32), Status> {
        let mut request = Request::new(AwardTokenRequest {
            referrer_id: award.referrer_id,
            referred_id: award.referred_id,
            // Empty: the service uses the name on the account, which the signup has just created.
            referred_name: String::new(),
        });
        // Sends the deadline to the service; the time-out below also covers connecting.
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

/// The reason, if the refusal is final.
fn final_reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    let ours = info.domain == "heist.v1" && FINAL_REASONS.contains(&info.reason.as_str());
    ours.then_some(info.reason)
}

/// Random, so that callers that failed at the same time do not retry at the same time.
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
    // A signup would answer its client here.
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
