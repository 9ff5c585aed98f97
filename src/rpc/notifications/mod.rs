//! `heist.v1.NotificationService`: one file per method.

mod email_preference;
mod get_preferences;
mod get_unread_count;
mod list_notifications;
mod mark_notifications_read;
mod stream_notifications;
mod update_preferences;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    pb::{self, notification_service_server::NotificationService},
    rpc::{Api, stream::Items},
};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl NotificationService for Api {
    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Answer<pb::ListNotificationsResponse> {
        list_notifications::handle(self, request).await
    }

    async fn get_unread_count(
        &self,
        request: Request<pb::GetUnreadCountRequest>,
    ) -> Answer<pb::GetUnreadCountResponse> {
        get_unread_count::handle(self, request).await
    }

    async fn mark_notifications_read(
        &self,
        request: Request<pb::MarkNotificationsReadRequest>,
    ) -> Answer<pb::MarkNotificationsReadResponse> {
        mark_notifications_read::handle(self, request).await
    }

    async fn get_preferences(
        &self,
        request: Request<pb::GetPreferencesRequest>,
    ) -> Answer<pb::GetPreferencesResponse> {
        get_preferences::handle(self, request).await
    }

    async fn update_preferences(
        &self,
        request: Request<pb::UpdatePreferencesRequest>,
    ) -> Answer<pb::UpdatePreferencesResponse> {
        update_preferences::handle(self, request).await
    }

    type StreamNotificationsStream = Items<pb::StreamNotificationsResponse>;

    async fn stream_notifications(
        &self,
        request: Request<pb::StreamNotificationsRequest>,
    ) -> Answer<Self::StreamNotificationsStream> {
        stream_notifications::handle(self, request).await
    }
}
