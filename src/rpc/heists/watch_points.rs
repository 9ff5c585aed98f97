//! `HeistService.WatchPoints`

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Request, Response, Status};

use crate::{
    domain::change::{PointsChange, PointsMoved},
    events::Points,
    pb::{self, WatchPointsRequest, WatchPointsResponse},
    rpc::{
        Api, accept, status,
        stream::{Items, TooSlow, Writer, stream},
    },
};

pub(super) fn handle(
    api: &Api,
    request: &Request<WatchPointsRequest>,
) -> Result<Response<Items<WatchPointsResponse>>, Status> {
    // A stream has no deadline.
    let _ = api.accept(request)?;
    let slot = api.traffic.streams.take(None)?;
    let points = api.events.watch_points();
    let caller = accept::caller(request);
    let items = stream(&api.events, &api.settings, caller, slot, |writer| {
        feed(points, writer)
    });
    Ok(Response::new(items))
}

/// Sends changes until the stream must end, and returns its status.
async fn feed(mut points: Receiver<Points>, writer: Writer<WatchPointsResponse>) -> Status {
    // The caller has no data yet.
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
        heist_id: moved.heist_id.get(),
        changes: vec![change(&moved.attacker), change(&moved.victim)],
        resync: false,
    }
}

fn change(change: &PointsChange) -> pb::PointsChange {
    pb::PointsChange {
        user_id: change.user_id.get(),
        monthly_points: change.monthly_points,
        delta: change.delta,
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::{
        auth::Caller,
        domain::{
            change::Changes,
            ids::{HeistId, UserId},
        },
        events::Events,
        rpc::stream_slots::StreamSlots,
        settings::{LiveSettings, Settings},
    };

    /// More commits than a watcher's queue holds.
    const FLOOD: i64 = 5000;

    fn watch(events: &Events) -> Items<WatchPointsResponse> {
        let points = events.watch_points();
        let slot = StreamSlots::new(1, 1, None).take(None).unwrap();
        let settings = LiveSettings::fixed(Settings::default());
        stream(
            events,
            &settings,
            &Caller::UNAUTHENTICATED,
            slot,
            |writer| feed(points, writer),
        )
    }

    fn commit(number: i64) -> Changes {
        let change = |user_id, delta| PointsChange {
            user_id: UserId::new(user_id).unwrap(),
            monthly_points: 500,
            delta,
        };
        Changes {
            heists: vec![PointsMoved {
                heist_id: HeistId::new(number).unwrap(),
                attacker: change(1, 50),
                victim: change(2, -50),
            }],
            ..Changes::default()
        }
    }

    async fn next(items: &mut Items<WatchPointsResponse>) -> WatchPointsResponse {
        items.next().await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_fell_behind_gets_a_resync_and_the_newest_changes() {
        let (events, _from_engine) = Events::without_tasks();
        let mut items = watch(&events);
        assert!(next(&mut items).await.resync);
        for number in 1..=FLOOD {
            events.publish(commit(number));
        }
        let mut resyncs = 0;
        let mut last = 0;
        while last < FLOOD {
            let item = next(&mut items).await;
            if item.resync {
                resyncs += 1;
                continue;
            }
            assert!(item.heist_id > last);
            assert!(
                resyncs == 1 || item.heist_id == last + 1,
                "a change is missing without a resync"
            );
            last = item.heist_id;
        }
        assert_eq!(resyncs, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_in_doubt_causes_a_resync() {
        let (events, mut from_engine) = Events::without_tasks();
        let mut items = watch(&events);
        assert!(next(&mut items).await.resync);
        events.publish(Changes {
            in_doubt: true,
            ..commit(1)
        });
        assert!(next(&mut items).await.resync);
        assert_eq!(next(&mut items).await.heist_id, 1);
        assert_eq!(from_engine.recv().await.unwrap().heists.len(), 1);
    }
}
