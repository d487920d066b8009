//! The items of a batch, spread over every place of the pod: one shared queue, from which each worker
//! takes a few items at a time, so that a fast device works more of them (mission M18).
//!
//! On the CPU, a worker's threads each take items, decode them and run the net on them alone: no
//! thread waits for another, and decoding on one overlaps with inference on the next. On a GPU, CPU
//! threads decode ahead of it into a bounded queue.

use crate::Placement;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;
use stoic_protocol::Problem;
use stoic_sdk::{Call, ItemError};

use crate::Place;

/// What a worker runs: a model at a place, and what it makes of decoded items.
pub trait Model: Send {
    /// A decoded item.
    type Input: Send;
    /// What comes out for one item.
    type Output: Send;

    /// Runs the model on decoded items, one output for each and in their order.
    ///
    /// # Errors
    /// A problem that ends the batch.
    fn infer(&mut self, inputs: Vec<Self::Input>) -> Result<Vec<Self::Output>, Problem>;
}

/// One thread's model.
#[derive(Debug)]
struct Lane<M> {
    place: Place,
    model: Mutex<M>,
}

/// The workers of a pod. Any number of batches may run at once; each model serves one at a time.
#[derive(Debug)]
pub struct Workers<M> {
    lanes: Vec<Lane<M>>,
    threads: usize,
    batch: usize,
}

/// Most items in one inference.
const BATCH: usize = 32;
/// Items a CPU thread takes at once: few enough that all threads end together and that activations
/// stay in the caches.
const CPU_BATCH: usize = 8;

