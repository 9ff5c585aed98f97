//! Open streams beside the measured calls.

use heist::pb::{
    StreamNotificationsRequest, WatchPointsRequest, heist_service_client::HeistServiceClient,
    notification_service_client::NotificationServiceClient,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::server::Server;

/// Opens one stream of notifications per player and one stream of points per board. They are read
/// until the returned set is dropped.
pub async fn open(server: &Server, players: i32, boards: usize) -> anyhow::Result<JoinSet<()>> {
    let channel = Channel::from_shared(format!("http://{}", server.address))?
        .connect()
        .await?;
    let mut streams = JoinSet::new();
    for user_id in 1..=players {
        let request = StreamNotificationsRequest {
            user_id,
            after_id: 0,
        };
        let mut client = NotificationServiceClient::new(channel.clone());
        let mut stream = client.stream_notifications(request).await?.into_inner();
        streams.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
    }
    for _ in 0..boards {
        let mut client = HeistServiceClient::new(channel.clone());
        let mut stream = (client.watch_points(WatchPointsRequest {}).await?).into_inner();
        streams.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
    }
    Ok(streams)
}
