//! The order of start and stop, nothing else.

use crate::auth::{self, Auth, AuthError, beyond_loopback};
use crate::config::{BackendKind, Config, InvalidConfig};
use crate::controller::Controller;
use crate::gateway::{Gateway, GatewayParts};
use crate::history::History;
use crate::http::{Door, Front};
use crate::inquisitor::{Inquisitor, Subject, watch_links};
use crate::link::EmulatedLink;
use crate::metrics::Metrics;
use crate::peer::{PeerObjects, join_peers};
use crate::scheduler::{FunctionModels, Learner, Scheduler};
use crate::secrets::Secrets;
use crate::sites::{
    DelayTrace, DockerOptions, DockerSite, KubernetesOptions, KubernetesSite, ProcessSite, Site,
};
use crate::storage::Stores;
use crate::tls::FrontTls;
use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use stoic_store::{Credentials, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How often a data folder that another gateway holds is looked at.
const LOOK_FOR_LOCK: Duration = Duration::from_millis(50);
/// How often pools are brought to what they should be.
const KEEP_EVERY: Duration = Duration::from_millis(250);
/// How often expired objects are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] InvalidConfig),
    /// The machine says no.
    #[error("{0:#}")]
    Machine(#[from] anyhow::Error),
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// It could not start; one line says why.
pub fn run(config: Config) -> Result<(), StartFailure> {
    let begun = Instant::now();
    config.validate()?;
    raise_descriptors();
    let traces = delay_traces(&config)?;
    let tls = config.tls.as_ref().map(FrontTls::load).transpose()?;
    let listener = TcpListener::bind(config.listen)
        .map_err(|error| anyhow::anyhow!(port_taken(&config, &error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("stoic")
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let _lock = runtime.block_on(lock_data(&config))?;
    let ended = runtime.block_on(async {
        let gateway = assemble(config, traces).await?;
        let threads = match gateway.config.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let door = tls.clone().map_or(Door::Plain, Door::Tls);
        let front =
            Front::start(&gateway, &listener, &door, threads).context("cannot serve HTTP")?;
        // What the gateway asks of itself needs no certificate.
        let inside = match &tls {
            None => None,
            Some(_) => Some(inside(&gateway).context("cannot serve HTTP on loopback")?),
        };
        let own = inside.as_ref().map_or(front.address(), Front::address);
        info!(address = %front.address(), data = %gateway.config.data.display(), start_ms = begun.elapsed().as_millis(), "ready");
        crate::calls::start(&gateway, own)
            .await
            .context("asynchronous calls")?;
        let mut signals = Signals::new().context("cannot await signals")?;
        let controller = match gateway.config.controller.enabled {
            true => Some(Controller::start(&gateway).await.context("controller")?),
            false => None,
        };
        announce(&gateway, &front, begun.elapsed());
        let tokens = tokio::spawn(auth::watch(
            Arc::clone(&gateway.auth),
            gateway.history.clone(),
        ));
        let certificates = tokio::spawn(async move {
            if let Some(tls) = tls {
                tls.watch().await;
            }
        });
        let keeper = tokio::spawn(keep(Arc::clone(&gateway)));
        let memory = tokio::spawn(keep_memory(Arc::clone(&gateway)));
        let expiry = tokio::spawn(expire(Arc::clone(&gateway)));
        let inquisitor = tokio::spawn(inquire(&gateway));
        let links = tokio::spawn(watch_links(Arc::downgrade(&gateway)));
        signals.next().await;
        gateway.leaving.store(true, Relaxed);
        if !gateway.config.linger.is_zero() {
            let linger = gateway.config.linger;
            info!("told to stop: requests are taken for {} more", humantime::format_duration(linger));
            tokio::select! {
                () = tokio::time::sleep(linger) => {}
                () = signals.next() => {}
            }
        }
        info!("stopping: requests may finish; a second signal ends them");
        for background in [expiry, inquisitor, links, memory, tokens, certificates] {
            background.abort();
        }
        if let Some(controller) = controller {
            controller.stop().await;
        }
        gateway.calls.stop();
        gateway.leases.close();
        let grace = gateway.config.deployment.grace;
        let latest = tokio::time::Instant::now() + grace;
        let draining = async {
            let stop = move || {
                front.stop(grace);
                if let Some(inside) = inside {
                    inside.stop(grace);
                }
            };
            let _ = tokio::task::spawn_blocking(stop).await;
            gateway.calls.settled().await;
            // Those whose callers have left.
            gateway.changes.close();
            let _ = tokio::time::timeout_at(latest, gateway.changes.wait()).await;
            keeper.abort();
            gateway.close(grace).await;
        };
        tokio::select! {
            () = draining => info!("stopped"),
            () = signals.next() => {
                warn!("cut off by a second signal");
                gateway.close(Duration::ZERO).await;
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended.map_err(|error| match error.downcast() {
        Ok(invalid) => StartFailure::Config(invalid),
        Err(error) => StartFailure::Machine(error),
    })
}

/// A front on loopback that answers to the gateway alone.
fn inside(gateway: &Arc<Gateway>) -> std::io::Result<Front> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Front::start(gateway, &listener, &Door::Inside, 1)
}

/// Reads the tokens. Whoever could reach the gateway without one is named before anything is started.
async fn authenticate(config: &Config, history: &History) -> anyhow::Result<Arc<Auth>> {
    let auth = Auth::open(config, history)
        .await
        .map_err(|error| match error {
            AuthError::Given(text) => anyhow::Error::new(InvalidConfig(text)),
            error => error.into(),
        })?;
    let (open, required) = (config.auth.open, config.auth.required);
    if beyond_loopback(config) && !auth.any() && !open && !required {
        return Err(anyhow::Error::new(InvalidConfig(format!(
            "on {} anybody who reaches it could use it, since there is no token yet: make one with \
             `stoic token create --data {} --name NAME --scope admin`, give one in {}, or say --insecure (auth.open = true)",
            config.listen,
            config.data.display(),
            auth::ADMIN_TOKEN
        ))));
    }
    if beyond_loopback(config) && !auth.enforced() {
        warn!(
            "there is no token: everybody who reaches {} may do everything",
            config.listen
        );
    }
    Ok(auth)
}

/// Each caller has a descriptor, and each request one to its pod: as many as this user may have.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!("the limit of open files stays where it is: {error}");
    }
}

/// Puts the rooms together, in the order in which they need each other.
async fn assemble(
    mut config: Config,
    mut traces: HashMap<String, DelayTrace>,
) -> anyhow::Result<Arc<Gateway>> {
    let data = config.data.clone();
    let history = History::open(&data.join("stoic.db"))
        .with_context(|| format!("{}", data.join("stoic.db").display()))?;
    let auth = authenticate(&config, &history).await?;
    let id = history
        .setting("gateway-id", crate::gateway::new_id)
        .await?;
    let credentials = Credentials::new(
        history
            .setting("store-access-key", || {
                Credentials::random().access_key().to_owned()
            })
            .await?,
        history
            .setting("store-secret-key", || {
                Credentials::random().secret_key().to_owned()
            })
            .await?,
    );

    let secrets = Arc::new(Secrets::open(&data).context("the folder of secrets")?);
    let peers = join_peers(&mut config, &history).await?;
    let mut sites: HashMap<String, Arc<dyn Site>> = HashMap::new();
    let mut links = HashMap::new();
    for (name, site) in &config.sites {
        if let Some((_, made)) = peers.get(name) {
            sites.insert(name.clone(), Arc::clone(made) as Arc<dyn Site>);
            continue;
        }
        if let Some(link) = &site.emulated_link {
            let emulated = EmulatedLink::new(link.bandwidth.bytes_per_s(), link.rtt);
            if let Some(file) = &link.outage {
                emulated.down_while(file.clone());
            }
            links.insert(name.clone(), emulated);
        }
        let delays = traces.remove(name);
        let made: Arc<dyn Site> = match site.backend {
            BackendKind::Process => {
                let logs = data.join("logs");
                let zygotes = site.zygote.unwrap_or(true);
                let (secrets, hidden) = (Arc::clone(&secrets), credentials_of(&config));
                ProcessSite::new(name, &id, &logs, delays, secrets, zygotes, &hidden)
                    .with_context(|| format!("site {name}"))?
            }
            BackendKind::Docker => DockerSite::connect(DockerOptions {
                name,
                gateway_id: &id,
                config: site.docker.clone().unwrap_or_default(),
                data: &data,
                delays,
                secrets: Arc::clone(&secrets),
            })
            .await
            .with_context(|| format!("site {name}"))?,
            BackendKind::Kubernetes => KubernetesSite::connect(KubernetesOptions {
                name,
                gateway_id: &id,
                config: site.kubernetes.clone().unwrap_or_default(),
                data: &data,
                delays,
                secrets: Arc::clone(&secrets),
            })
            .await
            .with_context(|| format!("site {name}"))?,
            BackendKind::Gateway => bail!("site {name} was not joined"),
        };
        sites.insert(name.clone(), made);
    }
    let mut adoptable = Vec::new();
    for (name, site) in &sites {
        let adoption = site.adopt().await;
        if adoption.ended > 0 {
            warn!(
                site = %name,
                orphans = adoption.ended,
                "pods of an earlier life of this gateway were ended"
            );
        }
        adoptable.extend(adoption.pods.into_iter().map(|pod| (name.clone(), pod)));
    }

    let hosts = sites
        .iter()
        .map(|(name, site)| (name.clone(), site.host()))
        .collect();
    let folder = data.join("store");
    let elsewhere = peers
        .iter()
        .map(|(name, (peer, _))| {
            let objects = PeerObjects::new(Arc::clone(peer));
            (name.clone(), Store::elsewhere(Arc::new(objects)))
        })
        .collect();
    let stores = Stores::open(&config, &folder, &credentials, &links, &hosts, elsewhere).await?;
    let scheduler = Scheduler::new(&config);
    // The learner publishes into a gateway that exists only after it: it is told where below.
    let target: Arc<OnceLock<std::sync::Weak<Gateway>>> = Arc::default();
    let publish = {
        let target = Arc::clone(&target);
        move |function: &str, version: &str, models: FunctionModels| {
            let gateway = target.get().and_then(std::sync::Weak::upgrade);
            if let Some(deployed) = gateway.and_then(|gateway| gateway.functions.get(function))
                && deployed.function.version == version
            {
                deployed.set_models(models);
            }
        }
    };
    let metrics: Arc<Metrics> = Arc::default();
    let mut learner = Learner::new(
        Arc::clone(&scheduler),
        Arc::clone(&metrics),
        &config,
        Box::new(publish),
    );
    learner.recall(&history).await?;
    let teacher = learner.spawn(&tokio::runtime::Handle::current());
    let functions = history.functions().await?;
    let scales = history.scales().await?;
    let gateway = Gateway::assemble(GatewayParts {
        config,
        functions: Default::default(),
        scheduler,
        teacher,
        stores,
        history,
        metrics,
        auth,
        sites,
        links,
        adoptable,
        secrets,
    });
    let _ = target.set(Arc::downgrade(&gateway));
    for record in functions {
        let name = record.object.metadata.name.clone();
        let started = gateway.start(record.object, record.created, &scales);
        if let Err(failure) = started.await {
            error!(function = %name, "cannot be started: {}", failure.problem);
        }
    }
    gateway.end_unclaimed().await;
    Ok(gateway)
}

fn delay_traces(config: &Config) -> Result<HashMap<String, DelayTrace>, InvalidConfig> {
    let mut traces = HashMap::new();
    for (name, site) in &config.sites {
        if let Some(emulated) = &site.emulated_deployment {
            traces.insert(
                name.clone(),
                DelayTrace::load(emulated, config.placement.seed)?,
            );
        }
    }
    Ok(traces)
}

fn port_taken(config: &Config, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{} is in use by another process; choose another with --listen",
            config.listen
        ),
        _ => format!("cannot listen on {}: {error}", config.listen),
    }
}

/// One gateway per data folder: waits for another one to be gone where the configuration says so.
async fn lock_data(config: &Config) -> anyhow::Result<File> {
    let (data, wait) = (&config.data, config.storage.wait);
    let hint = "choose another folder with --data";
    std::fs::create_dir_all(data)
        .with_context(|| format!("the data folder {} cannot be made; {hint}", data.display()))?;
    let path = data.join("gateway.lock");
    let file = File::create(&path).with_context(|| {
        format!(
            "the data folder {} cannot be written; {hint}",
            data.display()
        )
    })?;
    let is_free = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_free() {
        return Ok(file);
    }
    if !wait.is_zero() {
        info!(data = %data.display(), "another gateway runs on the data folder: waiting for {} s at most", wait.as_secs());
        let mut signals = Signals::new().context("cannot await signals")?;
        let until = Instant::now() + wait;
        while Instant::now() < until {
            tokio::select! {
                () = tokio::time::sleep(LOOK_FOR_LOCK) => {}
                () = signals.next() => bail!("told to stop while another gateway ran on the data folder"),
            }
            if is_free() {
                return Ok(file);
            }
        }
    }
    bail!(
        "another gateway runs on the data folder {}; {hint}",
        data.display()
    );
}

/// Tells a person at a terminal what runs and where.
fn announce(gateway: &Gateway, front: &Front, took: Duration) {
    println!(
        "stoic {} listens on {}://{} ({} ms)",
        env!("CARGO_PKG_VERSION"),
        gateway.config.tls.as_ref().map_or("http", |_| "https"),
        front.address(),
        took.as_millis()
    );
    println!("data      {}", gateway.config.data.display());
    for info in gateway.scheduler.runtimes() {
        let emulated = crate::requester::emulated(info.link_emulated, info.deployment_emulated);
        let note = if emulated.is_empty() {
            String::new()
        } else {
            format!("  (emulated: {emulated})")
        };
        println!("runtime   {} at site {}{note}", info.name, info.site);
    }
}

/// Variables of the gateway's environment that hold what functions must not have.
fn credentials_of(config: &Config) -> Vec<String> {
    let own = [auth::ADMIN_TOKEN, "STOIC_TOKEN", "STOIC_TOKEN_FILE"].map(str::to_owned);
    let stores = config.sites.values().filter_map(|site| site.store.as_ref());
    let stores = stores.flat_map(|of| [of.access_key_env.clone(), of.secret_key_env.clone()]);
    own.into_iter().chain(stores).collect()
}

async fn keep(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(KEEP_EVERY);
    loop {
        tick.tick().await;
        gateway.keep_pods();
    }
}

async fn keep_memory(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(KEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        gateway.keep_memory().await;
    }
}

/// The inquisitor over every pool; it does nothing where it is switched off.
fn inquire(gateway: &Arc<Gateway>) -> impl Future<Output = ()> + Send + use<> {
    let config = gateway.config.inquisitor.clone();
    let (enabled, metrics) = (config.enabled, Arc::clone(&gateway.metrics));
    let gateway = Arc::downgrade(gateway);
    let subjects = move || {
        let Some(gateway) = gateway.upgrade() else {
            return Vec::new();
        };
        let functions = gateway.functions.all();
        let pools = functions.iter().flat_map(|d| d.pools().iter().flatten());
        pools
            .map(|pool| Subject {
                pool: Arc::clone(pool),
                here: pool.options().site.here(),
            })
            .collect()
    };
    async move {
        if enabled {
            Inquisitor::new(config, metrics, subjects).run().await;
        }
    }
}

async fn expire(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tick.tick().await;
        gateway.stores.expire(gateway.config.storage.expire).await;
        gateway.collect_images().await;
        gateway.collect_logs();
    }
}

/// The signals that end a gateway. Made once: one that arrives between two waits is not lost.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
