//! Every field of every RPC with every kind of bad value. The fields are read from the contract, so
//! that new ones are covered. Each bad value must be refused by the name of its field, unless
//! [`documented`] states another result.

use std::collections::BTreeMap;

use heist::pb;
use prost::Message as _;
use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, Value};
use tonic::{Code, Status};

use crate::harness::{
    Player, Refusal, World,
    contract::request_of,
    new_request_id, pages, snapshot,
    wire::{self, Method, methods_of_the_contract},
};

/// A value that a field should not have.
#[derive(Clone, Debug)]
struct Bad {
    what: &'static str,
    value: Value,
}

/// The result of a bad value.
#[derive(Debug)]
enum Documented {
    /// `INVALID_REQUEST` with the name of the field, or of one of its elements.
    Named,
    Reason(Code, &'static str),
    /// The value is valid.
    Accepted,
}

use Documented::{Accepted, Named, Reason};

/// The documented result of a value, by RPC, field and kind of value; `Named` for all others.
#[expect(
    clippy::match_same_arms,
    reason = "what is accepted is accepted for different reasons"
)]
fn documented(rpc: &str, field: &str, what: &str) -> Documented {
    match (rpc, field, what) {
        // Fields that may be absent.
        (
            _,
            "viewer_id" | "after_id" | "page_size" | "role" | "up_to_id" | "page_token",
            "absent",
        )
        | ("AwardToken", "referred_name", "absent" | "blank")
        | ("ExecuteHeist", "request_id", "absent") => Accepted,

        // Ids of unknown players and heists.
        ("ExecuteHeist", "attacker_id", "maximum") => Reason(Code::NotFound, "ATTACKER_NOT_FOUND"),
        ("ExecuteHeist", "victim_id", "maximum") => Reason(Code::NotFound, "TARGET_NOT_FOUND"),
        ("CheckEligibility" | "BatchCheckEligibility", _, "maximum" | "list of the maximum") => {
            Accepted
        }
        (_, "heist_id", "maximum") => Reason(Code::NotFound, "HEIST_NOT_FOUND"),
        (_, "user_id" | "viewer_id" | "referrer_id" | "referred_id", "maximum")
        | ("BatchGetBalances", "user_ids", "list of the maximum") => {
            Reason(Code::NotFound, "USER_NOT_FOUND")
        }
        // Notifications of other players are ignored.
        ("MarkNotificationsRead", "notification_ids", "list of the maximum" | "repetitions")
        | ("MarkNotificationsRead", "up_to_id", "maximum")
        | ("StreamNotifications", "after_id", "maximum") => Accepted,
        // Each is answered.
        ("BatchCheckEligibility" | "BatchGetBalances", _, "repetitions") => Accepted,
        (
            "BatchCheckEligibility" | "BatchGetBalances" | "MarkNotificationsRead",
            _,
            "too large",
        ) => Reason(Code::OutOfRange, ""),

        ("AdjustBalance", "delta", "negative") => Accepted,
        ("AdjustBalance", "delta", "minimum") => {
            Reason(Code::FailedPrecondition, "INSUFFICIENT_TOKENS")
        }
        (_, "page_token", _) => Reason(Code::InvalidArgument, "INVALID_PAGE_TOKEN"),
        _ => Named,
    }
}

/// Bad values of a field, by its type.
fn bad_values(field: &FieldDescriptor) -> Vec<Bad> {
    let all: Vec<(&str, Value)> = match (field.kind(), field.cardinality()) {
        (Kind::Int32, Cardinality::Repeated) => lists(Value::I32, i32::MAX, 1),
        (Kind::Int64, Cardinality::Repeated) => lists(Value::I64, i64::MAX, 1),
        (Kind::Int32, _) => vec![
            ("absent", Value::I32(0)),
            ("negative", Value::I32(-1)),
            ("minimum", Value::I32(i32::MIN)),
            ("maximum", Value::I32(i32::MAX)),
        ],
        (Kind::Int64, _) => vec![
            ("absent", Value::I64(0)),
            ("negative", Value::I64(-1)),
            ("minimum", Value::I64(i64::MIN)),
            ("maximum", Value::I64(i64::MAX)),
        ],
        (Kind::Enum(_), _) => vec![
            ("absent", Value::EnumNumber(0)),
            ("negative", Value::EnumNumber(-1)),
            ("minimum", Value::EnumNumber(i32::MIN)),
            ("maximum", Value::EnumNumber(i32::MAX)),
        ],
        (Kind::String, _) => [
            ("absent", String::new()),
            ("blank", " \t ".to_owned()),
            ("zero byte", "a\0b".to_owned()),
            ("line break", "a\nb".to_owned()),
            ("escape sequence", "\u{1b}[2Jgone".to_owned()),
            ("too long", "x".repeat(501)),
            ("far too long", "🦊".repeat(15_000)),
        ]
        .map(|(what, text)| (what, Value::String(text)))
        .into(),
        // Either is good.
        (Kind::Bool, _) => vec![],
        (kind, _) => panic!("say here what is a bad {kind:?}"),
    };
    (all.into_iter())
        .map(|(what, value)| Bad { what, value })
        .collect()
}

