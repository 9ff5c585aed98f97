//! E-mail to players: delivery, answers of providers, preferences, and `heist emails`.

mod answers;
mod command;
mod emails;
mod faults;
mod kills;
mod names;
mod preferences;
mod queue;
mod smtp;
mod templates;
