//! The server as a whole: it puts the parts together, listens, and takes them apart again.

mod assembly;
mod connection;
mod connection_slots;
mod connections;
mod health;
mod limited_connection;
mod listener;
mod options;
mod shutdown;
mod tls;

pub use self::{
    assembly::Server,
    options::{Options, ServerError},
    tls::TlsOptions,
};
