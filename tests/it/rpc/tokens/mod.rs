//! `TokenService`.

pub mod adjust_balance;
mod award_token;
mod batch_get_balances;
mod get_balance;
pub mod list_token_events;
