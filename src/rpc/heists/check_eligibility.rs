//! `HeistService.CheckEligibility`

use tonic::{Request, Response, Status};

use crate::{
    pb::{CheckEligibilityRequest, CheckEligibilityResponse},
    rpc::{Api, audit, deadline::read_within, fields::Fields, render},
    store::players,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<CheckEligibilityRequest>,
) -> Result<Response<CheckEligibilityResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let attacker = fields.user_id("attacker_id", message.attacker_id);
    let victim = fields.user_id("victim_id", message.victim_id);
    fields.check()?;

    let rules = api.settings.now().rules;
    let both = [attacker, victim];
    let read = players::snapshot(&api.pool, &both, rules.robberies_to_know());
    let snapshot = read_within(deadline, "checking eligibility", read).await?;
    let eligibility = snapshot.assess(&rules, attacker, victim);
    audit::eligibility_checked(attacker, &eligibility);
    Ok(Response::new(CheckEligibilityResponse {
        eligibility: Some(render::eligibility(eligibility)),
    }))
}
