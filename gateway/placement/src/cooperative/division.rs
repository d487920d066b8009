//! Who works which items of a batch: a queue with two ends, whose middle is
//! where the sides meet.
//!
//! * **Chunks.** A side claims a range from its end: half of its fair share of
//!   what is free (guided self-scheduling, by the sides' measured paces and by
//!   when those that are not up yet are expected), so chunks shrink towards the
//!   end and all sides end together; but enough items
//!   that the overhead of a chunk stays below a tenth of its work, as long as
//!   that is no more than the whole fair share.
//! * **Staging.** Items may travel to a side's store ahead of the work, from the
//!   back down, while its pod is still being deployed and while it works:
//!   [`Division::stage`] says what to send next, and stops where the sides are
//!   expected to meet. Staged items belong to nobody: when a deployment hangs,
//!   the edge works them.
//! * **Tail.** A side that finds nothing free may be given items that another
//!   still holds, the last ones of the claim expected to end last, as many as
//!   make both end together. Whoever is first counts; the other's claim becomes
//!   moot ([`Division::moot`]). A side that hangs is so worked around.
//! * **Failures.** What a side held and had not done goes back and is free.
//!
//! Time is any number of seconds that does not go back. Ask [`Division::claim`]
//! again after every event, and about once a second while it answers `None`:
//! the longer a claim is overdue, the sooner its items are given to another.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::fluid::{Course, finish, worked_by};
use super::ranges::Ranges;
use crate::estimate::sane_seconds;

/// The end of the batch that a side works from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// From the first item on: the edge.
    Front,
    /// From the last item back: the cloud.
    Back,
}

/// A place that works on the batch, as predicted before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Where it takes its items.
    pub end: End,
    /// Seconds to work one item. If the pod fetches while it works, the longer
    /// of the two.
    pub seconds_per_item: f64,
    /// Seconds that each chunk costs besides its items: the request, the answer.
    pub chunk_overhead_s: f64,
    /// Seconds to send one item that is not staged; zero where nothing travels
    /// or the pod fetches while it works.
    pub transfer_s_per_item: f64,
    /// When it can begin, on the clock of the calls.
    pub ready_at: f64,
}

impl Default for Side {
    /// A second an item from the front, at once and with no overhead.
    fn default() -> Self {
        Self {
            end: End::Front,
            seconds_per_item: 1.0,
            chunk_overhead_s: 0.0,
            transfer_s_per_item: 0.0,
            ready_at: 0.0,
        }
    }
}

/// A chunk may cost this share of its work in overhead.
const OVERHEAD: f64 = 0.1;

/// Items that the predicted pace counts for beside the measured ones.
const PRIOR_ITEMS: f64 = 2.0;

/// Weight that older chunks keep in the pace when a new one is done.
const FORGET: f64 = 0.5;

/// Seconds of transfer that one staged piece takes.
const PIECE_S: f64 = 0.25;

/// The tail is only worked twice when that ends it sooner by this share of what
/// is left, and by this many seconds.
const TAIL_GAIN: (f64, f64) = (0.05, 0.02);

/// The least seconds an item is taken to need.
const LEAST_PACE: f64 = 1e-9;

/// The most seconds an item or a chunk's overhead is taken to need: eleven days,
/// so that whatever hangs is overdue at some time.
const MOST_S: f64 = 1e6;

#[derive(Debug, Clone)]
struct State {
    side: Side,
    lost: bool,
    /// Measured seconds and items, older ones faded.
    worked: (f64, f64),
    counted: usize,
    twice: usize,
    /// Items from here to the end have arrived in the side's store.
    arrived: usize,
    /// Items from here to the end have arrived or are on their way.
    sent: usize,
    /// Seconds its first chunk takes before its first item, until it has begun.
    start_s: f64,
}

