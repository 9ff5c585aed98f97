//! `TokenService.ListTokenEvents`

use tonic::{Request, Response, Status};

use crate::{
    pb::{ListTokenEventsRequest, ListTokenEventsResponse},
    rpc::{Api, deadline::read_within, fields::Fields, render, status},
    store::{players, tokens},
};

const DEFAULT_PAGE_SIZE: u16 = 20;
const MAX_PAGE_SIZE: u16 = 100;

pub(super) async fn handle(
    api: &Api,
    request: Request<ListTokenEventsRequest>,
) -> Result<Response<ListTokenEventsResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let page_size = fields.page_size(message.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    fields.check()?;
    let list: [&[u8]; 2] = [b"ListTokenEvents", &user_id.get().to_be_bytes()];
    let page = &(api.page_token_key).page(&list, page_size, &message.page_token)?;

    let read = (api.reads).run(|pool| async move {
        let before = page.after().map(|[id, _]| id);
        let events = tokens::statement(&pool, user_id, before, page.rows_to_read()).await?;
        // Read last: a player who exists now was not deleted during the other reads.
        let exists = players::exists(&pool, user_id).await?;
        Ok((exists, events))
    });
    let (exists, mut events) = read_within(deadline, "listing token events", read).await?;
    if !exists {
        return Err(status::user_not_found(user_id));
    }

    let next_page_token = page.cut(&mut events, |last| [last.ledger_id, 0]);
    Ok(Response::new(ListTokenEventsResponse {
        events: events.into_iter().map(render::token_event).collect(),
        next_page_token,
    }))
}
