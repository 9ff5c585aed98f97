//! What the preflight reports.

use std::fmt;

/// One problem, with its cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `false`: the service works, but the operator should know.
    pub is_error: bool,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// The findings so far.
#[derive(Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn error(&mut self, text: String) {
        self.0.push(Finding {
            is_error: true,
            text,
        });
    }

    pub(super) fn warn(&mut self, text: String) {
        self.0.push(Finding {
            is_error: false,
            text,
        });
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.0
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.is_error)
    }
}
