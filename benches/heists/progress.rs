//! Progress lines on stderr. The table goes to stdout, at the end.

use std::{fmt::Display, sync::LazyLock, time::Instant};

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The first call starts the clock.
pub fn say(what: impl Display) {
    eprintln!("{:>6.1} s  {what}", BEGUN.elapsed().as_secs_f64());
}
