use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const PAUSE: Duration = Duration::from_millis(20);

fn player(id: i32) -> UserId {
    UserId::new(id).unwrap()
}

/// A schedule of orders with these players. The name of an order is its position in the list.
fn schedule(orders: &[&[i32]], now: Instant) -> Schedule<usize> {
    let mut schedule = Schedule::new();
    for (order, players) in orders.iter().enumerate() {
        schedule.push(order, players.iter().copied().map(player).collect(), now);
    }
    schedule
}

fn orders(taken: &[Entry<usize>]) -> Vec<usize> {
    taken.iter().map(|entry| entry.order).collect()
}

fn players(taken: &[Entry<usize>]) -> Vec<UserId> {
    taken.iter().flat_map(Entry::players).copied().collect()
}

#[test]
fn orders_with_a_player_in_common_share_a_batch() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 9], &[2, 9], &[3, 4]], now);
    assert_eq!(schedule.count_ready(), 3);
    assert_eq!(orders(&schedule.take(10, now)), [0, 1, 2]);
    assert!(schedule.is_empty());
}

#[test]
fn a_batch_has_no_player_in_common_with_a_running_one() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 9], &[2, 9], &[3, 4], &[5, 9]], now);
    let first = schedule.take(1, now);
    assert_eq!(orders(&first), [0]);
    assert_eq!(orders(&schedule.take(10, now)), [2]);
    assert_eq!(schedule.count_ready(), 0);

    schedule.push(4, vec![player(6), player(9)], now);
    schedule.release(players(&first), now);
    assert_eq!(orders(&schedule.take(10, now)), [1, 3, 4]);
}

#[test]
fn no_order_overtakes_an_earlier_one_of_the_same_player() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 2], &[2, 3], &[3, 4]], now);
    let first = schedule.take(1, now);
    assert_eq!(schedule.count_ready(), 0, "3 is reserved");
    schedule.release(players(&first), now);
    assert_eq!(orders(&schedule.take(10, now)), [1, 2]);
}

#[test]
fn an_order_that_waits_for_a_batch_that_hangs_reserves_nothing() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 2], &[2, 3], &[3, 4]], now);
    schedule.take(1, now);
    let later = now + BLOCKED_AFTER;
    assert_eq!(schedule.next_look(), Some(later));
    schedule.look_again(later);
    assert_eq!(orders(&schedule.take(10, later)), [2]);
}

#[test]
fn an_order_that_is_put_back_pauses_reserves_nothing_and_keeps_its_place() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 2], &[1, 3]], now);
    let mut taken = schedule.take(1, now);
    let all = players(&taken);
    schedule.put_back(taken.remove(0), PAUSE, now);
    schedule.release(all, now);
    assert_eq!(schedule.next_look(), Some(now + PAUSE));
    schedule.push(2, vec![player(1), player(4)], now);
    assert_eq!(schedule.count_ready(), 2);
    schedule.look_again(now + PAUSE);
    assert_eq!(orders(&schedule.take(10, now + PAUSE)), [0, 1, 2]);
}

#[test]
fn a_line_collects_all_orders_of_its_player() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 9], &[2, 3]], now);
    schedule.open_line(player(9));
    schedule.look_again(now);
    assert_eq!(orders(&schedule.take(10, now)), [1], "others do not wait");
    assert_eq!(schedule.begin_line(now), Some(player(9)));
    assert_eq!(schedule.begin_line(now), None, "it has begun");
    schedule.push(2, vec![player(4), player(9)], now);
    schedule.push(3, vec![player(2), player(9)], now);
    let taken = schedule.take_line(player(9), 10, now);
    assert_eq!(orders(&taken), [0, 2], "2 is busy");
}

#[test]
fn a_line_that_was_in_vain_is_closed_and_its_orders_pause() {
    let now = Instant::now();
    let mut schedule = schedule(&[&[1, 9]], now);
    schedule.open_line(player(9));
    schedule.look_again(now);
    let in_line = schedule.begin_line(now).unwrap();
    schedule.close_line(in_line, PAUSE, now);
    schedule.release([in_line], now);
    assert_eq!(schedule.count_ready(), 0);
    assert_eq!(schedule.next_look(), Some(now + PAUSE));
    schedule.look_again(now + PAUSE);
    assert_eq!(orders(&schedule.take(10, now + PAUSE)), [0]);
}

/// A step of a property test.
#[derive(Clone, Debug)]
enum Event {
    Arrives(i32, i32),
    BatchTakes(usize),
    /// One of the running batches ends. All its orders, or only the first half, were executed.
    BatchEnds(usize, bool),
    LineOpens(i32),
    LineTakes(usize),
    Passes(u64),
    /// The callers of every third order give up.
    CallersGiveUp,
}

fn events(kinds: u32) -> impl Strategy<Value = Vec<Event>> {
    let event = (0..kinds, 1..8_i32, 1..8_i32, 0..6_usize, any::<bool>());
    let event = event.prop_map(|(kind, one, other, number, flag)| match kind {
        0..=4 => Event::Arrives(one, if one == other { one + 1 } else { other }),
        5..=7 => Event::BatchTakes(number + 1),
        8..=9 => Event::BatchEnds(number, true),
        10 => Event::BatchEnds(number, flag),
        11 => Event::LineOpens(one),
        12 => Event::LineTakes(number + 1),
        13 => Event::Passes(u64::try_from(number).unwrap() * 60),
        _ => Event::CallersGiveUp,
    });
    prop::collection::vec(event, 1..80)
}

