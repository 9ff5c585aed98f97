//! `TokenService.AwardToken`

use tonic::{Request, Response, Status};

use crate::{
    domain::award::{AwardOrder, AwardOutcome},
    pb::{AwardTokenRequest, AwardTokenResponse},
    rpc::{Api, audit::Attempt, fields::Fields, render, status},
};

/// The longest name of a signup, in characters.
const MAX_NAME_CHARS: usize = 200;

pub(super) async fn handle(
    api: &Api,
    request: Request<AwardTokenRequest>,
) -> Result<Response<AwardTokenResponse>, Status> {
    let attempt = Attempt::of(&request);
    let result = award(api, &attempt, &request).await;
    attempt.ended(&result);
    result.map(Response::new)
}

async fn award(
    api: &Api,
    attempt: &Attempt,
    request: &Request<AwardTokenRequest>,
) -> Result<AwardTokenResponse, Status> {
    let deadline = api.accept(request)?;
    let order = parse(request.get_ref())?;
    let referrer = order.referrer;
    let executed = api.engine.award_token(order, deadline);
    let outcome = attempt.in_engine(executed).await?;
    let (account, already_awarded) = match outcome {
        AwardOutcome::Awarded { account, .. } => (account, false),
        AwardOutcome::AlreadyAwarded { account, .. } => (account, true),
        AwardOutcome::Refused(refusal) => return Err(status::award_refused(&refusal)),
        AwardOutcome::BalanceOutOfRange => {
            return Err(status::internal(
                "the referrer's tokens would be out of range",
                "awarding a token",
            ));
        }
    };
    Ok(AwardTokenResponse {
        balance: Some(render::balance(referrer, &account)),
        already_awarded,
    })
}

fn parse(message: &AwardTokenRequest) -> Result<AwardOrder, Status> {
    let mut fields = Fields::default();
    let referrer = fields.user_id("referrer_id", message.referrer_id);
    let referred = fields.user_id("referred_id", message.referred_id);
    let referred_name = fields.text("referred_name", &message.referred_name, MAX_NAME_CHARS);
    fields.check()?;
    Ok(AwardOrder {
        referrer,
        referred,
        referred_name,
    })
}
