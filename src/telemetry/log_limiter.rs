//! Limits how often one kind of line is logged.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Lines of one kind in one window.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Permits ten lines a second, and counts the suppressed ones.
pub struct LogLimiter(Mutex<Window>);

struct Window {
    begun: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimiter {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Window {
            begun: None,
            lines: 0,
            suppressed: 0,
        }))
    }

    /// The number of lines suppressed since the last permitted one, if a line may be logged `now`;
    /// `None` if it may not.
    pub fn permit(&self, now: Instant) -> Option<u64> {
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

impl Default for LogLimiter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_ten_lines_a_second_and_reports_the_suppressed_ones() {
        let limiter = LogLimiter::new();
        let begun = Instant::now();
        for _ in 0..LINES {
            assert_eq!(limiter.permit(begun), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(limiter.permit(begun + WINDOW / 2), None);
        }
        assert_eq!(limiter.permit(begun + WINDOW), Some(3));
        assert_eq!(limiter.permit(begun + WINDOW), Some(0));
    }
}
