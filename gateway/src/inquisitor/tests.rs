//! The inquisitor over real pools, on a paused clock; only the site is a script: it says how long each
//! start takes and how it ends, and starts no process.

use super::{Inquisitor, Subject};
use crate::clock::Clock;
use crate::config::InquisitorConfig;
use crate::function::FunctionSpec;
use crate::function::Standby;
use crate::metrics::Metrics;
use crate::pods::{
    AcquireError, Deployment, Expected, Pod, Pool, PoolOptions, Sample, Standing, Start, Warmer,
};
use crate::sites::{
    Adoption, LogAsk, LogStream, PodSpec, Site, SiteFuture, StartError, StartedPod,
};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How the starts of a site's pods end, one after the other; the last one again and again.
#[derive(Debug, Clone)]
enum Ends {
    Ready(f64),
    Exits(f64),
    Refused,
    Hangs,
}

#[derive(Debug, Default)]
struct ScriptedSite {
    script: Mutex<VecDeque<Ends>>,
    /// Starts that were begun; pods that live.
    begun: Mutex<u32>,
    living: Mutex<HashMap<String, watch::Sender<Option<String>>>>,
}

impl ScriptedSite {
    fn next(&self) -> Ends {
        let mut script = self.script.lock();
        match script.len() {
            0 | 1 => script.front().cloned().unwrap_or(Ends::Refused),
            _ => script.pop_front().unwrap_or(Ends::Refused),
        }
    }
}

impl Site for ScriptedSite {
    fn start(&self, spec: PodSpec) -> SiteFuture<'_, Result<StartedPod, StartError>> {
        *self.begun.lock() += 1;
        let ends = self.next();
        Box::pin(async move {
            let seconds = match ends {
                Ends::Ready(seconds) => seconds,
                Ends::Exits(seconds) => {
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                    return Err(StartError::Exited("exit status 7".to_owned()));
                }
                Ends::Refused => return Err(StartError::Refused("no such image".to_owned())),
                Ends::Hangs => std::future::pending().await,
            };
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            let (exit, exited) = watch::channel(None);
            self.living.lock().insert(spec.name.clone(), exit);
            Ok(StartedPod {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                id: spec.name,
                exited,
                emulated_s: 0.0,
                stages: Vec::new(),
                model: None,
                digest: None,
            })
        })
    }

    fn stop(&self, id: &str, _grace: Duration) -> SiteFuture<'_, ()> {
        if let Some(exit) = self.living.lock().remove(id) {
            let _ = exit.send(Some("stopped".to_owned()));
        }
        Box::pin(async {})
    }

    fn remove_orphans(&self) -> SiteFuture<'_, usize> {
        Box::pin(async { 0 })
    }

    fn backend(&self) -> &'static str {
        "scripted"
    }

    fn can_run(&self, _spec: &FunctionSpec) -> Result<(), &'static str> {
        Ok(())
    }

    fn check<'a>(&'a self, _spec: &'a PodSpec) -> SiteFuture<'a, Result<(), StartError>> {
        Box::pin(async { Ok(()) })
    }

    fn adopt(&self) -> SiteFuture<'_, Adoption> {
        Box::pin(async { Adoption::default() })
    }

    fn logs<'a>(
        &'a self,
        _pod: &'a str,
        _ask: LogAsk,
    ) -> SiteFuture<'a, std::io::Result<Option<LogStream>>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(Debug)]
struct NoModels;

impl Warmer for NoModels {
    fn warm<'a>(
        &'a self,
        _site: &'a str,
        _pod: &'a Pod,
        _model: &'a crate::function::PublishedModel,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn first<'a>(
        &'a self,
        _reach: SocketAddr,
        _warmup: &'a crate::function::Warmup,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn sample(&self, _reach: SocketAddr) -> SiteFuture<'_, anyhow::Result<Option<Sample>>> {
        Box::pin(async { Ok(None) })
    }

    fn settle<'a>(
        &'a self,
        _reach: SocketAddr,
        _sample: &'a Sample,
    ) -> SiteFuture<'a, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

struct Watched {
    site: Arc<ScriptedSite>,
    pool: Arc<Pool>,
    recorded: Arc<Mutex<Vec<Deployment>>>,
    metrics: Arc<Metrics>,
    inquisitor: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.inquisitor.abort();
    }
}

