//! The error of a write that another program changed.

/// The error of a write whose effect differs from the decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{table}\" {difference}: a trigger, rule or row-level security policy of the application has changed this write"
)]
pub struct Interference {
    table: &'static str,
    difference: String,
}

impl Interference {
    pub(in crate::store) fn new(table: &'static str, difference: impl Into<String>) -> Self {
        Self {
            table,
            difference: difference.into(),
        }
    }

    /// The table whose rows differ from the decision.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.table
    }
}
