//! Many calls at once on a cold function, each round beside one cold start alone.

use super::rounds::{Bench, held_to};
use super::target::{Missed, Target, read};
use crate::cli::client::Exchange;
use crate::cli::failed::Failed;
use futures_util::future::join_all;
use rand::Rng;
use std::rc::Rc;
use tokio::time::sleep;

/// The bursts of one target.
#[derive(Debug, Clone)]
pub(super) struct Bursts {
    /// Index of what was measured.
    pub(super) target: usize,
    /// Calls of each.
    pub(super) calls: u32,
    /// By round: seconds of each call of the burst, and of the single cold start.
    pub(super) rounds: Vec<(Vec<f64>, Vec<f64>)>,
    /// By round: how many pods served the burst.
    pub(super) pods: Vec<usize>,
    /// Calls and starts that failed.
    pub(super) faults: Vec<String>,
}

impl Bench<'_> {
    /// Bursts of every target, one target after the other in each round.
    pub(super) async fn bursts(&mut self, bursts: &mut Vec<Bursts>) -> Result<(), Failed> {
        let Some(calls) = self.options.burst else {
            return Ok(());
        };
        bursts.extend((0..self.targets.len()).map(|target| Bursts {
            target,
            calls,
            rounds: Vec::new(),
            pods: Vec::new(),
            faults: Vec::new(),
        }));
        for round in 0..self.options.burst_rounds {
            for (index, of_target) in bursts.iter_mut().enumerate() {
                let target = Rc::clone(&self.targets[index]);
                self.progress.steps(
                    &format!(
                        "burst of {calls}, round {} of {}: {}",
                        round + 1,
                        self.options.burst_rounds,
                        target.label()
                    ),
                    u64::from(round) * self.targets.len() as u64 + index as u64,
                    u64::from(self.options.burst_rounds) * self.targets.len() as u64,
                );
                let single_first = self.rng.random_bool(0.5);
                let mut single = Vec::new();
                let mut together = Burst::default();
                for turn in 0..2 {
                    if (turn == 0) == single_first {
                        match self.single(&target).await {
                            Ok(seconds) => single.push(seconds),
                            Err(Missed::End(failed)) => return Err(failed),
                            Err(Missed::Fault(text)) => of_target.faults.push(text),
                        }
                    } else {
                        match self.burst(&target, calls).await {
                            Ok(burst) => together = burst,
                            Err(Missed::End(failed)) => return Err(failed),
                            Err(Missed::Fault(text)) => of_target.faults.push(text),
                        }
                    }
                }
                of_target.faults.append(&mut together.faults);
                if !together.seconds.is_empty() && !single.is_empty() {
                    of_target.rounds.push((together.seconds, single));
                    of_target.pods.push(together.pods);
                }
            }
        }
        self.progress.finish();
        Ok(())
    }

    async fn single(&mut self, target: &Target) -> Result<f64, Missed> {
        self.hands.empty(target).await?;
        self.end_zygotes(target).await?;
        sleep(self.options.settle).await;
        self.calibration.run();
        self.hands.connect().await?;
        let answered = self.hands.call(target).await?;
        held_to(&answered, "cold")?;
        Ok(answered.seconds)
    }

    async fn burst(&mut self, target: &Target, calls: u32) -> Result<Burst, Missed> {
        self.hands.empty(target).await?;
        self.end_zygotes(target).await?;
        sleep(self.options.settle).await;
        self.calibration.run();
        let client = self.hands.client;
        // A connection for each, so that none has to be made meanwhile.
        let health = Exchange::get("/healthz");
        for connected in join_all((0..calls).map(|_| client.exchange(&health))).await {
            connected?;
        }
        let answers = join_all((0..calls).map(|_| client.exchange(&target.outer))).await;
        let mut burst = Burst::default();
        let mut pods = Vec::new();
        for answer in answers {
            match answer.map_err(Missed::from).and_then(|a| read(target, a)) {
                Ok(answered) => {
                    burst.seconds.push(answered.seconds);
                    pods.extend(answered.pod);
                }
                Err(Missed::End(failed)) => return Err(Missed::End(failed)),
                Err(Missed::Fault(text)) => burst.faults.push(text),
            }
        }
        pods.sort_unstable();
        pods.dedup();
        burst.pods = pods.len();
        Ok(burst)
    }
}

/// One burst.
#[derive(Debug, Default)]
struct Burst {
    seconds: Vec<f64>,
    pods: usize,
    faults: Vec<String>,
}
