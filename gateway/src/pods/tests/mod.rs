//! Pools on a paused clock. Only the site is a double: it says how long each start takes and how it
//! ends, and starts no process.

mod fairness;
mod life;
mod memory;
mod scaling;
mod takeover;

use super::{Expected, Lease, Pace, Pod, Pool, PoolOptions, Sample, Warmer};
use crate::clock::Clock;
use crate::function::{FunctionSpec, PublishedModel, Standby, Warmup};
use crate::sites::{
    Adoption, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A site whose pods are entries in a map.
#[derive(Debug)]
struct TestSite {
    /// How long a start takes.
    takes: Mutex<Duration>,
    /// How every start ends that is begun now; none: well.
    fails: Mutex<Option<StartError>>,
    begun: AtomicU32,
    living: Mutex<HashMap<String, watch::Sender<Option<String>>>>,
    /// What each pod holds; others hold `each`.
    memory: Mutex<HashMap<String, u64>>,
    each: Mutex<Option<u64>>,
    /// What each start went through.
    stages: Mutex<Vec<(&'static str, f64)>>,
}

impl TestSite {
    fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            takes: Mutex::new(takes),
            fails: Mutex::default(),
            begun: AtomicU32::new(0),
            living: Mutex::default(),
            memory: Mutex::default(),
            each: Mutex::default(),
            stages: Mutex::default(),
        })
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    fn living(&self) -> usize {
        self.living.lock().len()
    }

    fn up(&self, name: &str) -> StartedPod {
        let (exit, exited) = watch::channel(None);
        self.living.lock().insert(name.to_owned(), exit);
        StartedPod {
            model: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            id: name.to_owned(),
            exited,
            emulated_s: 0.0,
            stages: self.stages.lock().clone(),
            digest: None,
        }
    }

    /// A pod dies of itself.
    fn kill(&self, name: &str) {
        let exit = self.living.lock().remove(name).expect("it lives");
        let _ = exit.send(Some("killed by signal 9".to_owned()));
    }
}

/// Ends what was begun when the start is dropped.
struct Begun<'a>(&'a TestSite, Option<String>);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.1.take() {
            self.0.living.lock().remove(&name);
        }
    }
}

impl Site for TestSite {
    fn backend(&self) -> &'static str {
        "test"
    }

    fn can_run(&self, _spec: &FunctionSpec) -> Result<(), &'static str> {
        Ok(())
    }

    fn check<'a>(&'a self, _spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>> {
        Box::pin(async { Ok(()) })
    }

    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (takes, fails) = (*self.takes.lock(), self.fails.lock().clone());
        Box::pin(async move {
            let started = self.up(&spec.name);
            let mut begun = Begun(self, Some(spec.name));
            tokio::time::sleep(takes).await;
            if let Some(error) = fails {
                return Err(error);
            }
            begun.1 = None;
            Ok(started)
        })
    }

    fn stop(&self, id: &str, _grace: Duration) -> SiteFuture<'_, ()> {
        if let Some(exit) = self.living.lock().remove(id) {
            let _ = exit.send(Some("stopped".to_owned()));
        }
        Box::pin(async {})
    }

    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async { Adoption::default() })
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        Box::pin(async { 0 })
    }

    fn memory<'a>(&'a self, ids: &'a [String]) -> SiteFuture<'a, HashMap<String, u64>> {
        let (memory, each) = (self.memory.lock().clone(), *self.each.lock());
        let of = |id: &String| Some((id.clone(), memory.get(id).copied().or(each)?));
        let found = ids.iter().filter_map(of).collect();
        Box::pin(async move { found })
    }

    fn logs<'a>(
        &'a self,
        _pod: &'a str,
        _ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(async { Ok(None) })
    }
}

/// Counts first requests, and fails them when told.
#[derive(Debug, Default)]
struct TestWarmer {
    first: AtomicU32,
    fails: Mutex<Option<String>>,
    /// Samples that were asked for, and worked to their end.
    samples: AtomicU32,
    settled: AtomicU32,
}