/// A schedule, and the batches that took orders from it.
struct Play {
    schedule: Schedule<usize>,
    now: Instant,
    players_of: Vec<[UserId; 2]>,
    running: Vec<(Vec<Entry<usize>>, Option<UserId>)>,
    executed: Vec<usize>,
    given_up: Vec<usize>,
}

impl Play {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(),
            now: Instant::now(),
            players_of: Vec::new(),
            running: Vec::new(),
            executed: Vec::new(),
            given_up: Vec::new(),
        }
    }

    fn happens(&mut self, event: &Event) {
        let now = self.now;
        match *event {
            Event::Arrives(one, other) => {
                let both = [player(one), player(other)];
                self.schedule
                    .push(self.players_of.len(), both.to_vec(), now);
                self.players_of.push(both);
            }
            Event::BatchTakes(limit) => {
                let taken = self.schedule.take(limit, now);
                assert!(taken.len() <= limit);
                if !taken.is_empty() {
                    self.running.push((taken, None));
                }
            }
            Event::BatchEnds(which, is_executed) if !self.running.is_empty() => {
                let (taken, line) = self.running.remove(which % self.running.len());
                let players: Vec<_> = players(&taken).into_iter().chain(line).collect();
                let executed = if is_executed {
                    taken.len()
                } else {
                    taken.len() / 2
                };
                for (index, entry) in taken.into_iter().enumerate() {
                    if index < executed {
                        self.executed.push(entry.order);
                    } else {
                        self.schedule.put_back(entry, PAUSE, now);
                    }
                }
                self.schedule.release(players, now);
            }
            Event::BatchEnds(..) => {}
            Event::LineOpens(one) => {
                self.schedule.open_line(player(one));
                self.schedule.look_again(now);
            }
            Event::LineTakes(limit) => {
                if let Some(line) = self.schedule.begin_line(now) {
                    let taken = self.schedule.take_line(line, limit, now);
                    assert!(!taken.is_empty());
                    self.running.push((taken, Some(line)));
                }
            }
            Event::Passes(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.schedule.look_again(self.now);
            }
            Event::CallersGiveUp => {
                let given_up = &mut self.given_up;
                self.schedule.retain(
                    |order| {
                        let stays = order % 3 != 0;
                        if !stays {
                            given_up.push(*order);
                        }
                        stays
                    },
                    now,
                );
            }
        }
        self.no_two_batches_share_a_player();
    }

    fn no_two_batches_share_a_player(&self) {
        let mut batch_of: HashMap<UserId, usize> = HashMap::new();
        for (batch, (taken, line)) in self.running.iter().enumerate() {
            for player in players(taken).into_iter().chain(*line) {
                let other = batch_of.insert(player, batch);
                assert!(
                    other.is_none_or(|other| other == batch),
                    "{player:?} is in two batches"
                );
            }
        }
    }

    /// Runs batches until no order is left.
    fn runs_dry(&mut self) {
        for _ in 0..1000 {
            if self.schedule.is_empty() && self.running.is_empty() {
                return;
            }
            self.happens(&Event::LineTakes(2));
            self.happens(&Event::BatchTakes(2));
            self.happens(&Event::BatchEnds(0, true));
            self.happens(&Event::Passes(30));
        }
        panic!("{} orders never ran", self.schedule.waiting.len());
    }
}

proptest! {
    /// Safety: see `no_two_batches_share_a_player`. Nothing is lost: each order is executed once or
    /// given up.
    #[test]
    fn every_order_runs_once(events in events(15)) {
        let mut play = Play::new();
        for event in &events {
            play.happens(event);
        }
        play.runs_dry();
        let mut ended = [play.executed, play.given_up].concat();
        ended.sort_unstable();
        prop_assert_eq!(ended, (0..play.players_of.len()).collect::<Vec<_>>());
    }

    /// Order: while no order is set aside, each player's orders run in the order of arrival.
    #[test]
    fn each_players_orders_run_in_their_order(events in events(10)) {
        let mut play = Play::new();
        let mut last: HashMap<UserId, usize> = HashMap::new();
        for event in &events {
            let batches = play.running.len();
            play.happens(event);
            for (taken, _) in &play.running[batches.min(play.running.len())..] {
                for entry in taken {
                    for player in entry.players() {
                        let before = last.insert(*player, entry.order);
                        prop_assert!(before.is_none_or(|before| before < entry.order));
                    }
                }
            }
        }
    }

    /// Progress: while all running batches hang, every order runs that has no pause left and names
    /// neither a player of these batches nor a player with a line.
    #[test]
    fn orders_that_name_no_blocked_player_run(events in events(15)) {
        let mut play = Play::new();
        for event in &events {
            play.happens(event);
        }
        play.happens(&Event::Passes(300));
        let busy: HashSet<UserId> =
            (play.running.iter()).flat_map(|(taken, line)| players(taken).into_iter().chain(*line)).collect();
        let lines: Vec<UserId> = play.schedule.lines.keys().copied().collect();
        let free: Vec<usize> = (play.schedule.waiting.values())
            .map(|entry| entry.order)
            .filter(|order| {
                let players = play.players_of[*order];
                !players.iter().any(|player| busy.contains(player) || lines.contains(player))
            })
            .collect();
        prop_assert_eq!(orders(&play.schedule.take(1000, play.now)), free);
        // Each player with a line gets a batch, unless the other player of the order is busy.
        while let Some(line) = play.schedule.begin_line(play.now) {
            prop_assert!(!play.schedule.take_line(line, 1000, play.now).is_empty());
        }
    }
}