fn minutely() -> InquisitorConfig {
    InquisitorConfig {
        every: Duration::from_secs(60),
        timeout: Duration::from_secs(600),
        daily_budget: 1440,
        daily_time: Duration::from_secs(24 * 3600),
        ..InquisitorConfig::default()
    }
}

/// A pool of one function on one cloud runtime, watched by an inquisitor; it is 6:00 on the first day.
fn watched(config: &InquisitorConfig, script: &[Ends]) -> Watched {
    let site = Arc::new(ScriptedSite::default());
    site.script.lock().extend(script.iter().cloned());
    let recorded: Arc<Mutex<Vec<Deployment>>> = Arc::default();
    let options = PoolOptions {
        function: "f".to_owned(),
        version: "0123456789".to_owned(),
        runtime: "gpu1".to_owned(),
        site_name: "cloud".to_owned(),
        site: Arc::clone(&site) as Arc<dyn Site>,
        link: None,
        pod: PodSpec::default(),
        concurrency: 1,
        standby: Standby {
            min: 0,
            max: 2,
            ..Standby::default()
        },
        queue_length: 10,
        queue_wait: Duration::from_secs(3600),
        attempts: 10,
        backoff: Duration::from_millis(100),
        grace: Duration::from_secs(1),
        warmup: None,
        pace: None,
        watch: config.enabled.then(|| config.probes()),
        clock: Clock::starting_at(6.0 * 3600.0),
    };
    let sink = {
        let recorded = Arc::clone(&recorded);
        Arc::new(move |deployment| recorded.lock().push(deployment))
    };
    let runtime = tokio::runtime::Handle::current();
    let pool = Pool::new(options, None, runtime, Arc::new(NoModels), sink);
    let metrics: Arc<Metrics> = Arc::default();
    let subjects = {
        let pool = Arc::clone(&pool);
        move || {
            let pool = Arc::clone(&pool);
            vec![Subject { pool, here: true }]
        }
    };
    let inquisitor = Inquisitor::new(config.clone(), Arc::clone(&metrics), subjects);
    let inquisitor = tokio::spawn(inquisitor.run()).abort_handle();
    Watched {
        site,
        pool,
        recorded,
        metrics,
        inquisitor,
    }
}

impl Watched {
    fn standing(&self) -> Standing {
        self.pool.standing()
    }

    /// Seconds and success of the probes recorded so far.
    fn probes(&self) -> Vec<(u64, bool)> {
        let recorded = self.recorded.lock();
        let probes = recorded.iter().filter(|d| d.probe);
        probes
            .map(|d| (d.seconds.round() as u64, d.failure.is_none()))
            .collect()
    }

