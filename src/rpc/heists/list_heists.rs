//! `HeistService.ListHeists`

use tonic::{Request, Response, Status};

use crate::{
    domain::ids::HeistId,
    pb::{HeistRole, ListHeistsRequest, ListHeistsResponse},
    rpc::{Api, deadline::read_within, fields::Fields, render, status},
    store::{
        heists::{self, Sides},
        players,
    },
};

const DEFAULT_PAGE_SIZE: u16 = 20;
const MAX_PAGE_SIZE: u16 = 100;

pub(super) async fn handle(
    api: &Api,
    request: Request<ListHeistsRequest>,
) -> Result<Response<ListHeistsResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    let sides = sides(&mut fields, message.role);
    let page_size = fields.page_size(message.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    fields.check()?;
    let list: [&[u8]; 3] = [
        b"ListHeists",
        &user_id.get().to_be_bytes(),
        &message.role.to_be_bytes(),
    ];
    let page = &(api.page_token_key).page(&list, page_size, &message.page_token)?;

    let read = (api.reads).run(|pool| async move {
        let before = page.after().map(|[id, _]| HeistId::new(id)).transpose()?;
        let heists = heists::page(&pool, user_id, sides, before, page.rows_to_read()).await?;
        // Read last: a player who exists now was not deleted during the other reads.
        let exists = players::exists(&pool, user_id).await?;
        Ok((exists, heists))
    });
    let (exists, mut heists) = read_within(deadline, "listing heists", read).await?;
    if !exists {
        return Err(status::user_not_found(user_id));
    }

    let next_page_token = page.cut(&mut heists, |last| [last.id.get(), 0]);
    Ok(Response::new(ListHeistsResponse {
        heists: heists.iter().map(render::heist).collect(),
        next_page_token,
    }))
}

fn sides(fields: &mut Fields, role: i32) -> Sides {
    let (attacker, victim) = match HeistRole::try_from(role) {
        Ok(HeistRole::Unspecified) => (true, true),
        Ok(HeistRole::Attacker) => (true, false),
        Ok(HeistRole::Victim) => (false, true),
        Err(_) => {
            fields.violate("role", "must be a HeistRole");
            (false, false)
        }
    };
    Sides { attacker, victim }
}
