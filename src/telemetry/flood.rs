//! Keeps a fault that everybody runs into from drowning the log.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lines of one kind in one window.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Lets ten lines a second through, and counts the others.
pub struct Flood(Mutex<Window>);

struct Window {
    begun: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Flood {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Window {
            begun: None,
            lines: 0,
            suppressed: 0,
        }))
    }

    /// Whether a line may be written `now`: if so, how many before it were not.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = (window.begun).is_none_or(|begun| now.duration_since(begun) >= WINDOW);
        if is_over {
            window.begun = Some(now);
            window.lines = 0;
        }
        if window.lines == LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_pass_and_the_next_one_tells_how_many_did_not() {
        let flood = Flood::new();
        let begun = Instant::now();
        for _ in 0..LINES {
            assert_eq!(flood.admit(begun), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(flood.admit(begun + WINDOW / 2), None);
        }
        assert_eq!(flood.admit(begun + WINDOW), Some(3));
        assert_eq!(flood.admit(begun + WINDOW), Some(0));
    }
}