impl Warmer for TestWarmer {
    fn warm<'a>(
        &'a self,
        _site: &'a str,
        _pod: &'a Pod,
        _model: &'a PublishedModel,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn first<'a>(
        &'a self,
        _reach: SocketAddr,
        _warmup: &'a Warmup,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        self.first.fetch_add(1, Ordering::SeqCst);
        let fails = self.fails.lock().clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            fails.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
        })
    }

    fn sample(&self, _reach: SocketAddr) -> SiteFuture<'_, anyhow::Result<Option<Sample>>> {
        self.samples.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            Ok(Some(Sample {
                content_type: "text/plain".to_owned(),
                bytes: Bytes::from_static(b"one"),
            }))
        })
    }

    fn settle<'a>(
        &'a self,
        _reach: SocketAddr,
        _sample: &'a Sample,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.settled.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

/// What a test wants of a pool.
struct Plan {
    function: &'static str,
    standby: Standby,
    concurrency: u32,
    queue: u32,
    warmup: Option<Warmup>,
    pace: Option<Arc<Pace>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            function: "f",
            standby: Standby::default(),
            concurrency: 1,
            queue: 10_000,
            warmup: None,
            pace: None,
        }
    }
}

fn standby(min: u32, max: u32, idle_s: u64) -> Standby {
    Standby {
        min,
        max,
        idle: seconds(idle_s),
        window: None,
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A pool at a site, and its warmer. Its keeper goes round as long as the test lives.
fn pool_at(site: &Arc<TestSite>, plan: Plan) -> (Arc<Pool>, Arc<TestWarmer>) {
    let options = PoolOptions {
        function: plan.function.to_owned(),
        version: "0123456789".to_owned(),
        runtime: "edge".to_owned(),
        site_name: "here".to_owned(),
        site: Arc::clone(site) as Arc<dyn Site>,
        link: None,
        pod: PodSpec {
            ready_timeout: seconds(120),
            ..PodSpec::default()
        },
        concurrency: plan.concurrency,
        standby: plan.standby,
        queue_length: plan.queue,
        queue_wait: seconds(600),
        attempts: 10,
        backoff: Duration::from_millis(100),
        grace: seconds(1),
        warmup: plan.warmup,
        pace: plan.pace,
        watch: None,
        clock: Clock::starting_at(0.0),
    };
    let warmer: Arc<TestWarmer> = Arc::default();
    let pool = Pool::new(
        options,
        None,
        tokio::runtime::Handle::current(),
        Arc::clone(&warmer) as Arc<dyn Warmer>,
        Arc::new(|_| {}),
    );
    let kept = Arc::downgrade(&pool);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tick.tick().await;
            match kept.upgrade() {
                Some(pool) => pool.maintain(),
                None => return,
            }
        }
    });
    (pool, warmer)
}

fn pool(takes: Duration, plan: Plan) -> (Arc<TestSite>, Arc<Pool>) {
    let site = TestSite::new(takes);
    let (pool, _) = pool_at(&site, plan);
    (site, pool)
}

async fn take(pool: &Arc<Pool>) -> Lease {
    pool.acquire(Expected::default()).await.expect("a pod")
}

/// A caller: waits for a pod and works in it for so long; how long both took, and the pod.
fn caller(pool: &Arc<Pool>, works: Duration) -> tokio::task::JoinHandle<(Duration, Arc<str>)> {
    let pool = Arc::clone(pool);
    let begun = Instant::now();
    tokio::spawn(async move {
        let lease = take(&pool).await;
        pass(works).await;
        let name = Arc::clone(&lease.pod.name);
        drop(lease);
        (begun.elapsed(), name)
    })
}

fn states(pool: &Pool) -> Vec<String> {
    pool.view().into_iter().map(|pod| pod.state).collect()
}
