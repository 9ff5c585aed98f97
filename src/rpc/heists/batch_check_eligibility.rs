//! `HeistService.BatchCheckEligibility`

use tonic::{Request, Response, Status};

use crate::{
    pb::{BatchCheckEligibilityRequest, BatchCheckEligibilityResponse},
    rpc::{
        Api, audit,
        deadline::read_within,
        fields::{Fields, MAX_BATCH},
        render,
    },
    store::players,
};

pub(super) async fn handle(
    api: &Api,
    request: Request<BatchCheckEligibilityRequest>,
) -> Result<Response<BatchCheckEligibilityResponse>, Status> {
    let deadline = api.accept(&request)?;
    let message = request.get_ref();
    let mut fields = Fields::default();
    let attacker = fields.user_id("attacker_id", message.attacker_id);
    let victims = fields.user_ids("victim_ids", &message.victim_ids, MAX_BATCH);
    fields.check()?;

    let rules = api.settings.now().rules;
    let all = [&victims[..], &[attacker]].concat();
    let read = players::snapshot(&api.pool, &all, rules.robberies_to_know());
    let snapshot = read_within(deadline, "checking eligibility", read).await?;
    let eligibilities = victims.into_iter().map(|victim| {
        let eligibility = snapshot.assess(&rules, attacker, victim);
        audit::eligibility_checked(attacker, &eligibility);
        render::eligibility(eligibility)
    });
    Ok(Response::new(BatchCheckEligibilityResponse {
        eligibilities: eligibilities.collect(),
    }))
}
