//! A caller: calls what the program says, one call after the other, and writes down what came
//! of each.

use std::{collections::HashMap, time::Instant};

use heist::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::{
    history::{Account, Answer, Call, Fact, Operation, Outcome, Read, Robbed},
    reads,
};
use crate::harness::World;

pub struct Caller {
    pub number: usize,
    pub world: World,
    /// When the history began.
    pub begun: Instant,
    /// Whether calls may fail, as they do while connections die.
    pub faults: bool,
    /// Notifications that were listed, newest first, by player.
    notes: HashMap<i32, Vec<i64>>,
    heists: Vec<i64>,
}

impl Caller {
    pub fn new(number: usize, world: World, begun: Instant, faults: bool) -> Self {
        Self {
            number,
            world,
            begun,
            faults,
            notes: HashMap::new(),
            heists: Vec::new(),
        }
    }

    pub async fn play(mut self, calls: Vec<Call>) -> Vec<Operation> {
        let mut history = Vec::with_capacity(calls.len());
        for call in calls {
            let call = self.with_what_was_learnt(call);
            let invoked = self.begun.elapsed();
            let outcome = self.outcome(&call).await;
            let answered = (outcome != Outcome::Unresolved).then(|| self.begun.elapsed());
            history.push(Operation {
                caller: self.number,
                call,
                invoked,
                answered,
                outcome,
            });
        }
        history
    }

    /// Fills in ids that a program cannot know beforehand.
    fn with_what_was_learnt(&self, call: Call) -> Call {
        match call {
            Call::Mark { user, up_to: 0, .. } => {
                let listed = self.notes.get(&user).map_or(&[][..], Vec::as_slice);
                let every_other: Vec<i64> = listed.iter().step_by(2).copied().collect();
                // The call must name an id; without a listed one it names an unknown one.
                let ids = if every_other.is_empty() {
                    vec![i64::MAX]
                } else {
                    every_other
                };
                Call::Mark {
                    user,
                    up_to: 0,
                    ids,
                }
            }
            Call::Read(Read::Heist(_)) => match self.heists.last() {
                Some(id) => Call::Read(Read::Heist(*id)),
                None => Call::Read(Read::Leaderboard),
            },
            call => call,
        }
    }

    async fn outcome(&mut self, call: &Call) -> Outcome {
        let result = match *call {
            Call::Rob {
                attacker,
                victim,
                request_id,
            } => self.rob(attacker, victim, request_id).await,
            Call::Award { referrer, referred } => self.award(referrer, referred).await,
            Call::Adjust {
                user,
                delta,
                request_id,
            } => self.adjust(user, delta, request_id).await,
            Call::Mark {
                user,
                up_to,
                ref ids,
            } => self.mark(user, up_to, ids.clone()).await,
            Call::Delete { user } => Ok(self.delete(user).await),
            Call::Read(ref read) => self.read(read).await,
        };
        match result {
            Ok(outcome) => outcome,
            Err(status) if self.faults && is_fault(&status) => Outcome::Unresolved,
            Err(status) => panic!("{call:?} was answered {status:?}"),
        }
    }

    async fn rob(
        &mut self,
        attacker: i32,
        victim: i32,
        request_id: Option<Uuid>,
    ) -> Result<Outcome, Status> {
        let request = pb::ExecuteHeistRequest {
            attacker_id: attacker,
            victim_id: victim,
            request_id: request_id.map(|id| id.to_string()).unwrap_or_default(),
        };
        match self.world.execute_heist(request).await {
            Ok(answer) => {
                let replayed = answer.replayed;
                let heist = answer.heist.expect("an answer has a heist");
                self.heists.push(heist.id);
                let heist = Robbed {
                    tokens_remaining: answer.tokens_remaining,
                    replayed,
                    ..robbed(&heist)
                };
                let answer = Answer::Robbed(heist);
                Ok(if replayed {
                    Outcome::Judged(answer)
                } else {
                    Outcome::Done(answer)
                })
            }
            Err(status) => Ok(match (refusal(status)?, request_id) {
                (Refused { reason, .. }, Some(id)) if reason == "REQUEST_ID_REUSED" => {
                    Outcome::Saw(vec![Fact::HeistIdTaken(id, attacker, victim)])
                }
                (Refused { reason, .. }, _) => Outcome::Judged(Answer::Refused(reason)),
            }),
        }
    }

