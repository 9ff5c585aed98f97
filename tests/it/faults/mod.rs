//! Lost connections, lost commits, deleted players and hostile callers.

mod broken_connections;
mod deleted_players;
mod floods;
mod interference;
mod lost_commits;
