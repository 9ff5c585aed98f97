//! `HeistService.GetRules`

use std::{num::NonZeroU32, time::Duration};

use tonic::{Request, Response, Status};

use crate::{
    pb::{GetRulesRequest, GetRulesResponse, Protection},
    rpc::Api,
};

pub(super) fn handle(
    api: &Api,
    request: &Request<GetRulesRequest>,
) -> Result<Response<GetRulesResponse>, Status> {
    api.accept(request)?;
    let settings = api.settings.now();
    let rules = &settings.rules;
    let calls = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
    Ok(Response::new(GetRulesResponse {
        enabled: settings.enabled,
        steal_percentage: rules.steal_percentage,
        max_steal_points: rules.max_steal_points.unwrap_or(0),
        min_target_points: rules.min_target_points,
        cooldown: Some(duration(rules.cooldown)),
        protection: rules.protection.map(|protection| Protection {
            robberies: i32::try_from(protection.after).unwrap_or(i32::MAX),
            window: Some(duration(protection.window)),
        }),
        heist_calls_per_minute: calls(settings.rates.heists),
        other_calls_per_minute: calls(settings.rates.others),
    }))
}

/// Settings are at most a year, so the conversion succeeds.
fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}