    async fn award(&self, referrer: i32, referred: i32) -> Result<Outcome, Status> {
        let request = pb::AwardTokenRequest {
            referrer_id: referrer,
            referred_id: referred,
            referred_name: String::new(),
        };
        let refused = match self.world.award_token(request).await {
            Ok(answer) => {
                let account = account(answer.balance);
                return Ok(if answer.already_awarded {
                    Outcome::Saw(vec![
                        Fact::Account(referrer, account),
                        Fact::EarnedBy(referred, referrer),
                    ])
                } else {
                    let repeated = false;
                    Outcome::Done(Answer::Account { account, repeated })
                });
            }
            Err(status) => refusal(status)?,
        };
        Ok(Outcome::Saw(match refused.reason.as_str() {
            "SELF_REFERRAL" if referrer == referred => Vec::new(),
            "USER_NOT_FOUND" if refused.user == Some(referrer) => vec![Fact::Absent(referrer)],
            "USER_NOT_FOUND" => vec![Fact::NoReferred(referred)],
            "REFERRAL_MISMATCH" => vec![Fact::ReferredByAnother(referred, referrer)],
            "REFERRAL_ALREADY_AWARDED" => vec![Fact::EarnedByAnother(referred, referrer)],
            reason => panic!("an award was refused because of {reason}"),
        }))
    }

    async fn adjust(&self, user: i32, delta: i32, request_id: Uuid) -> Result<Outcome, Status> {
        let request = pb::AdjustBalanceRequest {
            user_id: user,
            delta,
            reason: "for the story".to_owned(),
            request_id: request_id.to_string(),
        };
        Ok(match self.world.adjust_balance(request).await {
            Ok(answer) => {
                let repeated = answer.replayed;
                let account = account(answer.balance);
                let answer = Answer::Account { account, repeated };
                if repeated {
                    Outcome::Judged(answer)
                } else {
                    Outcome::Done(answer)
                }
            }
            Err(status) => match refusal(status)?.reason {
                reason if reason == "REQUEST_ID_REUSED" => {
                    Outcome::Saw(vec![Fact::AdjustmentIdTaken(request_id, user, delta)])
                }
                reason => Outcome::Judged(Answer::Refused(reason)),
            },
        })
    }

    async fn mark(&self, user: i32, up_to: i64, ids: Vec<i64>) -> Result<Outcome, Status> {
        let request = pb::MarkNotificationsReadRequest {
            user_id: user,
            notification_ids: ids,
            up_to_id: up_to,
        };
        Ok(match self.world.mark_notifications_read(request).await {
            Ok(answer) => {
                let marked = answer.marked_count;
                let answer = Answer::Marked {
                    marked,
                    unread: answer.unread_count,
                };
                if marked == 0 {
                    Outcome::Judged(answer)
                } else {
                    Outcome::Done(answer)
                }
            }
            Err(status) => Outcome::Judged(Answer::Refused(refusal(status)?.reason)),
        })
    }

    /// As the application does it, which repeats what PostgreSQL chose as the victim of a deadlock.
    async fn delete(&self, user: i32) -> Outcome {
        loop {
            let deleted = sqlx::query(r#"DELETE FROM "User" WHERE "id" = $1"#)
                .bind(user)
                .execute(&self.world.pool)
                .await;
            match deleted {
                Ok(done) if done.rows_affected() == 1 => return Outcome::Done(Answer::Deleted),
                Ok(_) => return Outcome::Saw(vec![Fact::Absent(user)]),
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {}
                Err(error) => panic!("deleting player {user}: {error}"),
            }
        }
    }

    async fn read(&mut self, read: &Read) -> Result<Outcome, Status> {
        match reads::facts(&self.world, read, &mut self.notes).await {
            Ok(facts) => Ok(Outcome::Saw(facts)),
            Err(status) => match refusal(status)? {
                Refused {
                    reason,
                    user: Some(user),
                } if reason == "USER_NOT_FOUND" => Ok(Outcome::Saw(vec![Fact::Absent(user)])),
                refused => panic!("{read:?} was refused because of {}", refused.reason),
            },
        }
    }
}

/// A refusal as programs see it.
struct Refused {
    reason: String,
    /// The player that the refusal names, if any.
    user: Option<i32>,
}

/// Anything but a refusal is handed back.
fn refusal(status: Status) -> Result<Refused, Status> {
    if is_fault(&status) {
        return Err(status);
    }
    let Some(info) = status.get_details_error_info() else {
        return Err(status);
    };
    let user = (info.metadata.get("user_id")).and_then(|user| user.parse().ok());
    Ok(Refused {
        reason: info.reason,
        user,
    })
}

fn is_fault(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded
    )
}

pub fn account(balance: Option<pb::TokenBalance>) -> Account {
    let balance = balance.expect("an answer has a balance");
    Account {
        balance: balance.balance,
        earned: balance.total_earned,
        spent: balance.total_spent,
    }
}

/// Without the tokens that remained, which `GetHeist` does not tell.
pub fn robbed(heist: &pb::Heist) -> Robbed {
    Robbed {
        id: heist.id,
        attacker: heist.attacker_id,
        victim: heist.victim_id,
        stolen: heist.points_stolen,
        attacker_before: heist.attacker_points_before,
        attacker_after: heist.attacker_points_after,
        victim_before: heist.victim_points_before,
        victim_after: heist.victim_points_after,
        tokens_remaining: 0,
        replayed: false,
    }
}