    fn counted(&self, outcome: &str) -> bool {
        let text = self
            .metrics
            .render(std::iter::empty(), std::iter::empty(), 0);
        text.contains(&format!("outcome=\"{outcome}\""))
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_is_deployed_every_minute_and_taken_down() {
    let all = watched(&minutely(), &[Ends::Ready(24.0)]);
    seconds(59).await;
    assert!(all.site.living.lock().is_empty() && !all.standing().probing);
    seconds(3).await;
    assert!(all.standing().probing);
    let view = all.pool.view();
    assert_eq!((view.len(), view[0].probe), (1, true));
    seconds(24).await;
    // Its time is known, and the pod is gone.
    let standing = all.standing();
    let last = standing.last_deployment.expect("measured");
    assert!((last.seconds - 24.0).abs() < 0.1 && last.probe && standing.available);
    assert!(all.pool.view().is_empty() && all.site.living.lock().is_empty());
    // One and a half minutes from one probe's end to the next one's.
    seconds(10 * 60).await;
    let probes = all.probes();
    assert!((7..=8).contains(&probes.len()), "{probes:?}");
    assert!(probes.iter().all(|probe| *probe == (24, true)));
    assert!(all.counted("ready"));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_runtime_is_unavailable_after_the_time_out_and_comes_back() {
    let all = watched(&minutely(), &[Ends::Hangs, Ends::Hangs, Ends::Ready(5.0)]);
    seconds(61 + 598).await;
    assert!(all.standing().available && all.standing().probing);
    seconds(3).await;
    let standing = all.standing();
    assert!(!standing.available && standing.unavailable_since.is_some());
    assert!(
        standing.reason.expect("why").contains("10m"),
        "the time-out"
    );
    assert!(all.pool.load().failing && all.pool.view().is_empty());
    assert!(all.counted("timed_out"));
    // Tried again a minute later, in vain, and then with success.
    seconds(60 + 600 + 5).await;
    assert!(!all.standing().available);
    seconds(60 + 6).await;
    let standing = all.standing();
    assert!(
        standing.available && standing.reason.is_none(),
        "{standing:?}"
    );
    assert_eq!(standing.unavailable_since, None);
    assert_eq!(all.probes(), [(600, false), (600, false), (5, true)]);
}

#[tokio::test(start_paused = true)]
async fn what_real_work_measured_is_not_probed() {
    let all = watched(&minutely(), &[Ends::Ready(3.0)]);
    for _ in 0..20 {
        seconds(40).await;
        // A pod of its own every time: the one before was let go.
        let lease = all.pool.acquire(Expected::default()).await.expect("a pod");
        assert_eq!(lease.start, Start::Cold);
        lease.condemn();
        drop(lease);
    }
    assert_eq!(all.probes(), []);
    let last = all.standing().last_deployment.expect("measured");
    assert!(!last.probe);
    // Left alone for a minute, it is probed again.
    seconds(70).await;
    assert_eq!(all.probes(), [(3, true)]);
}

#[tokio::test(start_paused = true)]
async fn an_invocation_takes_over_the_pod_of_a_probe() {
    let all = watched(&minutely(), &[Ends::Ready(30.0)]);
    seconds(70).await;
    assert!(all.standing().probing);
    let asked = tokio::time::Instant::now();
    let load = all.pool.load();
    let elapsed = load.deploying_s.expect("one is on its way");
    let lease = all.pool.acquire(Expected::default()).await.expect("a pod");
    // It waited for the rest of the probe's deployment only.
    let waited = asked.elapsed().as_secs_f64();
    assert!((waited + elapsed - 30.0).abs() < 0.5, "{waited} {elapsed}");
    assert_eq!(lease.start, Start::Cold);
    assert_eq!(*all.site.begun.lock(), 1);
    assert_eq!(all.probes(), [], "it was real work");
    assert!(all.counted("handed_over"));
    let recorded = all.recorded.lock().clone();
    assert!(recorded.iter().all(|d| (d.seconds - 30.0).abs() < 0.5));
    // It serves on, and as long as more pods may be started, the next probe is due a minute later.
    drop(lease);
    assert_eq!(all.standing().withheld, None);
    assert_eq!(all.pool.view()[0].state, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_probe_gives_way_to_work_on_the_machine_and_waits_until_it_is_quiet() {
    let all = watched(&minutely(), &[Ends::Ready(2.0), Ends::Ready(30.0)]);
    // A pod of the same pool is ready: an invocation in it needs no other.
    let lease = all.pool.acquire(Expected::default()).await.expect("a pod");
    seconds(200).await;
    assert_eq!(*all.site.begun.lock(), 1, "none while work is done here");
    drop(lease);
    seconds(4).await;
    assert!(!all.standing().probing);
    seconds(2).await;
    assert!(all.standing().probing);
    let lease = all.pool.acquire(Expected::default()).await.expect("a pod");
    assert_eq!(lease.start, Start::Warm);
    seconds(1).await;
    assert!(!all.standing().probing && all.counted("gave_way"));
    assert_eq!(all.pool.view().len(), 1);
    drop(lease);
    assert_eq!(all.probes(), [], "nothing was learned from it");
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_a_day_holds_and_the_next_day_has_its_own() {
    let config = InquisitorConfig {
        daily_budget: 5,
        ..minutely()
    };
    let all = watched(&config, &[Ends::Ready(10.0)]);
    seconds(17 * 3600).await;
    assert_eq!(all.probes().len(), 5);
    let standing = all.standing();
    assert_eq!(standing.probes_today, 5);
    assert_eq!(standing.next_probe, Some(24.0 * 3600.0));
    // It was 6:00 at the start.
    seconds(2 * 3600).await;
    assert_eq!(all.probes().len(), 10);
    // The time that probes take is bounded, too.
    let config = InquisitorConfig {
        daily_time: Duration::from_secs(95),
        ..minutely()
    };
    let all = watched(&config, &[Ends::Ready(10.0)]);
    seconds(17 * 3600).await;
    let spent: u64 = all.probes().iter().map(|probe| probe.0).sum();
    assert!((80..=95).contains(&spent), "{spent}");
}

#[tokio::test(start_paused = true)]
async fn failed_starts_are_tried_ten_times_with_a_wait_that_doubles() {
    let all = watched(&minutely(), &[Ends::Exits(0.0)]);
    let asked = tokio::time::Instant::now();
    let error = all
        .pool
        .acquire(Expected::default())
        .await
        .expect_err("no pod");
    // 100 ms, 200 ms, ... 25.6 s between ten tries.
    let waited = asked.elapsed().as_secs_f64();
    assert!((51.1..51.5).contains(&waited), "{waited}");
    assert_eq!(*all.site.begun.lock(), 10);
    let text = error.to_string();
    assert!(
        text.contains("10 tries") && text.contains("exit status 7"),
        "{text}"
    );
    assert!(matches!(error, AcquireError::Start(_)));
    // What used up its tries is unavailable until a probe succeeds.
    assert!(!all.standing().available);
    all.site.script.lock().push_front(Ends::Ready(1.0));
    *all.site.script.lock() = VecDeque::from([Ends::Ready(1.0)]);
    seconds(80).await;
    assert!(all.standing().available);
    // Who can go elsewhere does so after a few tries.
    *all.site.script.lock() = VecDeque::from([Ends::Exits(0.0)]);
    let asked = tokio::time::Instant::now();
    let error = all
        .pool
        .acquire_or_give_way(Expected::default(), || true)
        .await;
    assert!(error.is_err());
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(all.pool.load().failing);
    // Refused is refused: no use in trying again.
    let all = watched(&minutely(), &[Ends::Refused]);
    let asked = tokio::time::Instant::now();
    assert!(all.pool.acquire(Expected::default()).await.is_err());
    assert!(asked.elapsed() < Duration::from_millis(10) && *all.site.begun.lock() == 1);
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_waits_until_the_time_out_is_told_and_the_runtime_is_unavailable() {
    let config = InquisitorConfig {
        timeout: Duration::from_secs(120),
        ..minutely()
    };
    let all = watched(&config, &[Ends::Hangs]);
    let asked = tokio::time::Instant::now();
    let error = all
        .pool
        .acquire(Expected::default())
        .await
        .expect_err("no pod");
    assert!(matches!(error, AcquireError::Unavailable { .. }), "{error}");
    assert!((120.0..121.0).contains(&asked.elapsed().as_secs_f64()));
    assert!(!all.standing().available && all.pool.load().failing);
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_before_a_restart_counts() {
    let config = InquisitorConfig {
        daily_budget: 3,
        ..minutely()
    };
    let all = watched(&config, &[Ends::Ready(10.0)]);
    let record = |at: f64, seconds: f64, ok: bool| crate::history::DeploymentRecord {
        at,
        seconds,
        ok,
        probe: true,
        failure: (!ok).then(|| "not ready".to_owned()),
        ..Default::default()
    };
    // Two probes this morning: one came up, one passed the time-out.
    let earlier = [
        record(5.0 * 3600.0, 9.0, true),
        record(5.5 * 3600.0, 600.0, false),
    ];
    all.pool.recall(earlier.iter());
    let standing = all.standing();
    assert_eq!((standing.available, standing.probes_today), (false, 2));
    assert_eq!(standing.reason.as_deref(), Some("not ready"));
    seconds(600).await;
    assert!(all.standing().available);
    assert_eq!(all.probes().len(), 1, "one was left for today");
}
