//! Load on a warm function: closed-loop, in which each connection sends when it has its answer, and open-loop, in which
//! requests are due at a constant rate.
//!
//! In a closed loop a stall of the gateway also stalls the callers: the requests that would have met it are never sent,
//! and its percentiles are too good (coordinated omission). The open loop counts each latency from the moment at which
//! the request was due. The moments come from a thread of their own, since the async timer has steps of a millisecond;
//! how late it was itself is in the report.

use super::rounds::Bench;
use super::target::{Missed, Target, read};
use crate::cli::client::{Client, Exchange};
use crate::cli::failed::Failed;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use rand::seq::SliceRandom;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Requests on their way at once, at most: what comes beyond is counted as not sent.
const MOST_AT_ONCE: usize = 1024;
/// Part of what the closed loop reached that the open loop asks for, unless told.
const SHARE: f64 = 0.5;
/// Fewest requests of an open-loop pass, where no rate was given.
const FEWEST: f64 = 10.0;

/// The loads of one target.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    /// Index of what was measured.
    pub(super) target: usize,
    /// Seconds of answers, in blocks of one second of a pass.
    pub(super) closed: Vec<Vec<f64>>,
    /// Requests a second of each pass.
    pub(super) closed_rates: Vec<f64>,
    /// Seconds of answers from when each request was due, in blocks of one second of a pass.
    pub(super) open: Vec<Vec<f64>>,
    /// Requests a second that were asked for.
    pub(super) open_rate: Option<f64>,
    /// And that were answered, of each pass.
    pub(super) open_rates: Vec<f64>,
    /// How late each request was sent by this generator, seconds.
    pub(super) late: Vec<f64>,
    /// Requests that were due and not sent, since too many were on their way.
    pub(super) unsent: usize,
    /// Requests that failed, and the first reason.
    pub(super) failed: usize,
    pub(super) why: Option<String>,
}

/// One answer: when it was due or sent, since the pass began, and how long it took.
type Timed = (f64, Result<f64, String>);

impl Bench<'_> {
    /// Loads of every target, in passes whose order is drawn anew.
    pub(super) async fn loads(&mut self, loads: &mut Vec<Loads>) -> Result<(), Failed> {
        if self.options.load_time.is_zero() {
            return Ok(());
        }
        loads.extend((0..self.targets.len()).map(|target| Loads {
            target,
            ..Loads::default()
        }));
        for pass in 0..self.options.load_passes {
            let mut order: Vec<usize> = (0..self.targets.len()).collect();
            order.shuffle(&mut self.rng);
            for index in order {
                let target = Rc::clone(&self.targets[index]);
                let label = target.label();
                let phase = |kind: &str| format!("{label}: {kind} load, pass {}", pass + 1);
                match self.warm_up(&target).await {
                    Ok(()) => {}
                    Err(Missed::End(failed)) => return Err(failed),
                    Err(Missed::Fault(text)) => {
                        self.progress.note(&format!("{label}: no load: {text}"));
                        loads[index].failed += 1;
                        loads[index].why.get_or_insert(text);
                        continue;
                    }
                }
                let load = &mut loads[index];
                let client = self.hands.client;
                let length = self.options.load_time;
                self.progress.phase(&phase("closed-loop"));
                let closed = closed(client, &target, self.options.connections, length).await;
                load.closed_rates
                    .push(answered(&closed) / length.as_secs_f64());
                load.failures(&closed);
                load.closed.extend(blocks(&closed));
                self.progress.phase(&phase("open-loop"));
                let rate = *load.open_rate.get_or_insert_with(|| {
                    let reached = load.closed_rates.first().copied().unwrap_or(0.0);
                    self.options
                        .rate
                        .unwrap_or_else(|| (reached * SHARE).max(FEWEST / length.as_secs_f64()))
                });
                let (open, late, unsent) = open(client, &target, rate, length).await;
                load.open_rates.push(answered(&open) / length.as_secs_f64());
                load.failures(&open);
                load.open.extend(blocks(&open));
                load.late.extend(late);
                load.unsent += unsent;
            }
        }
        self.progress.finish();
        Ok(())
    }

    async fn warm_up(&mut self, target: &Target) -> Result<(), Missed> {
        self.hands.ready(target, false).await?;
        self.hands.call(target).await?;
        self.calibration.run();
        Ok(())
    }
}