impl<M: Model> Workers<M> {
    /// Makes one model for each GPU and for each CPU thread. `make` is called on this thread, with a
    /// place of one thread on the CPU; it should share weights, not load them anew.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(
        placement: &Placement,
        mut make: impl FnMut(&Place) -> Result<M, Problem>,
    ) -> Result<Self, Problem> {
        let mut lanes = Vec::new();
        for place in placement.places() {
            let copies = if place.device.is_cuda() {
                1
            } else {
                place.threads
            };
            for _ in 0..copies {
                let model = Mutex::new(make(place)?);
                lanes.push(Lane {
                    place: *place,
                    model,
                });
            }
        }
        Ok(Self {
            lanes,
            threads: placement.threads(),
            batch: BATCH,
        })
    }

    /// With another limit on the items of one inference (default 32).
    #[must_use]
    pub fn with_batch(mut self, items: usize) -> Self {
        self.batch = items.max(1);
        self
    }

    /// Runs one inference on one worker, outside of any batch, with all its threads: for a first run
    /// at load.
    ///
    /// # Errors
    /// What the model says.
    pub fn once(&self, inputs: Vec<M::Input>) -> Result<Vec<M::Output>, Problem> {
        let lane = self.lanes.first().ok_or_else(no_worker)?;
        set_threads(lane.place.threads);
        lock(&lane.model).infer(inputs)
    }

    /// Decodes and infers `items` items; results come back in order, an error of an item in its own
    /// place. Blocking. `decode` is called from several threads at once; it gets the position.
    ///
    /// Time goes to the stages `decode` and `infer` of the call, and progress is reported.
    ///
    /// # Errors
    /// The problem that ended the batch: the model's, or the call's where it was cancelled; then at
    /// most the items in work are finished.
    pub fn run<D>(
        &self,
        items: usize,
        decode: D,
        call: &Call,
    ) -> Result<Vec<Result<M::Output, ItemError>>, Problem>
    where
        D: Fn(usize) -> Result<M::Input, ItemError> + Sync,
    {
        let run = Run {
            items,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            decode,
            call,
        };
        let gpus = self.lanes.iter().filter(|lane| lane.place.device.is_cuda());
        let gpus = gpus.count();
        let (results, collected) = mpsc::channel();
        let (ready, decoded) = mpsc::sync_channel(self.batch * gpus.max(1) * 2);
        let decoded = Mutex::new(decoded);
        std::thread::scope(|scope| {
            let run = &run;
            let decoded = &decoded;
            // Fewer items than threads: each item gets a share of the threads.
            let cpu_lanes = self.lanes.len() - gpus;
            let used = items.clamp(1, cpu_lanes.max(1));
            let mut cpu_seen = 0;
            for lane in &self.lanes {
                let results = results.clone();
                if lane.place.device.is_cuda() {
                    scope.spawn(move || self.gpu_lane(lane, run, decoded, &results));
                } else if cpu_seen < used {
                    let threads = cpu_lanes / used + usize::from(cpu_seen < cpu_lanes % used);
                    cpu_seen += 1;
                    scope.spawn(move || self.cpu_lane(lane, threads, run, &results));
                }
            }
            if gpus > 0 {
                for _ in 0..self.threads {
                    let (ready, results) = (ready.clone(), results.clone());
                    scope.spawn(move || run.decode_ahead(&ready, &results));
                }
            }
            drop((results, ready));
            run.collect(&collected)
        })
    }

    fn cpu_lane<D>(
        &self,
        lane: &Lane<M>,
        threads: usize,
        run: &Run<'_, D>,
        results: &mpsc::Sender<Message<M::Output>>,
    ) where
        D: Fn(usize) -> Result<M::Input, ItemError> + Sync,
    {
        set_threads(threads);
        let lanes = self.lanes.len();
        loop {
            let positions = run.take(self.batch.min(CPU_BATCH), lanes);
            if positions.is_empty() {
                return;
            }
            let mut inputs = Vec::with_capacity(positions.len());
            let mut accepted = Vec::with_capacity(positions.len());
            for position in positions {
                if run.stopped() {
                    return;
                }
                match run.decode(position) {
                    Ok(input) => {
                        inputs.push(input);
                        accepted.push(position);
                    }
                    Err(error) => send(results, position, Err(error)),
                }
            }
            if !infer(lane, inputs, &accepted, run.call, results) {
                run.stop.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    fn gpu_lane<D>(
        &self,
        lane: &Lane<M>,
        run: &Run<'_, D>,
        decoded: &Mutex<mpsc::Receiver<(usize, M::Input)>>,
        results: &mpsc::Sender<Message<M::Output>>,
    ) {
        loop {
            let mut positions = Vec::new();
            let mut inputs = Vec::new();
            {
                // Whoever holds the queue fills its batch from it; the others compute meanwhile.
                let queue = lock(decoded);
                while inputs.len() < self.batch {
                    let Ok((position, input)) = queue.recv() else {
                        break;
                    };
                    positions.push(position);
                    inputs.push(input);
                }
            }
            if inputs.is_empty() {
                return;
            }
            // After a stop the queue is still emptied, so that no decoder waits for room in it.
            if !run.stopped() && !infer(lane, inputs, &positions, run.call, results) {
                run.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What lanes tell the thread that collects.
enum Message<O> {
    Item(usize, Result<O, ItemError>),
    Failed(Problem),
}

/// One batch while it runs.
struct Run<'a, D> {
    items: usize,
    next: AtomicUsize,
    stop: AtomicBool,
    decode: D,
    call: &'a Call,
}

impl<D> Run<'_, D> {
    /// Takes the next few items off the queue: at most `most`, fewer toward the end.
    fn take(&self, most: usize, lanes: usize) -> std::ops::Range<usize> {
        let mut start = self.next.load(Ordering::Relaxed);
        loop {
            let left = self.items.saturating_sub(start);
            if left == 0 || self.stopped() {
                return 0..0;
            }
            let count = left.div_ceil(lanes * 2).clamp(1, most).min(left);
            match self.next.compare_exchange_weak(
                start,
                start + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return start..start + count,
                Err(now) => start = now,
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.call.cancelled()
    }

    fn decode<I>(&self, position: usize) -> Result<I, ItemError>
    where
        D: Fn(usize) -> Result<I, ItemError> + Sync,
    {
        let began = Instant::now();
        let input = (self.decode)(position);
        self.call.stage("decode", began.elapsed());
        input
    }

    fn decode_ahead<I, O>(
        &self,
        ready: &mpsc::SyncSender<(usize, I)>,
        results: &mpsc::Sender<Message<O>>,
    ) where
        D: Fn(usize) -> Result<I, ItemError> + Sync,
    {
        loop {
            let positions = self.take(1, 1);
            if positions.is_empty() {
                return;
            }
            for position in positions {
                match self.decode(position) {
                    Ok(input) => {
                        if ready.send((position, input)).is_err() {
                            return;
                        }
                    }
                    Err(error) => send(results, position, Err(error)),
                }
            }
        }
    }

    fn collect<O>(
        &self,
        messages: &mpsc::Receiver<Message<O>>,
    ) -> Result<Vec<Result<O, ItemError>>, Problem> {
        let mut results: Vec<Option<Result<O, ItemError>>> = Vec::new();
        results.resize_with(self.items, || None);
        let mut done = 0;
        for message in messages {
            match message {
                Message::Item(position, result) => {
                    if let Some(slot) = results.get_mut(position) {
                        done += usize::from(slot.is_none());
                        *slot = Some(result);
                    }
                    self.call.progress(done as u64, self.items as u64, None);
                }
                Message::Failed(problem) => return Err(problem),
            }
        }
        self.call.check()?;
        results
            .into_iter()
            .map(|result| {
                result.ok_or_else(|| {
                    Problem::new(
                        500,
                        "worker_lost",
                        "a worker ended before its items were done",
                    )
                })
            })
            .collect()
    }
}

/// Runs the model and passes its outputs on; false if it failed.
fn infer<M: Model>(
    lane: &Lane<M>,
    inputs: Vec<M::Input>,
    positions: &[usize],
    call: &Call,
    results: &mpsc::Sender<Message<M::Output>>,
) -> bool {
    if inputs.is_empty() {
        return true;
    }
    let mut model = lock(&lane.model);
    let began = Instant::now();
    let outputs = model.infer(inputs);
    call.stage("infer", began.elapsed());
    drop(model);
    let problem = match outputs {
        Ok(outputs) if outputs.len() == positions.len() => {
            for (&position, output) in positions.iter().zip(outputs) {
                send(results, position, Ok(output));
            }
            return true;
        }
        Ok(outputs) => Problem::new(
            500,
            "model_failed",
            format!(
                "the model gave {} outputs for {} items",
                outputs.len(),
                positions.len()
            ),
        ),
        Err(problem) => problem,
    };
    // The collector may have left already, on another lane's problem.
    let _ = results.send(Message::Failed(problem));
    false
}

fn send<O>(results: &mpsc::Sender<Message<O>>, position: usize, result: Result<O, ItemError>) {
    // As above: without a collector nobody wants the result.
    let _ = results.send(Message::Item(position, result));
}

/// Threads of libtorch's operators on the calling thread.
pub(crate) fn set_threads(threads: usize) {
    let threads = crate::forked::allowed(threads);
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A model whose inference panicked holds weights only, which inference does not change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_worker() -> Problem {
    Problem::new(500, "worker_lost", "the pod has no worker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoic_sdk::Context;

    /// Doubles numbers; fails or gives too little where it is told to.
    struct Doubler {
        fails_at: Option<u64>,
    }

    impl Model for Doubler {
        type Input = u64;
        type Output = u64;

        fn infer(&mut self, inputs: Vec<u64>) -> Result<Vec<u64>, Problem> {
            assert!(inputs.len() <= CPU_BATCH);
            if self.fails_at.is_some_and(|at| inputs.contains(&at)) {
                return Err(Problem::new(500, "model_failed", "told to"));
            }
            Ok(inputs.into_iter().map(|input| input * 2).collect())
        }
    }

    fn workers(threads: &str, fails_at: Option<u64>) -> Workers<Doubler> {
        let context = Context::parse(
            |name| (name == "STOIC_THREADS").then(|| threads.to_owned()),
            Vec::new(),
        )
        .unwrap();
        let placement = Placement::from_context(&context).unwrap();
        Workers::new(&placement, |_| Ok(Doubler { fails_at })).unwrap()
    }

    #[test]
    fn results_are_in_order_and_a_bad_item_spoils_no_other() {
        for (threads, items) in [("1", 0), ("1", 7), ("3", 2), ("3", 100)] {
            let decode = |position: usize| match position % 10 {
                3 => Err(ItemError::new("item_corrupt", "told to")),
                _ => Ok(position as u64),
            };
            let results = workers(threads, None)
                .run(items, decode, &Call::detached())
                .unwrap();
            assert_eq!(results.len(), items);
            for (position, result) in results.into_iter().enumerate() {
                match position % 10 {
                    3 => assert_eq!(result.unwrap_err().code, "item_corrupt"),
                    _ => assert_eq!(result.unwrap(), position as u64 * 2),
                }
            }
        }
    }

    #[test]
    fn a_failing_model_ends_the_batch_early() {
        let seen = AtomicUsize::new(0);
        let decode = |position: usize| {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(position as u64)
        };
        let problem = workers("1", Some(20))
            .run(10_000, decode, &Call::detached())
            .unwrap_err();
        assert_eq!(problem.code, "model_failed");
        assert!(seen.load(Ordering::Relaxed) < 100);
    }
}
