//! Parses the fields of a request into checked types. Violations are collected, so that one answer
//! names every wrong field, up to ten.

use tonic::Status;
use tonic_types::FieldViolation;
use uuid::Uuid;

use super::status;
use crate::domain::ids::{HeistId, NotificationId, RequestId, UserId};

/// Maximum number of players in one batch call.
pub(super) const MAX_BATCH: usize = 200;

/// Maximum number of violations in one answer. A status travels in HTTP headers, and many clients
/// accept 8 KiB of them: a longer status would fail the connection with all its calls.
const MAX_VIOLATIONS: usize = 10;

/// The violations found so far. A field that does not parse yields a placeholder, which is not used
/// because [`Fields::check`] fails.
#[derive(Default)]
pub(super) struct Fields {
    violations: Vec<FieldViolation>,
}

impl Fields {
    pub(super) fn user_id(&mut self, field: &str, value: i32) -> UserId {
        UserId::new(value).unwrap_or_else(|_| {
            self.violate(field, "must be a player's id, which is positive");
            UserId::MIN
        })
    }

    /// 1 to `max` players, in the order of the request.
    pub(super) fn user_ids(&mut self, field: &str, values: &[i32], max: usize) -> Vec<UserId> {
        if values.is_empty() || values.len() > max {
            self.violate(field, format!("must be 1 to {max} players"));
            return Vec::new();
        }
        (values.iter().enumerate())
            .map(|(index, value)| self.user_id(&format!("{field}[{index}]"), *value))
            .collect()
    }

    pub(super) fn heist_id(&mut self, field: &str, value: i64) -> HeistId {
        HeistId::new(value).unwrap_or_else(|_| {
            self.violate(field, "must be a heist's id, which is positive");
            HeistId::MIN
        })
    }

    /// A UUID other than nil; `None` if the field is empty.
    pub(super) fn request_id(&mut self, field: &str, value: &str) -> Option<RequestId> {
        if value.is_empty() {
            return None;
        }
        match Uuid::try_parse(value) {
            // Clients that forget to fill in an id send the nil UUID, so different calls would
            // share it.
            Ok(uuid) if !uuid.is_nil() => Some(RequestId::new(uuid)),
            _ => {
                self.violate(field, "must be a UUID other than nil, or empty");
                None
            }
        }
    }

    /// A trimmed text without control characters; `None` if it is empty.
    pub(super) fn text(&mut self, field: &str, value: &str, max_chars: usize) -> Option<String> {
        let value = value.trim();
        if value.chars().count() > max_chars {
            self.violate(
                field,
                format!("must not be longer than {max_chars} characters"),
            );
        } else if value.chars().any(char::is_control) {
            self.violate(field, "must not contain control characters");
        }
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The number of entries of a page; 0 means `default`.
    pub(super) fn page_size(&mut self, value: i32, default: u16, max: u16) -> u16 {
        match u16::try_from(value) {
            Ok(0) => default,
            Ok(size) if size <= max => size,
            _ => {
                self.violate(
                    "page_size",
                    format!("must be from 1 to {max}, or 0 for {default}"),
                );
                default
            }
        }
    }

    pub(super) fn notification_id(&mut self, field: &str, value: i64) -> NotificationId {
        NotificationId::new(value).unwrap_or_else(|_| {
            self.violate(field, "must be a notification's id, which is positive");
            NotificationId::MIN
        })
    }

    /// A value that must be present; a missing value is a violation. A value that did not parse
    /// already has one.
    pub(super) fn required<T: Default>(&mut self, field: &str, value: Option<T>) -> T {
        if value.is_none() && !self.violations.iter().any(|it| it.field == field) {
            self.violate(field, "must not be empty");
        }
        value.unwrap_or_default()
    }

    pub(super) fn violate(&mut self, field: &str, description: impl Into<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations
                .push(FieldViolation::new(field, description.into()));
        }
    }

    /// Fails with `INVALID_REQUEST` if there are violations.
    pub(super) fn check(self) -> Result<(), Status> {
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(status::invalid_request(self.violations))
        }
    }
}