impl State {
    /// Seconds per item, staged.
    fn pace(&self) -> f64 {
        let (seconds, items) = self.worked;
        let pace = (seconds + PRIOR_ITEMS * self.side.seconds_per_item) / (items + PRIOR_ITEMS);
        pace.min(MOST_S)
    }

    /// How it is expected to go on from `now`.
    fn course(&self, now: f64) -> Course {
        Course {
            ready_s: (self.side.ready_at - now).max(0.0) + self.start_s,
            seconds_per_item: if self.lost {
                f64::INFINITY
            } else {
                self.pace()
            },
            transfer_s_per_item: 0.0,
        }
    }
}

#[derive(Debug, Clone)]
struct Claim {
    side: usize,
    range: Range<usize>,
    /// When its work began: when it was claimed, or when the side's claim
    /// before it was over.
    since: f64,
    /// Items of it reported in progress or done.
    reported: usize,
    /// When the last report came.
    reported_at: f64,
    /// Seconds that its items had to travel first.
    transfer_s: f64,
    /// Whether it re-works what another holds.
    twin: bool,
}

/// See the module. Every item is counted exactly once, whatever the order of
/// the calls; calls that make no sense change nothing.
#[derive(Debug, Clone)]
pub struct Division {
    sides: Vec<State>,
    /// Not done and not held.
    free: Ranges,
    /// Not done.
    open: Ranges,
    claims: Vec<Claim>,
    items: usize,
}

impl Division {
    /// Nothing claimed yet of `items` items.
    #[must_use]
    pub fn new(items: usize, sides: Vec<Side>) -> Self {
        let sane = |value: f64| sane_seconds(value).unwrap_or(0.0).min(MOST_S);
        Self {
            sides: sides
                .into_iter()
                .map(|side| State {
                    side: Side {
                        end: side.end,
                        seconds_per_item: sane(side.seconds_per_item).max(LEAST_PACE),
                        chunk_overhead_s: sane(side.chunk_overhead_s),
                        transfer_s_per_item: sane(side.transfer_s_per_item),
                        ready_at: sane(side.ready_at),
                    },
                    lost: false,
                    worked: (0.0, 0.0),
                    counted: 0,
                    twice: 0,
                    arrived: items,
                    sent: items,
                    start_s: 0.0,
                })
                .collect(),
            free: Ranges::of(0..items),
            open: Ranges::of(0..items),
            claims: Vec::new(),
            items,
        }
    }

