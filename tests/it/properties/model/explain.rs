//! Finds a sequential order of calls in which the model gives every answer of a history.
//!
//! The order of the changes is not searched for: the ledger gives it (see [`super::ledger`]). This
//! is a sound witness. A number is drawn while the players' rows are locked, so that two changes of
//! one player are numbered in their order. It is drawn between the call and its answer, so that a
//! call that began after another was answered has the higher number. The latter is checked.
//!
//! A call that changed nothing must fit into the order: after every change that was answered before
//! the call began, before every change that was called after its answer, and not before anything
//! that an earlier answer reported. A refusal was decided with its players locked, and needs one
//! place for both. A read takes no lock, and PostgreSQL may show the commits of two unrelated players
//! in another order than that of their numbers. So reads are explained player by player
//! (linearizability is local: a history is linearizable if that of each object is).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    history::{Answer, Call, Fact, Object, Operation, Outcome},
    ledger::Change,
    sequential::{Model, NoteIds, Rules, Start},
};

/// A history and all that is needed to explain it.
pub struct Evidence<'a> {
    pub rules: Rules,
    pub cast: &'a [Start],
    pub history: &'a [Operation],
    pub changes: &'a [Change],
    pub note_ids: NoteIds,
}

/// Something that an answer says and that has to be true at some moment.
struct Claim<'a> {
    operation: &'a Operation,
    says: Says<'a>,
    objects: Vec<Object>,
    /// The first and the last number of changes after which it may have been true.
    window: (usize, usize),
}

/// The changes of each object, with their places in the order, the first being 1.
type Touched<'a> = HashMap<Object, Vec<(usize, &'a Operation)>>;

#[derive(Debug)]
enum Says<'a> {
    /// This call, made at this moment, would be answered so and change nothing.
    Judged(&'a Answer),
    Fact(&'a Fact),
}

impl Evidence<'_> {
    /// How many claims were explained, or what cannot be.
    pub fn explain(&self) -> Result<usize, String> {
        let order = self.order()?;
        check_real_time(&order)?;
        let mut pending = self.claims(&order);
        let claims = pending.len();

        let mut model = self.beginning();
        self.settle(&mut pending, &order, &model, 0)?;
        for (place, (change, operation)) in self.changes.iter().zip(&order).enumerate() {
            let answer = model.execute(&operation.call, change.id);
            let is_explained = match &operation.outcome {
                Outcome::Done(given) => *given == answer,
                _ => !matches!(
                    answer,
                    Answer::Refused(_) | Answer::Account { repeated: true, .. }
                ),
            };
            if !is_explained {
                let objects = operation.call.objects();
                let told = format!("in a sequence of calls the answer is {answer:?}");
                return Err(self.report(operation, &told, &objects, &order, (place, place)));
            }
            self.settle(&mut pending, &order, &model, place + 1)?;
        }
        Ok(claims + order.len())
    }

    /// The call behind each change.
    fn order(&self) -> Result<Vec<&Operation>, String> {
        let mut taken = HashSet::new();
        let mut order = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            // Answered ones first: of several lost calls with one request id, one did it.
            let candidates = (self.history.iter().enumerate())
                .filter(|(index, operation)| !taken.contains(index) && caused(operation, change));
            let (index, operation) = candidates
                .min_by_key(|(_, operation)| (operation.answered.is_none(), operation.invoked))
                .ok_or_else(|| {
                    format!("no caller was answered {change:?}, which is in the books")
                })?;
            taken.insert(index);
            order.push(operation);
        }
        let lost = (self.history.iter().enumerate()).find(|(index, operation)| {
            matches!(operation.outcome, Outcome::Done(_)) && !taken.contains(index)
        });
        match lost {
            Some((_, operation)) => Err(format!("answered, but not in the books: {operation:?}")),
            None => Ok(order),
        }
    }

    /// In the order of their calls.
    fn claims(&self, order: &[&Operation]) -> Vec<Claim<'_>> {
        let mut touched = Touched::new();
        for (place, operation) in order.iter().enumerate() {
            for object in self.objects_changed(&operation.call, order) {
                touched
                    .entry(object)
                    .or_default()
                    .push((place + 1, operation));
            }
        }
        let mut claims = Vec::new();
        for operation in self.history {
            match &operation.outcome {
                Outcome::Judged(answer) => {
                    let objects = operation.call.objects();
                    let says = Says::Judged(answer);
                    claims.push(Claim::new(operation, says, objects, &touched, order.len()));
                }
                Outcome::Saw(facts) => claims.extend(facts.iter().map(|fact| {
                    let objects = fact.object().into_iter().collect();
                    Claim::new(operation, Says::Fact(fact), objects, &touched, order.len())
                })),
                Outcome::Done(_) | Outcome::Unresolved => {}
            }
        }
        claims.sort_by_key(|claim| claim.operation.invoked);
        claims
    }

    /// A deleted player is also forgotten where others name them.
    fn objects_changed(&self, call: &Call, order: &[&Operation]) -> Vec<Object> {
        let mut objects = call.objects();
        if let Call::Delete { user } = *call {
            let named = (self.cast.iter())
                .filter(|start| start.referred_by == Some(user))
                .map(|start| start.id);
            let earned = order.iter().filter_map(|operation| match operation.call {
                Call::Award { referrer, referred } if referrer == user => Some(referred),
                _ => None,
            });
            objects.extend(named.chain(earned).map(Object::Referral));
        }
        objects
    }

    /// Takes out all claims that are true here. Taking the first place where one is true never
    /// hurts the others: every condition is of the form "not before".
    fn settle(
        &self,
        pending: &mut Vec<Claim<'_>>,
        order: &[&Operation],
        model: &Model,
        place: usize,
    ) -> Result<(), String> {
        let mut index = 0;
        while index < pending.len() {
            let claim = &pending[index];
            if place < claim.window.0 {
                index += 1;
                continue;
            }
            if waits_for(pending, index).is_none() && claim.is_true(model) {
                pending.remove(index);
                continue;
            }
            if place == claim.window.1 {
                // The one that holds up all the others.
                let mut root = index;
                while let Some(earlier) = waits_for(pending, root) {
                    root = earlier;
                }
                let culprit = &pending[root];
                let told = if root == index {
                    format!("{:?} is true at no moment", culprit.says)
                } else {
                    let (says, later) = (&culprit.says, claim.operation);
                    format!("{says:?} is not true before this has to be: {later:?}")
                };
                let window = (culprit.window.0.min(place), place);
                return Err(self.report(culprit.operation, &told, &culprit.objects, order, window));
            }
            index += 1;
        }
        Ok(())
    }

    fn beginning(&self) -> Model {
        Model::new(self.rules, self.cast, self.note_ids.clone())
    }

    /// The shortest history that shows the contradiction: how its players were at the first moment
    /// at which the answer may have been true, which all before it explains, and what changed
    /// them until the last.
    fn report(
        &self,
        operation: &Operation,
        told: &str,
        objects: &[Object],
        order: &[&Operation],
        (first, last): (usize, usize),
    ) -> String {
        let mut model = self.beginning();
        for (change, operation) in self.changes.iter().zip(&order[..first]) {
            model.execute(&operation.call, change.id);
        }
        let players = objects.iter().filter_map(|object| match *object {
            Object::Player(user) => Some(model.describe(user)),
            Object::Referral(_) => None,
        });
        let changes = (order[first..last].iter())
            .filter(|change| {
                let changed = self.objects_changed(&change.call, order);
                changed.iter().any(|object| objects.contains(object))
            })
            .map(|change| format!("{change:?}"));
        let lines: Vec<String> = players
            .chain(changes)
            .chain([format!("{operation:?}")])
            .collect();
        format!(
            "no sequence of calls explains this history: {told}\n{}\nunder {:?}",
            lines.join("\n"),
            self.rules,
        )
    }
}

