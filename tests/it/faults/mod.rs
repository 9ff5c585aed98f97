//! Lost connections, lost commits, deleted players and hostile callers.

mod broken_connections;
mod deleted_players;
mod floods;
mod held_rows;
mod interference;
mod lost_commits;
mod silent_connections;
mod synchronous_standby;
