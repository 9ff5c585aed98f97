//! `HeistService.WatchPoints`

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Request, Response, Status};

use super::{
    Api, status,
    stream::{Items, TooSlow, Writer, stream},
};
use crate::{
    domain::change::{PointsChange, PointsMoved},
    events::Points,
    pb::{self, WatchPointsRequest, WatchPointsResponse},
};

pub(super) fn handle(
    api: &Api,
    _request: &Request<WatchPointsRequest>,
) -> Response<Items<WatchPointsResponse>> {
    let points = api.events.watch_points();
    Response::new(stream(&api.events, |writer| feed(points, writer)))
}

/// Sends until it has to end, and returns why.
async fn feed(mut points: Receiver<Points>, writer: Writer<WatchPointsResponse>) -> Status {
    // Whoever begins to watch knows nothing yet.
    let mut next = vec![resync()];
    loop {
        for item in next {
            if let Err(TooSlow) = writer.send(item).await {
                return status::slow_watcher();
            }
        }
        next = match points.recv().await {
            Ok(Points::Moved(changes)) => changes.heists.iter().map(moved).collect(),
            Ok(Points::Resync) | Err(RecvError::Lagged(_)) => vec![resync()],
            Err(RecvError::Closed) => return status::shutting_down(),
        };
    }
}

fn resync() -> WatchPointsResponse {
    WatchPointsResponse {
        resync: true,
        ..WatchPointsResponse::default()
    }
}

fn moved(moved: &PointsMoved) -> WatchPointsResponse {
    WatchPointsResponse {
        heist_id: moved.heist_id.0,
        changes: vec![change(&moved.attacker), change(&moved.victim)],
        resync: false,
    }
}

fn change(change: &PointsChange) -> pb::PointsChange {
    pb::PointsChange {
        user_id: change.user_id.0,
        monthly_points: change.monthly_points,
        delta: change.delta,
    }
}