impl<'a> Claim<'a> {
    fn new(
        operation: &'a Operation,
        says: Says<'a>,
        objects: Vec<Object>,
        touched: &Touched<'_>,
        changes: usize,
    ) -> Self {
        let mut window = (0, changes);
        for (place, change) in objects.iter().filter_map(|it| touched.get(it)).flatten() {
            if ends_before(change, operation.invoked) {
                window.0 = window.0.max(*place);
            }
            if ends_before(operation, change.invoked) {
                window.1 = window.1.min(place - 1);
            }
        }
        Self {
            operation,
            says,
            objects,
            window,
        }
    }

    fn is_true(&self, model: &Model) -> bool {
        match self.says {
            Says::Fact(fact) => model.holds(fact),
            Says::Judged(answer) => {
                // Were it to change something, its answer would be another.
                const NO_LEDGER_ID: i64 = -1;
                model.clone().execute(&self.operation.call, NO_LEDGER_ID) == *answer
            }
        }
    }
}

/// The first claim that has to be true before this one.
fn waits_for(pending: &[Claim<'_>], index: usize) -> Option<usize> {
    let claim = &pending[index];
    (pending[..index].iter()).position(|earlier| {
        ends_before(earlier.operation, claim.operation.invoked)
            && (earlier.objects.iter()).any(|object| claim.objects.contains(object))
    })
}

/// No change has a higher number than one that was called only after its answer.
fn check_real_time(order: &[&Operation]) -> Result<(), String> {
    let mut latest: Option<&Operation> = None;
    for operation in order {
        if let Some(earlier) = latest
            && ends_before(operation, earlier.invoked)
        {
            return Err(format!(
                "numbered after what was called later:\n{operation:?}\n{earlier:?}"
            ));
        }
        if latest.is_none_or(|earlier| earlier.invoked < operation.invoked) {
            latest = Some(operation);
        }
    }
    Ok(())
}

/// Whether this call made that change.
fn caused(operation: &Operation, change: &Change) -> bool {
    let is_known = match &operation.outcome {
        Outcome::Done(Answer::Robbed(heist)) => return heist.id == change.id,
        Outcome::Done(_) => true,
        Outcome::Unresolved => false,
        Outcome::Judged(_) | Outcome::Saw(_) => return false,
    };
    match (&operation.call, change.kind.as_str()) {
        (
            Call::Rob {
                attacker,
                victim,
                request_id,
            },
            "heist",
        ) => {
            (Some(*attacker), Some(*victim)) == (change.first, change.second)
                && *request_id == change.request_id
        }
        (Call::Award { referrer, referred }, "award") => {
            (Some(*referrer), Some(*referred)) == (change.first, change.second)
        }
        (
            Call::Adjust {
                user,
                delta,
                request_id,
            },
            "adjustment",
        ) => {
            (Some(*user), Some(*delta), Some(*request_id))
                == (change.first, change.second, change.request_id)
        }
        (Call::Mark { user, .. }, "mark") | (Call::Delete { user }, "deletion") => {
            is_known && Some(*user) == change.first
        }
        _ => false,
    }
}

fn ends_before(operation: &Operation, moment: Duration) -> bool {
    operation.answered.is_some_and(|answered| answered < moment)
}
