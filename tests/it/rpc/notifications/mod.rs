//! `NotificationService`.

mod list_notifications;
mod mark_notifications_read;
mod preferences;
mod stream_notifications;
