//! Renders domain types as messages of the contract.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    domain::{
        eligibility::Eligibility,
        heist::{Heist, Party},
        ids::UserId,
        leaderboard::Place,
        notification::{Details, Notification},
        rules::Refusal,
        tokens::{TokenAccount, TokenEvent, TokenSource},
    },
    pb,
};

pub(super) fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.unix_timestamp(),
        nanos: i32::try_from(time.nanosecond()).expect("below a billion"),
    }
}

pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339)
        .expect("the database's years have four digits")
}

pub(super) fn heist(heist: &Heist) -> pb::Heist {
    let (attacker_id, attacker_name) = party(&heist.attacker);
    let (victim_id, victim_name) = party(&heist.victim);
    pb::Heist {
        id: heist.id.get(),
        attacker_id,
        attacker_name,
        victim_id,
        victim_name,
        points_stolen: heist.points_stolen,
        attacker_points_before: heist.attacker.points_before,
        attacker_points_after: heist.attacker.points_after,
        victim_points_before: heist.victim.points_before,
        victim_points_after: heist.victim.points_after,
        create_time: Some(timestamp(heist.created_at)),
    }
}

fn party(party: &Party) -> (i32, String) {
    (party.id.map_or(0, UserId::get), party.name.clone())
}

pub(super) fn balance(user_id: UserId, account: &TokenAccount) -> pb::TokenBalance {
    pb::TokenBalance {
        user_id: user_id.get(),
        balance: account.balance,
        total_earned: account.total_earned,
        total_spent: account.total_spent,
        last_earned_time: account.last_earned_at.map(timestamp),
        last_spent_time: account.last_spent_at.map(timestamp),
    }
}

pub(super) fn token_event(event: TokenEvent) -> pb::TokenEvent {
    use pb::token_event::{Adjustment, CarriedForward, HeistSpend, Referral, Source};
    let source = match event.source {
        TokenSource::Referral { referred_id } => Source::Referral(Referral {
            referred_id: referred_id.map_or(0, UserId::get),
        }),
        TokenSource::Heist { heist_id } => Source::Heist(HeistSpend {
            heist_id: heist_id.get(),
        }),
        TokenSource::Adjustment { actor, reason } => {
            Source::Adjustment(Adjustment { actor, reason })
        }
        TokenSource::CarriedForward => Source::CarriedForward(CarriedForward {}),
    };
    pb::TokenEvent {
        delta: event.delta,
        balance_after: event.balance_after,
        create_time: Some(timestamp(event.created_at)),
        source: Some(source),
    }
}

pub(super) fn leaderboard_entry(
    place: Place,
    eligibility: Option<Eligibility>,
) -> pb::LeaderboardEntry {
    let Place { rank, standing } = place;
    pb::LeaderboardEntry {
        rank,
        user_id: standing.user_id.get(),
        name: standing.name,
        monthly_points: standing.monthly_points,
        token_balance: standing.token_balance,
        eligibility: eligibility.map(self::eligibility),
    }
}

pub(super) fn eligibility(eligibility: Eligibility) -> pb::Eligibility {
    let (points_at_stake, reason, message) = match &eligibility.verdict {
        Ok(points) => (
            *points,
            pb::RefusalReason::Unspecified,
            format!("A heist would steal {points} points."),
        ),
        Err(refusal) => (0, refusal_reason(refusal), refusal_message(refusal)),
    };
    pb::Eligibility {
        victim_id: eligibility.victim_id.get(),
        eligible: eligibility.verdict.is_ok(),
        reason: reason.into(),
        message,
        victim_name: eligibility.victim_name,
        victim_points: eligibility.victim_points,
        points_at_stake,
        tokens_available: eligibility.tokens_available,
        cooldown_end_time: eligibility.cooldown_ends_at.map(timestamp),
        protection_end_time: eligibility.protection_ends_at.map(timestamp),
    }
}

