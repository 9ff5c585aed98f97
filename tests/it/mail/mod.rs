//! E-mail to players: delivery, providers that fail, and `heist emails`.

mod command;
mod emails;
mod faults;
mod smtp;
