//! `NotificationService`.

mod list_notifications;
mod mark_notifications_read;
mod stream_notifications;