fn lists<N: Copy + From<i8>>(
    to_value: fn(N) -> Value,
    maximum: N,
    good: i8,
) -> Vec<(&'static str, Value)> {
    let list = |number: N, length| Value::List(vec![to_value(number); length]);
    vec![
        ("absent", list(good.into(), 0)),
        ("list of zero", list(0.into(), 1)),
        ("list of a negative", list((-1).into(), 2)),
        ("list of the maximum", list(maximum, 1)),
        ("repetitions", list(good.into(), 200)),
        ("too many", list(good.into(), 501)),
        ("too large", list(maximum, 16_000)),
    ]
}

/// Requests that are fine, for each RPC; fields that are new are absent in them.
fn good_request(rpc: &str, (ada, ben): (&Player, &Player)) -> Vec<u8> {
    match rpc {
        "ExecuteHeist" => pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: new_request_id(),
        }
        .encode_to_vec(),
        "CheckEligibility" => pb::CheckEligibilityRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
        }
        .encode_to_vec(),
        "BatchCheckEligibility" => pb::BatchCheckEligibilityRequest {
            attacker_id: ada.id,
            victim_ids: vec![ben.id],
        }
        .encode_to_vec(),
        "GetHeist" => pb::GetHeistRequest { heist_id: 1 }.encode_to_vec(),
        "GetLeaderboard" | "WatchPoints" => Vec::new(),
        "AwardToken" => pb::AwardTokenRequest {
            referrer_id: ada.id,
            referred_id: ben.id,
            referred_name: "Ben".to_owned(),
        }
        .encode_to_vec(),
        "BatchGetBalances" => pb::BatchGetBalancesRequest {
            user_ids: vec![ada.id, ben.id],
        }
        .encode_to_vec(),
        "AdjustBalance" => pb::AdjustBalanceRequest {
            user_id: ada.id,
            delta: 1,
            reason: "for the story".to_owned(),
            request_id: new_request_id(),
        }
        .encode_to_vec(),
        "MarkNotificationsRead" => pb::MarkNotificationsReadRequest {
            user_id: ada.id,
            notification_ids: vec![1],
            up_to_id: 0,
        }
        .encode_to_vec(),
        "UpdatePreferences" => pb::UpdatePreferencesRequest {
            user_id: ada.id,
            email: pb::EmailPreference::Digest.into(),
        }
        .encode_to_vec(),
        // A player, and nothing else that is needed.
        _ => pb::GetBalanceRequest { user_id: ada.id }.encode_to_vec(),
    }
}

struct Trial {
    method: Method,
    field: FieldDescriptor,
    bad: Bad,
}

fn trials() -> Vec<Trial> {
    let trials: Vec<Trial> = (methods_of_the_contract().into_iter())
        .flat_map(|method| {
            let fields: Vec<_> = request_of(&method).fields().collect();
            fields.into_iter().flat_map(move |field| {
                let method = method.clone();
                bad_values(&field).into_iter().map(move |bad| Trial {
                    method: method.clone(),
                    field: field.clone(),
                    bad,
                })
            })
        })
        .collect();
    assert!(trials.len() > 150, "the contract has lost its fields");
    trials
}

impl Trial {
    async fn run(&self, world: &World, players: (&Player, &Player)) -> Result<(), Status> {
        let good = good_request(self.method.name(), players);
        let mut request =
            DynamicMessage::decode(self.field.parent_message().clone(), &*good).expect("a request");
        request.set_field(&self.field, self.bad.value.clone());
        wire::begin(&world.channel, &self.method, request.encode_to_vec()).await
    }

