//! `HeistService.ExecuteHeist`

use tonic::{Request, Response, Status};

use crate::{
    domain::{
        heist::{Heist, HeistOrder, HeistOutcome},
        ids::RequestId,
        rules::Rules,
    },
    pb::{ExecuteHeistRequest, ExecuteHeistResponse},
    rpc::{Api, audit::Attempt, client_address::ClientAddress, fields::Fields, render, status},
};

pub(super) async fn handle(
    api: &Api,
    request: Request<ExecuteHeistRequest>,
) -> Result<Response<ExecuteHeistResponse>, Status> {
    let attempt = Attempt::of(&request);
    let result = execute(api, &attempt, &request).await;
    attempt.ended(&result);
    result.map(Response::new)
}

async fn execute(
    api: &Api,
    attempt: &Attempt,
    request: &Request<ExecuteHeistRequest>,
) -> Result<ExecuteHeistResponse, Status> {
    let deadline = api.accept(request)?;
    let order = parse(api, request)?;
    let executed = api.engine.execute_heist(order.clone(), deadline);
    let outcome = attempt.in_engine(executed).await?;
    match outcome {
        HeistOutcome::Executed { heist, .. } => Ok(respond(&heist, &order.rules, false)),
        HeistOutcome::Replayed(heist) => Ok(respond(&heist, &order.rules, true)),
        HeistOutcome::Refused { refusal, at } => Err(status::heist_refused(&refusal, at)),
        HeistOutcome::RequestIdReused => Err(status::request_id_reused()),
    }
}

fn parse(api: &Api, request: &Request<ExecuteHeistRequest>) -> Result<HeistOrder, Status> {
    let address: Option<&ClientAddress> = request.extensions().get();
    let message = request.get_ref();
    let mut fields = Fields::default();
    let attacker = fields.user_id("attacker_id", message.attacker_id);
    let victim = fields.user_id("victim_id", message.victim_id);
    let request_id = fields.request_id("request_id", &message.request_id);
    fields.check()?;
    Ok(HeistOrder {
        attacker,
        victim,
        // With a generated id the engine can look the heist up after a lost commit.
        request_id: request_id.unwrap_or_else(|| RequestId::new(uuid::Uuid::now_v7())),
        client_address: address.map(|address| address.client),
        rules: api.settings.now().rules,
    })
}

fn respond(heist: &Heist, rules: &Rules, replayed: bool) -> ExecuteHeistResponse {
    ExecuteHeistResponse {
        heist: Some(render::heist(heist)),
        tokens_remaining: heist.tokens_remaining,
        cooldown_end_time: rules
            .cooldown_end_after(heist.created_at)
            .map(render::timestamp),
        replayed,
    }
}
