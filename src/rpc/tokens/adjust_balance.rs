//! `TokenService.AdjustBalance`

use tonic::{Request, Response, Status};
use tonic_types::FieldViolation;

use crate::{
    domain::adjustment::{AdjustmentOrder, AdjustmentOutcome},
    pb::{AdjustBalanceRequest, AdjustBalanceResponse},
    rpc::{Api, accept, audit::Attempt, fields::Fields, render, status},
};

const MAX_REASON_CHARS: usize = 500;

pub(super) async fn handle(
    api: &Api,
    request: Request<AdjustBalanceRequest>,
) -> Result<Response<AdjustBalanceResponse>, Status> {
    let attempt = Attempt::of(&request);
    let result = adjust(api, &attempt, &request).await;
    attempt.ended(&result);
    result.map(Response::new)
}

async fn adjust(
    api: &Api,
    attempt: &Attempt,
    request: &Request<AdjustBalanceRequest>,
) -> Result<AdjustBalanceResponse, Status> {
    let deadline = api.accept(request)?;
    let order = parse(request)?;
    let user_id = order.user_id;
    let executed = api.engine.adjust_balance(order, deadline);
    let outcome = attempt.in_engine(executed).await?;
    let (account, replayed) = match outcome {
        AdjustmentOutcome::Adjusted { account, .. } => (account, false),
        AdjustmentOutcome::Replayed { account, .. } => (account, true),
        AdjustmentOutcome::UserNotFound => return Err(status::user_not_found(user_id)),
        AdjustmentOutcome::InsufficientTokens { balance } => {
            return Err(status::too_few_to_revoke(balance));
        }
        AdjustmentOutcome::RequestIdReused => return Err(status::request_id_reused()),
        AdjustmentOutcome::BalanceOutOfRange => {
            let violation = FieldViolation::new("delta", "must leave the totals below 2^31");
            return Err(status::invalid_request(vec![violation]));
        }
    };
    Ok(AdjustBalanceResponse {
        balance: Some(render::balance(user_id, &account)),
        replayed,
    })
}

fn parse(request: &Request<AdjustBalanceRequest>) -> Result<AdjustmentOrder, Status> {
    let message = request.get_ref();
    let mut fields = Fields::default();
    let user_id = fields.user_id("user_id", message.user_id);
    if message.delta == 0 {
        fields.violate("delta", "must not be 0");
    }
    let reason = fields.text("reason", &message.reason, MAX_REASON_CHARS);
    let reason = fields.required("reason", reason);
    let request_id = fields.request_id("request_id", &message.request_id);
    let request_id = fields.required("request_id", request_id);
    fields.check()?;
    Ok(AdjustmentOrder {
        user_id,
        delta: message.delta,
        reason,
        actor: accept::caller(request).who.to_string(),
        request_id,
    })
}