    /// Whether every item is done.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Items not done yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.open.len()
    }

    /// Items not done and held by nobody.
    #[must_use]
    pub fn unclaimed(&self) -> usize {
        self.free.len()
    }

    /// Items that this side was the first to do.
    #[must_use]
    pub fn counted(&self, side: usize) -> usize {
        self.sides.get(side).map_or(0, |s| s.counted)
    }

    /// Items that this side did after another had.
    #[must_use]
    pub fn twice(&self, side: usize) -> usize {
        self.sides.get(side).map_or(0, |s| s.twice)
    }

    /// Seconds this side takes per item, measured and predicted together.
    #[must_use]
    pub fn pace(&self, side: usize) -> Option<f64> {
        self.sides.get(side).map(State::pace)
    }

    /// Says when a side can begin, as it is now expected.
    pub fn expect(&mut self, side: usize, ready_at: f64) {
        if let (Some(state), Some(at)) = (self.sides.get_mut(side), sane_seconds(ready_at)) {
            state.side.ready_at = at;
        }
    }

    /// Says what a side takes before its first item (loading a model), once. It
    /// is no part of its pace.
    pub fn starts(&mut self, side: usize, seconds: f64) {
        if let (Some(state), Some(seconds)) = (self.sides.get_mut(side), sane_seconds(seconds)) {
            state.start_s = seconds;
        }
    }

    /// Takes in that a side works its first item of its oldest claim from now
    /// on: what went before was its start, a transfer or a connection.
    pub fn began(&mut self, side: usize, now: f64) {
        let now = sane_seconds(now).unwrap_or(0.0);
        let Some(state) = self.sides.get_mut(side) else {
            return;
        };
        state.start_s = 0.0;
        if let Some(claim) = self.claims.iter_mut().find(|c| c.side == side) {
            claim.since = now;
            claim.reported_at = claim.reported_at.max(now);
            claim.transfer_s = 0.0;
        }
    }

    /// The next chunk for a side that is up and idle (or wants one ahead). See
    /// the module for when it is `None` and when to ask again.
    pub fn claim(&mut self, side: usize, now: f64) -> Option<Range<usize>> {
        let now = sane_seconds(now).unwrap_or(0.0);
        let state = self.sides.get(side).filter(|s| !s.lost)?;
        let (range, twin) = match self.chunk(state, now) {
            Some(range) => (range, false),
            // Its items are on their way.
            None if !self.free.is_empty() => return None,
            None => (self.tail(side, now)?, true),
        };
        let busy = self.claims.iter().any(|c| c.side == side);
        self.free.remove(&range);
        let unstaged = range.len() - self.staged(side, &range);
        self.claims.push(Claim {
            side,
            range: range.clone(),
            since: if busy { f64::INFINITY } else { now },
            reported: 0,
            reported_at: now,
            transfer_s: unstaged as f64 * self.sides[side].side.transfer_s_per_item,
            twin,
        });
        Some(range)
    }

    /// A free range at the side's end.
    fn chunk(&self, state: &State, now: f64) -> Option<Range<usize>> {
        let mut run = match state.side.end {
            End::Front => self.free.first()?.clone(),
            End::Back => self.free.last()?.clone(),
        };
        if state.side.end == End::Back {
            if run.end > state.arrived {
                run.start = run.start.max(state.arrived);
            } else if state.sent < state.arrived && state.sent < run.end {
                // What it would take is on its way.
                return None;
            }
        }
        let free = self.free.len() as f64;
        let courses: Vec<Course> = self.alive().map(|s| s.course(now)).collect();
        // It asks: so it is ready now, whatever was expected.
        let mine = Course {
            ready_s: state.start_s,
            ..state.course(now)
        };
        let fair = worked_by(&mine, finish(free, &courses)).min(free);
        let worth = state.side.chunk_overhead_s / (OVERHEAD * state.pace().max(LEAST_PACE));
        let size = (fair / 2.0).ceil().max(worth.min(fair).ceil()).max(1.0) as usize;
        let size = size.min(run.len());
        Some(match state.side.end {
            End::Front => run.start..run.start + size,
            End::Back => run.end - size..run.end,
        })
    }

    fn alive(&self) -> impl Iterator<Item = &State> {
        self.sides.iter().filter(|s| !s.lost)
    }

    /// How many of `range` have arrived in the side's store.
    fn staged(&self, side: usize, range: &Range<usize>) -> usize {
        let arrived = self.sides[side].arrived;
        range.end.saturating_sub(range.start.max(arrived))
    }

    /// What to work a second time: the last items of another's claim.
    fn tail(&self, side: usize, now: f64) -> Option<Range<usize>> {
        let mine = &self.sides[side];
        let (claim, run, rest) = self
            .claims
            .iter()
            .filter(|c| c.side != side)
            .filter_map(|claim| {
                let run = self.unshared(claim, side, now)?;
                let rest = self.rest(claim, now);
                Some((claim, run, rest))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2))?;
        let open = self.pending(claim).len().max(1) as f64;
        let theirs = rest / open;
        let overhead = mine.side.chunk_overhead_s;
        let unstaged = if run.start < mine.arrived {
            mine.side.transfer_s_per_item
        } else {
            0.0
        };
        let each = mine.pace() + unstaged;
        let wanted = ((rest - overhead) / (theirs + each)).round();
        if wanted < 1.0 {
            return None;
        }
        let size = (wanted as usize).min(run.len());
        let shared = f64::max((open - size as f64) * theirs, overhead + size as f64 * each);
        let gain = rest - shared;
        (gain > TAIL_GAIN.1 && gain > TAIL_GAIN.0 * rest).then(|| run.end - size..run.end)
    }

    /// The last run of items in a claim that nobody else works in earnest.
    fn unshared(&self, claim: &Claim, side: usize, now: f64) -> Option<Range<usize>> {
        let mut open = self.pending(claim);
        for other in &self.claims {
            let same = other.side == claim.side && other.range == claim.range;
            let overdue = self.rest(other, now) > 0.0 && self.late(other, now) > 1.0;
            if !same && (other.side == side || !overdue) {
                open.remove(&other.range);
            }
        }
        open.last().cloned()
    }

    /// Items of a claim that are not done and not reported in progress.
    fn unreported(&self, claim: &Claim) -> Ranges {
        self.open
            .within(&(claim.range.start + claim.reported..claim.range.end))
    }

    /// Seconds per item of a claim under way: what its reports say weighs as much
    /// as the items that they stand on. So a prediction that is wrong by far is
    /// found out before the claim is done.
    fn pace_of(claim: &Claim, state: &State) -> f64 {
        let items = claim.reported as f64;
        let seconds = claim.reported_at - claim.since;
        if items < 1.0 || !seconds.is_finite() || seconds <= 0.0 {
            return state.pace();
        }
        (seconds + PRIOR_ITEMS * state.pace()) / (items + PRIOR_ITEMS)
    }

    /// Items of a claim that another could do: those not reported in progress, or
    /// all that are not done when only the results are outstanding.
    fn pending(&self, claim: &Claim) -> Ranges {
        let unreported = self.unreported(claim);
        if unreported.is_empty() {
            self.open.within(&claim.range)
        } else {
            unreported
        }
    }

    /// Seconds in which the rest of a claim was to be done, and seconds since
    /// its last report.
    fn due(&self, claim: &Claim, now: f64) -> (f64, f64) {
        let state = &self.sides[claim.side];
        let mut due = self.unreported(claim).len() as f64 * Self::pace_of(claim, state);
        let began = if claim.since.is_finite() {
            claim.since
        } else {
            // It waits behind the side's other claims.
            due += self
                .claims
                .iter()
                .filter(|c| c.side == claim.side)
                .take_while(|c| c.range != claim.range)
                .map(|c| self.unreported(c).len() as f64 * state.pace())
                .sum::<f64>();
            claim.reported_at
        };
        if claim.reported == 0 {
            due += state.side.chunk_overhead_s + claim.transfer_s + state.start_s;
        }
        (due, (now - claim.reported_at.max(began)).max(0.0))
    }

    /// Seconds until a claim is expected to be done. One that is late is
    /// expected to be as late again.
    fn rest(&self, claim: &Claim, now: f64) -> f64 {
        let (due, passed) = self.due(claim, now);
        (due - passed).abs()
    }

    /// How many times its due time a claim is late.
    fn late(&self, claim: &Claim, now: f64) -> f64 {
        let (due, passed) = self.due(claim, now);
        (passed - due) / due.max(LEAST_PACE)
    }

    /// Takes in that a side's oldest claim has progressed to `items` of its
    /// items, whose results have not come yet.
    pub fn progress(&mut self, side: usize, items: usize, now: f64) {
        let now = sane_seconds(now).unwrap_or(0.0);
        if let Some(claim) = self.claims.iter_mut().find(|c| c.side == side)
            && items > claim.reported
        {
            claim.reported = items.min(claim.range.len());
            claim.reported_at = claim.reported_at.max(now);
        }
    }

    /// Takes in a side's results for `range`, a claim of its or a part of one
    /// (results that come late, after a failure, are as good). Returns the
    /// ranges that were not done before: their results are the answer's, all
    /// others are to be dropped.
    pub fn done(&mut self, side: usize, range: Range<usize>, now: f64) -> Vec<Range<usize>> {
        let now = sane_seconds(now).unwrap_or(0.0);
        let range = range.start.min(self.items)..range.end.min(self.items);
        if range.is_empty() || side >= self.sides.len() {
            return Vec::new();
        }
        let new = self.open.remove(&range);
        self.free.remove(&range);
        let state = &mut self.sides[side];
        state.counted += new.len();
        state.twice += range.len() - new.len();
        for claim in self.claims.iter_mut().filter(|c| c.side == side) {
            let both = claim.range.start.max(range.start)..claim.range.end.min(range.end);
            if !both.is_empty() {
                claim.reported = claim.reported.max(both.end - claim.range.start);
                claim.reported_at = claim.reported_at.max(now);
            }
        }
        self.settle(side, now, Some(&range));
        new.into_vec()
    }

    /// Ends claims of a side that have nothing left, learns its pace from the
    /// one that `range` ended, and starts the next one's clock.
    fn settle(&mut self, side: usize, now: f64, range: Option<&Range<usize>>) {
        let mut learned = None;
        let open = &self.open;
        self.claims.retain(|claim| {
            let over = claim.side == side
                && range.is_some_and(|r| r.end >= claim.range.end && r.start < claim.range.end)
                && open.within(&claim.range).is_empty();
            if over && claim.since.is_finite() {
                learned = Some((claim.range.len(), now - claim.since - claim.transfer_s));
            }
            !over
        });
        if let Some((items, seconds)) = learned {
            let state = &mut self.sides[side];
            let worked = (seconds - state.side.chunk_overhead_s - state.start_s).max(0.0);
            state.start_s = 0.0;
            state.worked.0 = FORGET * state.worked.0 + worked;
            state.worked.1 = FORGET * state.worked.1 + items as f64;
        }
        self.start_next(side, now);
    }

    fn start_next(&mut self, side: usize, now: f64) {
        if let Some(next) = self.claims.iter_mut().find(|c| c.side == side)
            && next.since.is_infinite()
        {
            next.since = now;
            next.reported_at = now;
        }
    }

    /// A side gives back `range`, a claim of its: it failed, or it was told to
    /// stop since the claim was moot. What is not done and held by nobody else
    /// is free again. Returns how many items that are.
    pub fn failed(&mut self, side: usize, range: Range<usize>, now: f64) -> usize {
        let now = sane_seconds(now).unwrap_or(0.0);
        let before = self.free.len();
        let (gone, kept): (Vec<Claim>, Vec<Claim>) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|c| c.side == side && c.range == range);
        self.claims = kept;
        for claim in gone {
            let mut back = self.open.within(&claim.range);
            for other in &self.claims {
                back.remove(&other.range);
            }
            for run in back.into_vec() {
                self.free.insert(run);
            }
        }
        self.start_next(side, now);
        self.free.len() - before
    }

    /// A side is gone: all it held is free again, and it gets nothing more.
    /// Returns how many items became free.
    pub fn lost(&mut self, side: usize, now: f64) -> usize {
        let Some(state) = self.sides.get_mut(side) else {
            return 0;
        };
        state.lost = true;
        let held: Vec<Range<usize>> = self
            .claims
            .iter()
            .filter(|c| c.side == side)
            .map(|c| c.range.clone())
            .collect();
        held.into_iter()
            .map(|range| self.failed(side, range, now))
            .sum()
    }

    /// A side that was lost is up again, from `now` on.
    pub fn revived(&mut self, side: usize, now: f64) {
        if let Some(state) = self.sides.get_mut(side) {
            state.lost = false;
            state.side.ready_at = sane_seconds(now).unwrap_or(0.0);
        }
    }

    /// The claims of a side whose items have all been done by others: it is to
    /// be told to stop, and then [`failed`](Self::failed) is to be called.
    #[must_use]
    pub fn moot(&self, side: usize) -> Vec<Range<usize>> {
        self.claims
            .iter()
            .filter(|c| c.side == side && self.open.within(&c.range).is_empty())
            .map(|c| c.range.clone())
            .collect()
    }

    /// Where the work on a range can end: behind its last item that is not done;
    /// `None` when all of it is.
    #[must_use]
    pub fn open_end(&self, range: &Range<usize>) -> Option<usize> {
        self.open.within(range).last().map(|run| run.end)
    }

    /// What a side holds, oldest first.
    #[must_use]
    pub fn held(&self, side: usize) -> Vec<Range<usize>> {
        self.claims
            .iter()
            .filter(|c| c.side == side)
            .map(|c| c.range.clone())
            .collect()
    }

    /// How many items of `range` have still to travel to a side when it works
    /// them now; none for a side that nothing travels to.
    #[must_use]
    pub fn unstaged(&self, side: usize, range: &Range<usize>) -> usize {
        match self.sides.get(side) {
            Some(state) if state.side.transfer_s_per_item > 0.0 => {
                range.len() - self.staged(side, range)
            }
            _ => 0,
        }
    }

    /// Whether a side works `range` a second time.
    #[must_use]
    pub fn is_twin(&self, side: usize, range: &Range<usize>) -> bool {
        self.claims
            .iter()
            .any(|c| c.side == side && c.range == *range && c.twin)
    }

    /// The next items to send to a side's store, from the back down: about a quarter
    /// of a second's worth, and no more than it is expected to work until the sides
    /// meet. `None` when nothing more is to be sent now. Say
    /// [`staged`](Self::staged_up_to) when they have arrived.
    pub fn stage(&mut self, side: usize, now: f64) -> Option<Range<usize>> {
        let now = sane_seconds(now).unwrap_or(0.0);
        let state = self.sides.get(side).filter(|s| !s.lost)?;
        if state.side.end == End::Front || self.open.is_empty() {
            return None;
        }
        let each = state.side.transfer_s_per_item;
        let piece = if each > 0.0 {
            ((PIECE_S / each) as usize).max(1)
        } else {
            self.items
        };
        // Nobody needs to be sent what is done or under way elsewhere.
        let end = self.free.last().map_or(0, |run| run.end).min(state.sent);
        let least = self.free.first().map_or(end, |run| run.start);
        let courses: Vec<Course> = self.sides.iter().map(|s| s.course(now)).collect();
        let left = self.open.len() as f64;
        let share = worked_by(&courses[side], finish(left, &courses)).min(left);
        if share < 0.5 {
            return None;
        }
        let wanted = (share * 1.1).ceil() as usize + piece;
        // What it did or holds already is part of neither.
        let staged_open = self
            .open
            .within(&(state.sent.min(self.items)..self.items))
            .len();
        if staged_open >= wanted || end <= least {
            return None;
        }
        let size = piece.min(wanted - staged_open).min(end - least).max(1);
        let range = end - size..end;
        self.sides[side].sent = range.start;
        Some(range)
    }

    /// Items that [`stage`](Self::stage) gave have arrived, for this side or for
    /// another whose store it shares.
    pub fn staged_up_to(&mut self, side: usize, range: &Range<usize>) {
        if let Some(state) = self.sides.get_mut(side)
            && range.end >= state.arrived
        {
            state.arrived = state.arrived.min(range.start);
            state.sent = state.sent.min(state.arrived);
        }
    }

    /// What was on its way to a side's store did not arrive.
    pub fn stage_failed(&mut self, side: usize) {
        if let Some(state) = self.sides.get_mut(side) {
            state.sent = state.arrived;
        }
    }

    /// Seconds from `now` until the batch is expected to be complete; infinite
    /// when no side is left.
    #[must_use]
    pub fn expected_rest(&self, now: f64) -> f64 {
        let now = sane_seconds(now).unwrap_or(0.0);
        let courses: Vec<Course> = self.alive().map(|s| s.course(now)).collect();
        finish(self.open.len() as f64, &courses)
    }
}