impl Loads {
    fn failures(&mut self, answers: &[Timed]) {
        for (_, answer) in answers {
            if let Err(text) = answer {
                self.failed += 1;
                self.why.get_or_insert_with(|| text.clone());
            }
        }
    }
}

fn answered(answers: &[Timed]) -> f64 {
    answers.iter().filter(|(_, answer)| answer.is_ok()).count() as f64
}

/// Answers of one second hang together.
fn blocks(answers: &[Timed]) -> Vec<Vec<f64>> {
    let mut blocks: Vec<Vec<f64>> = Vec::new();
    for (at, answer) in answers {
        if let Ok(seconds) = answer {
            let place = at.max(0.0) as usize;
            if blocks.len() <= place {
                blocks.resize(place + 1, Vec::new());
            }
            blocks[place].push(*seconds);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

async fn ask(client: &Client, target: &Target, exchange: &Exchange) -> Result<f64, String> {
    match client.exchange(exchange).await {
        Ok(exchanged) => match read(target, exchanged) {
            Ok(answered) => Ok(answered.seconds),
            Err(Missed::Fault(text)) => Err(text),
            Err(Missed::End(failed)) => Err(failed.to_string()),
        },
        Err(failed) => Err(failed.to_string()),
    }
}

async fn closed(
    client: &Client,
    target: &Target,
    connections: u32,
    length: Duration,
) -> Vec<Timed> {
    let begun = Instant::now();
    let one = || async {
        let mut answers = Vec::new();
        while begun.elapsed() < length {
            let at = begun.elapsed().as_secs_f64();
            let answer = ask(client, target, &target.outer).await;
            let failed = answer.is_err();
            answers.push((at, answer));
            if failed {
                // What fails at once is not asked for a million times.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        answers
    };
    let all = join_all((0..connections).map(|_| one())).await;
    all.into_iter().flatten().collect()
}

/// Answers, how late each request was sent, and how many were not.
async fn open(
    client: &Client,
    target: &Target,
    rate: f64,
    length: Duration,
) -> (Vec<Timed>, Vec<f64>, usize) {
    let count = ((rate * length.as_secs_f64()) as u64).max(1);
    let (due, mut moments) = mpsc::unbounded_channel();
    let begun = Instant::now() + Duration::from_millis(20);
    let pace = std::thread::spawn(move || {
        for number in 0..count {
            let moment = begun + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
            if due.send(moment).is_err() {
                return;
            }
        }
    });
    let mut under_way = FuturesUnordered::new();
    let (mut answers, mut late, mut unsent) = (Vec::new(), Vec::new(), 0);
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            biased;
            moment = moments.recv(), if more => match moment {
                None => more = false,
                Some(_) if under_way.len() >= MOST_AT_ONCE => unsent += 1,
                Some(moment) => {
                    late.push(moment.elapsed().as_secs_f64());
                    under_way.push(async move {
                        let answer = ask(client, target, &target.outer).await;
                        let since = moment.elapsed().as_secs_f64();
                        let at = moment.saturating_duration_since(begun).as_secs_f64();
                        // From when it was due, not from when it was sent.
                        (at, answer.map(|_| since))
                    });
                }
            },
            Some(answer) = under_way.next(), if !under_way.is_empty() => answers.push(answer),
        }
    }
    // It has sent its last moment, or was told that nobody listens.
    drop(moments);
    let _ = pace.join();
    (answers, late, unsent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_second_make_a_block_and_failures_none() {
        let answers = vec![
            (0.1, Ok(1.0)),
            (0.9, Ok(2.0)),
            (2.5, Ok(3.0)),
            (2.6, Err("x".to_owned())),
        ];
        assert_eq!(blocks(&answers), [vec![1.0, 2.0], vec![3.0]]);
        assert_eq!(answered(&answers), 3.0);
        let mut loads = Loads::default();
        loads.failures(&answers);
        assert_eq!((loads.failed, loads.why.as_deref()), (1, Some("x")));
    }
}
