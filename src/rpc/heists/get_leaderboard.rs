//! `HeistService.GetLeaderboard`
//!
//! Executes at most three statements for a page of any length: the page, the viewer's own place,
//! and the facts that the rules need about the players on the page. The first viewer of a process
//! with a rank beyond 1,000 also waits for the distribution of points.

use tonic::{Request, Response, Status};

use crate::{
    domain::{
        eligibility::{Eligibility, Snapshot},
        ids::{InvalidId, UserId},
        leaderboard::{PageEnd, Place},
        rules::Rules,
    },
    pb::{GetLeaderboardRequest, GetLeaderboardResponse},
    rpc::{Api, deadline::read_within, fields::Fields, paging::Position, render, status},
    store::{PgPool, StoreError, leaderboard, players},
};

const DEFAULT_PAGE_SIZE: u16 = 50;
const MAX_PAGE_SIZE: u16 = 200;

pub(super) async fn handle(
    api: &Api,
    request: Request<GetLeaderboardRequest>,
) -> Result<Response<GetLeaderboardResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let viewer = (message.viewer_id != 0).then(|| fields.user_id("viewer_id", message.viewer_id));
    let page_size = fields.page_size(message.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    fields.check()?;
    let list: [&[u8]; 2] = [b"GetLeaderboard", &message.viewer_id.to_be_bytes()];
    let page = &(api.page_token_key).page(&list, page_size, &message.page_token)?;

    let rules = &api.settings.now().rules;
    let read = (api.reads).run(|pool| async move {
        let behind = page.after().map(unpack).transpose()?;
        let mut places = leaderboard::page(&pool, behind, page.rows_to_read()).await?;
        let next_page_token = page.cut(&mut places, |(_, end)| pack(*end));
        let places: Vec<Place> = places.into_iter().map(|(place, _)| place).collect();
        let view = match viewer {
            Some(viewer) => View::read(api, &pool, viewer, &places, rules).await?,
            None => None,
        };
        Ok((places, next_page_token, view))
    });
    let (places, next_page_token, view) =
        read_within(deadline, "reading the leaderboard", read).await?;
    if let (Some(viewer), None) = (viewer, &view) {
        return Err(status::user_not_found(viewer));
    }

    let entries = (places.into_iter()).map(|place| {
        let eligibility = (view.as_ref()).and_then(|view| view.eligibility(rules, &place));
        render::leaderboard_entry(place, eligibility)
    });
    Ok(Response::new(GetLeaderboardResponse {
        entries: entries.collect(),
        next_page_token,
        viewer: view.map(|view| render::leaderboard_entry(view.own, None)),
    }))
}

/// The board as one player sees it.
struct View {
    own: Place,
    snapshot: Snapshot,
}

impl View {
    /// `None` if the viewer does not exist.
    async fn read(
        api: &Api,
        pool: &PgPool,
        viewer: UserId,
        places: &[Place],
        rules: &Rules,
    ) -> Result<Option<Self>, StoreError> {
        let Some(own) = api.ranks.place(pool, viewer).await? else {
            return Ok(None);
        };
        let mut players_and_viewer: Vec<UserId> =
            places.iter().map(|place| place.standing.user_id).collect();
        players_and_viewer.push(viewer);
        let robberies_to_know = rules.robberies_to_know();
        let snapshot = players::snapshot(pool, &players_and_viewer, robberies_to_know).await?;
        Ok(Some(Self { own, snapshot }))
    }

    fn eligibility(&self, rules: &Rules, place: &Place) -> Option<Eligibility> {
        let (viewer, other) = (self.own.standing.user_id, place.standing.user_id);
        (viewer != other).then(|| self.snapshot.assess(rules, viewer, other))
    }
}

/// Encodes the end of a page as the position in a page token.
fn pack(end: PageEnd) -> Position {
    [
        join(end.monthly_points, end.user_id.get()),
        join(end.rank, end.players),
    ]
}

/// The reverse of [`pack`].
fn unpack([player, place]: Position) -> Result<PageEnd, InvalidId> {
    let (monthly_points, user_id) = split(player);
    let (rank, players) = split(place);
    Ok(PageEnd {
        monthly_points,
        user_id: UserId::new(user_id)?,
        rank,
        players,
    })
}

fn join(high: i32, low: i32) -> i64 {
    i64::from(high) << 32 | i64::from(low.cast_unsigned())
}

fn split(joined: i64) -> (i32, i32) {
    let [h0, h1, h2, h3, l0, l1, l2, l3] = joined.to_be_bytes();
    (
        i32::from_be_bytes([h0, h1, h2, h3]),
        i32::from_be_bytes([l0, l1, l2, l3]),
    )
}
