//! The parts of requests and answers that audit lines contain.

use uuid::Uuid;

use crate::pb;

/// The attempted operation. The request is `None` until it has been decoded, and the answer is
/// `None` until the operation has succeeded.
pub(in crate::rpc) enum Event {
    Heist(Option<HeistRequest>, Option<HeistAnswer>),
    Award(Option<AwardRequest>, Option<AwardAnswer>),
    Adjustment(Option<AdjustmentRequest>, Option<AdjustmentAnswer>),
}

pub(in crate::rpc) struct HeistRequest {
    pub(super) attacker: i32,
    pub(super) victim: i32,
    pub(super) request_id: Option<String>,
}

pub(in crate::rpc) struct HeistAnswer {
    pub(super) points_stolen: i32,
    pub(super) replayed: bool,
}

pub(in crate::rpc) struct AwardRequest {
    pub(super) referrer_id: i32,
    pub(super) referred_id: i32,
}

pub(in crate::rpc) struct AwardAnswer {
    pub(super) already_awarded: bool,
}

pub(in crate::rpc) struct AdjustmentRequest {
    pub(super) user_id: i32,
    pub(super) delta: i32,
    pub(super) reason: String,
    pub(super) request_id: Option<String>,
}

pub(in crate::rpc) struct AdjustmentAnswer {
    pub(super) replayed: bool,
}

/// A request or an answer of an audited method.
pub(in crate::rpc) trait Recorded {
    fn record(&self, event: &mut Event);
}

impl Recorded for pb::ExecuteHeistRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Heist(request, _) = event {
            *request = Some(HeistRequest {
                attacker: self.attacker_id,
                victim: self.victim_id,
                request_id: request_id(&self.request_id),
            });
        }
    }
}

impl Recorded for pb::ExecuteHeistResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Heist(_, answer) = event {
            *answer = Some(HeistAnswer {
                points_stolen: self.heist.as_ref().map_or(0, |heist| heist.points_stolen),
                replayed: self.replayed,
            });
        }
    }
}

impl Recorded for pb::AwardTokenRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Award(request, _) = event {
            *request = Some(AwardRequest {
                referrer_id: self.referrer_id,
                referred_id: self.referred_id,
            });
        }
    }
}

impl Recorded for pb::AwardTokenResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Award(_, answer) = event {
            *answer = Some(AwardAnswer {
                already_awarded: self.already_awarded,
            });
        }
    }
}

impl Recorded for pb::AdjustBalanceRequest {
    fn record(&self, event: &mut Event) {
        if let Event::Adjustment(request, _) = event {
            *request = Some(AdjustmentRequest {
                user_id: self.user_id,
                delta: self.delta,
                reason: without_addresses(&self.reason),
                request_id: request_id(&self.request_id),
            });
        }
    }
}

impl Recorded for pb::AdjustBalanceResponse {
    fn record(&self, event: &mut Event) {
        if let Event::Adjustment(_, answer) = event {
            *answer = Some(AdjustmentAnswer {
                replayed: self.replayed,
            });
        }
    }
}
/// The request id, if it is a UUID. Other texts could fill the log.
fn request_id(text: &str) -> Option<String> {
    Uuid::try_parse(text).ok().map(|id| id.to_string())
}

/// The text without e-mail addresses, cut to the length that the contract allows.
fn without_addresses(text: &str) -> String {
    const MAX_CHARS: usize = 500;
    let text: String = text.chars().take(MAX_CHARS).collect();
    let words = text.split(' ').map(|word| {
        let is_address = word.trim_matches('@').contains('@');
        if is_address { "[e-mail]" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