    fn check(&self, answer: Result<(), Status>) {
        let (rpc, field, what) = (self.method.name(), self.field.name(), self.bad.what);
        let case = format!("{rpc}.{field}: {what}");
        let documented = documented(rpc, field, what);
        match (documented, answer) {
            (Accepted, Ok(())) => {}
            (Named, Err(status)) => {
                let named = Refusal::from(status).is(Code::InvalidArgument, "INVALID_REQUEST");
                assert!(
                    (named.fields().iter()).all(|name| {
                        let element = name.strip_prefix(field);
                        element.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
                    }),
                    "{case}: {:?}",
                    named.fields()
                );
            }
            (Reason(code, ""), Err(status)) => assert_eq!(status.code(), code, "{case}"),
            (Reason(code, reason), Err(status)) => {
                Refusal::from(status).is(code, reason);
            }
            (documented, answer) => panic!("{case}: {answer:?} instead of {documented:?}"),
        }
    }
}

#[test]
fn every_bad_value_of_every_field_gets_its_documented_error_and_changes_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").points(100).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut before = snapshot(&world.pool).await;
        for trial in trials() {
            let case = format!(
                "{}.{}: {}",
                trial.method.name(),
                trial.field.name(),
                trial.bad.what
            );
            let answer = trial.run(world, (&ada, &ben)).await;
            let after = snapshot(&world.pool).await;
            if answer.is_err() {
                assert_eq!(before, after, "{case} changed something");
            }
            before = after;
            trial.check(answer);
        }
    });
}

/// Text that is not UTF-8, or text where a number should be.
fn not_of_its_type(field: &FieldDescriptor) -> Vec<u8> {
    const LENGTH_DELIMITED: u32 = 2;
    let tag = u8::try_from(field.number() << 3 | LENGTH_DELIMITED).expect("few fields");
    match field.kind() {
        Kind::String => vec![tag, 2, 0xc3, 0x28],
        // A list of numbers that ends in the midst of one.
        _ if field.is_list() => vec![tag, 1, 0xff],
        _ => vec![tag, 1, b'x'],
    }
}

#[test]
fn every_field_with_bytes_of_another_type_is_refused_and_changes_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").points(100).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        for method in methods_of_the_contract() {
            for field in request_of(&method).fields() {
                let mut request = good_request(method.name(), (&ada, &ben));
                request.extend(not_of_its_type(&field));
                let call = wire::call(&world.channel, &method, request);
                let refused = world.refuses(call).await;
                assert_eq!(
                    refused.code(),
                    Code::InvalidArgument,
                    "{method:?} {}",
                    field.name()
                );
            }
        }
    });
}

#[test]
fn a_page_token_of_one_list_is_none_of_another() {
    World::run(async |world| {
        let robbers = world.crowd("Robber", 3).tokens(1).await;
        let rich = world.player("Rich").points(10_000).await;
        for robber in &robbers {
            robber.robs(&rich).await.unwrap();
            rich.earns_a_token_for(robber).await.unwrap();
        }
        let user_id = rich.id;
        let page_size = 1;
        let tokens = BTreeMap::from([
            (
                "GetLeaderboard",
                pages::next_token(
                    world,
                    pb::GetLeaderboardRequest {
                        page_size,
                        ..Default::default()
                    },
                )
                .await,
            ),
            (
                "ListHeists",
                pages::next_token(
                    world,
                    pb::ListHeistsRequest {
                        user_id,
                        page_size,
                        ..Default::default()
                    },
                )
                .await,
            ),
            (
                "ListNotifications",
                pages::next_token(
                    world,
                    pb::ListNotificationsRequest {
                        user_id,
                        page_size,
                        ..Default::default()
                    },
                )
                .await,
            ),
            (
                "ListTokenEvents",
                pages::next_token(
                    world,
                    pb::ListTokenEventsRequest {
                        user_id,
                        page_size,
                        ..Default::default()
                    },
                )
                .await,
            ),
        ]);
        for method in methods_of_the_contract() {
            let descriptor = request_of(&method);
            let Some(page_token) = descriptor.get_field_by_name("page_token") else {
                continue;
            };
            assert!(
                tokens.contains_key(method.name()),
                "a token of {method:?} is not tried"
            );
            for (list, token) in &tokens {
                let good = good_request(method.name(), (&rich, &robbers[0]));
                let mut request = DynamicMessage::decode(descriptor.clone(), &*good).unwrap();
                request.set_field(&page_token, Value::String(token.clone()));
                let answer = wire::call(&world.channel, &method, request.encode_to_vec()).await;
                if *list == method.name() {
                    answer.unwrap();
                } else {
                    Refusal::from(answer.unwrap_err()).names_the_page_token();
                }
            }
        }
    });
}