fn refusal_reason(refusal: &Refusal) -> pb::RefusalReason {
    match refusal {
        Refusal::SelfTarget => pb::RefusalReason::SelfTarget,
        Refusal::AttackerNotFound => pb::RefusalReason::AttackerNotFound,
        Refusal::TargetNotFound => pb::RefusalReason::TargetNotFound,
        Refusal::InsufficientTokens => pb::RefusalReason::InsufficientTokens,
        Refusal::CooldownActive { .. } => pb::RefusalReason::CooldownActive,
        Refusal::InsufficientPoints { .. } => pb::RefusalReason::InsufficientPoints,
        Refusal::TargetProtected { .. } => pb::RefusalReason::TargetProtected,
        Refusal::PointsLimitReached { .. } => pb::RefusalReason::PointsLimitReached,
    }
}

pub(super) fn notification(notification: Notification) -> pb::Notification {
    let title = notification.details.title().to_owned();
    let message = notification.details.message();
    let (kind, details) = details(notification.details);
    pb::Notification {
        id: notification.id.get(),
        user_id: notification.user_id.get(),
        r#type: kind.into(),
        title,
        message,
        read: notification.read,
        create_time: Some(timestamp(notification.created_at)),
        details: Some(details),
    }
}

fn details(details: Details) -> (pb::NotificationType, pb::notification::Details) {
    match details {
        Details::HeistSuccess {
            heist_id,
            victim_id,
            victim_name,
            points_stolen,
            points_after,
        } => (
            pb::NotificationType::HeistSuccess,
            pb::notification::Details::HeistSuccess(pb::notification::HeistSuccess {
                heist_id: heist_id.get(),
                victim_id: victim_id.get(),
                victim_name: victim_name.unwrap_or_default(),
                points_stolen,
                points_after,
            }),
        ),
        Details::HeistVictim {
            heist_id,
            attacker_id,
            attacker_name,
            points_lost,
            points_after,
            protection_ends_at,
        } => (
            pb::NotificationType::HeistVictim,
            pb::notification::Details::HeistVictim(pb::notification::HeistVictim {
                heist_id: heist_id.get(),
                attacker_id: attacker_id.get(),
                attacker_name: attacker_name.unwrap_or_default(),
                points_lost,
                points_after,
                protection_end_time: protection_ends_at.map(timestamp),
            }),
        ),
        Details::TokenEarned {
            referred_id,
            referred_name,
            balance_after,
        } => (
            pb::NotificationType::TokenEarned,
            pb::notification::Details::TokenEarned(pb::notification::TokenEarned {
                referred_id: referred_id.get(),
                referred_name: referred_name.unwrap_or_default(),
                balance_after,
            }),
        ),
    }
}

/// One sentence for a person.
pub(super) fn refusal_message(refusal: &Refusal) -> String {
    match refusal {
        Refusal::SelfTarget => "Players cannot rob themselves.".to_owned(),
        Refusal::AttackerNotFound => "The attacker does not exist.".to_owned(),
        Refusal::TargetNotFound => "The victim does not exist.".to_owned(),
        Refusal::InsufficientTokens => "The attacker has no heist token.".to_owned(),
        Refusal::CooldownActive { ends_at } => {
            format!("The attacker has to wait until {}.", for_people(*ends_at))
        }
        Refusal::InsufficientPoints { points, required } => {
            format!("The victim has {points} points, and {required} are needed to be robbed.")
        }
        Refusal::TargetProtected { ends_at } => {
            format!("The victim is protected until {}.", for_people(*ends_at))
        }
        Refusal::PointsLimitReached {
            points,
            points_at_stake,
        } => format!(
            "The attacker has {points} points and cannot hold {points_at_stake} more: points range from 0 to {}.",
            i32::MAX
        ),
    }
}

/// A time to the second in UTC, for people.
fn for_people(time: OffsetDateTime) -> String {
    let (date, time) = (time.date(), time.time());
    format!(
        "{date} {:02}:{:02}:{:02} UTC",
        time.hour(),
        time.minute(),
        time.second()
    )
}
