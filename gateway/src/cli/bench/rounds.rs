//! The interleaved rounds: each holds every way of every target once, in an order drawn anew.

use super::bare_pod::Cluster;
use super::baseline;
use super::engine::Engine;
use super::machine::Calibration;
use super::options::ColdWarm;
use super::place::Place;
use super::sample::Sample;
use super::target::{Answered, Hands, Missed, Target, at};
use super::ways::Way;
use super::zygotes;
use crate::cli::call::Progress;
use crate::cli::failed::Failed;
use crate::function::Input;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// Faults in a row of one way after which it is given up.
const GIVE_UP: usize = 5;
/// Starts that are tried until one is forked, and the time that what it is forked from gets to come up.
const LOOKS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(150);
/// What drops the page cache.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// A measurement that went wrong.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// Index of what was measured.
    pub(super) target: usize,
    /// In which way.
    pub(super) way: Way,
    /// What went wrong.
    pub(super) text: String,
}

/// The measurements as they go on. What is in here when it is interrupted is what was measured so far.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) options: &'a ColdWarm,
    pub(super) hands: Hands<'a>,
    /// What is measured.
    pub(super) targets: Vec<Rc<Target>>,
    /// Ways of each target, by its index.
    pub(super) ways: Vec<(usize, Way)>,
    pub(super) engine: Option<Engine>,
    /// The cluster, where bare pods are asked for and one answers.
    cluster: Option<Cluster>,
    pub(super) calibration: Calibration,
    pub(super) samples: Vec<Sample>,
    pub(super) faults: Vec<Fault>,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
    /// Rounds that are whole.
    pub(super) rounds: u32,
    pub(super) progress: Progress,
    /// The gateway's process, where it is on this machine.
    gateway: Option<u32>,
    /// Containers that may still be there, and bare pods.
    litter: Vec<String>,
    bare: Vec<String>,
    made: usize,
    pub(super) rng: StdRng,
}

impl<'a> Bench<'a> {
    pub(super) fn new(options: &'a ColdWarm, place: &'a Place, notes: Vec<String>) -> Self {
        Self {
            options,
            hands: Hands::new(&place.client),
            gateway: place.pid,
            targets: Vec::new(),
            ways: Vec::new(),
            engine: Engine::find(),
            cluster: None,
            calibration: Calibration::new(),
            samples: Vec::new(),
            faults: Vec::new(),
            notes,
            rounds: 0,
            progress: Progress::new(false),
            litter: Vec::new(),
            bare: Vec::new(),
            made: 0,
            rng: StdRng::seed_from_u64(options.seed),
        }
    }

    /// Learns what each target sends and how it starts, and brings its files into the page cache.
    pub(super) async fn prepare(&mut self, targets: Vec<Target>) -> Result<(), Failed> {
        for mut target in targets {
            self.progress
                .phase(&format!("{}: a start to see how it starts", target.label()));
            match self.acquaint(&mut target).await {
                Ok(()) => self.targets.push(Rc::new(target)),
                Err(Missed::End(failed)) => return Err(failed),
                Err(Missed::Fault(text)) => {
                    return Err(Failed::Machine(format!(
                        "{} cannot be measured: {text}",
                        target.label()
                    )));
                }
            }
        }
        for index in 0..self.targets.len() {
            let target = Rc::clone(&self.targets[index]);
            let mut ways = vec![Way::Cold, Way::Standby, Way::Warm];
            if target.forks {
                ways.push(Way::Zygote);
            } else {
                self.notes.push(format!(
                    "{} has no row `zygote`: its starts name no stage `fork`, so the site offers no fork-on-demand for it.",
                    target.label()
                ));
            }
            if self.options.drop_caches {
                ways.push(Way::ColdDropped);
            }
            if self.options.baselines().contains(&Way::Direct) {
                ways.push(Way::Direct);
            }
            self.ways.extend(ways.into_iter().map(|way| (index, way)));
        }
        self.plan_baselines().await?;
        self.plan_bare_pods().await;
        Ok(())
    }

    async fn acquaint(&mut self, target: &mut Target) -> Result<(), Missed> {
        if target.spec.input == Input::Batch && target.data.is_none() {
            target.data = Some(self.hands.sample(target, self.options.items).await?);
        }
        target.compose()?;
        // Where starts are forked, the first makes what later ones are forked from.
        target.forks = self.until_forked(target, LOOKS).await?;
        Ok(())
    }

    /// Starts pods until one is forked from a process that stood ready; whether one was.
    async fn until_forked(&mut self, target: &Target, tries: usize) -> Result<bool, Missed> {
        for _ in 0..tries {
            self.hands.empty(target).await?;
            sleep(BETWEEN_LOOKS).await;
            let answered = self.hands.call(target).await?;
            if self.with_stages(answered).await.timing.forked() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends what pods of the target are forked from.
    pub(super) async fn end_zygotes(&self, target: &Target) -> Result<(), Missed> {
        let Some(gateway) = self.gateway.filter(|_| target.forks) else {
            return Ok(());
        };
        zygotes::end(gateway, &target.function, &target.runtime)
            .await
            .map(drop)
            .map_err(Missed::Fault)
    }

    /// Baselines start images, once a function: that of its target on docker, where it has one.
    async fn plan_baselines(&mut self) -> Result<(), Failed> {
        let wanted = self.options.baselines();
        for way in [Way::DockerRun, Way::EngineFloor] {
            if !wanted.contains(&way) {
                continue;
            }
            let missing = match (&self.engine, way) {
                (None, _) => Some("there is no container engine here".to_owned()),
                (_, Way::DockerRun) if !baseline::has_docker().await => {
                    Some("there is no `docker` command here".to_owned())
                }
                _ => None,
            };
            if let Some(missing) = missing {
                self.notes
                    .push(format!("No baseline {}: {missing}.", way.name()));
                continue;
            }
            let mut functions: Vec<&str> = Vec::new();
            for target in &self.targets {
                if !functions.contains(&target.function.as_str()) {
                    functions.push(&target.function);
                }
            }
            let functions: Vec<String> = functions.into_iter().map(str::to_owned).collect();
            for function in functions {
                let of = |docker: bool| {
                    self.targets.iter().position(|target| {
                        target.function == function && (!docker || target.backend == "docker")
                    })
                };
                let Some(index) = of(true).or_else(|| of(false)) else {
                    continue;
                };
                match self.why_no_image(index).await? {
                    Some(why) => self
                        .notes
                        .push(format!("No baseline {} of {function}: {why}.", way.name())),
                    None => self.ways.push((index, way)),
                }
            }
        }
        Ok(())
    }

    /// A bare pod for each target on a cluster.
    async fn plan_bare_pods(&mut self) {
        if !self.options.baselines().contains(&Way::BarePod) {
            return;
        }
        self.cluster = Cluster::find().await;
        if self.cluster.is_none() {
            self.notes
                .push("No baseline bare-pod: no cluster answers (KUBECONFIG).".to_owned());
            return;
        }
        for (index, target) in self.targets.iter().enumerate() {
            let name = &target.function;
            if target.backend != "kubernetes" {
                continue;
            }
            if target.spec.secrets.is_empty() {
                self.ways.push((index, Way::BarePod));
            } else {
                self.notes.push(format!(
                    "No baseline bare-pod of {name}: it has secrets, which only the gateway can give it."
                ));
            }
        }
    }

    async fn start_bare_pod(&mut self, target: &Target) -> Result<(Answered, f64), Missed> {
        let (Some(container), Some(cluster)) = (baseline::container(target), self.cluster.clone())
        else {
            return Err(Missed::Fault("there is nothing to start".to_owned()));
        };
        // No pod of the function's competes for the node.
        self.hands.empty(target).await?;
        self.made += 1;
        let name = format!("stoic-bench-{}-{}", std::process::id(), self.made);
        self.bare.push(name.clone());
        sleep(self.options.settle).await;
        let calibration = self.calibration.run();
        let answered = cluster.run(&name, &container, target).await;
        cluster.remove(&name).await?;
        self.bare.retain(|left| *left != name);
        answered.map(|answered| (answered, calibration))
    }

    async fn why_no_image(&self, index: usize) -> Result<Option<String>, Failed> {
        let spec = &self.targets[index].spec;
        let (Some(image), Some(engine)) = (&spec.image, &self.engine) else {
            return Ok(Some("it has no image".to_owned()));
        };
        if !spec.secrets.is_empty() {
            return Ok(Some(
                "it has secrets, which only the gateway can give it".to_owned(),
            ));
        }
        Ok(match engine.has(image).await? {
            true => None,
            false => Some(format!("image {image} is not on this machine's engine")),
        })
    }

    /// All rounds.
    pub(super) async fn rounds(&mut self) -> Result<(), Failed> {
        for round in 0..self.options.rounds {
            let (mut ways, dropped): (Vec<_>, Vec<_>) = self
                .ways
                .clone()
                .into_iter()
                .partition(|(_, way)| *way != Way::ColdDropped);
            ways.shuffle(&mut self.rng);
            for (index, way) in ways {
                self.one(round, index, way).await?;
            }
            // The page cache is everybody's: dropped last, and filled again before the next round.
            for (index, way) in &dropped {
                self.one(round, *index, *way).await?;
            }
            if !dropped.is_empty() {
                self.fill_cache().await?;
            }
            self.rounds += 1;
        }
        self.progress.finish();
        Ok(())
    }

    async fn one(&mut self, round: u32, index: usize, way: Way) -> Result<(), Failed> {
        let target = Rc::clone(&self.targets[index]);
        let all = u64::from(self.options.rounds) * self.ways.len() as u64;
        self.progress.steps(
            &format!(
                "round {} of {}: {}, {}",
                round + 1,
                self.options.rounds,
                target.label(),
                way.name()
            ),
            (self.samples.len() + self.faults.len()) as u64,
            all,
        );
        if self.given_up(index, way) {
            return Ok(());
        }
        match self.measure(&target, way).await {
            Ok((answered, calibration_s)) => {
                let order = self.samples.len();
                self.samples.push(Sample {
                    round: round as usize,
                    order,
                    target: index,
                    way,
                    seconds: answered.seconds,
                    start: answered.start,
                    pod: answered.pod,
                    timing: answered.timing,
                    calibration_s,
                });
                Ok(())
            }
            Err(Missed::End(failed)) => Err(failed),
            Err(Missed::Fault(text)) => {
                self.progress.note(&format!(
                    "round {}: {}, {}: {text}",
                    round + 1,
                    target.label(),
                    way.name()
                ));
                self.faults.push(Fault {
                    target: index,
                    way,
                    text,
                });
                if self.given_up(index, way) {
                    self.notes.push(format!(
                        "{}, {}: given up after {GIVE_UP} failures without a success.",
                        target.label(),
                        way.name()
                    ));
                }
                Ok(())
            }
        }
    }

    /// Whether a way has failed so often, and never gone well, that it is not tried again.
    fn given_up(&self, index: usize, way: Way) -> bool {
        let is = |target: usize, of: Way| target == index && of == way;
        let failed = self.faults.iter().filter(|f| is(f.target, f.way)).count();
        failed >= GIVE_UP && !self.samples.iter().any(|s| is(s.target, s.way))
    }

    async fn measure(&mut self, target: &Target, way: Way) -> Result<(Answered, f64), Missed> {
        let settle = self.options.settle;
        match way {
            Way::Cold | Way::ColdDropped | Way::Zygote => {
                if way == Way::Zygote {
                    // A cold start before may have ended it.
                    self.until_forked(target, LOOKS).await?;
                }
                self.hands.empty(target).await?;
                if way != Way::Zygote {
                    self.end_zygotes(target).await?;
                }
                if way == Way::ColdDropped {
                    drop_caches().await?;
                }
                sleep(settle).await;
                let calibration = self.calibration.run();
                self.hands.connect().await?;
                let answered = self.hands.call(target).await?;
                let answered = self.with_stages(answered).await;
                held_to(&answered, "cold")?;
                let forked = answered.timing.forked();
                if forked != (way == Way::Zygote) {
                    return Err(Missed::Fault(
                        if forked {
                            "the pod was forked, and is no cold start"
                        } else {
                            "the pod was not forked"
                        }
                        .to_owned(),
                    ));
                }
                Ok((answered, calibration))
            }
            Way::Standby => {
                self.hands.ready(target, true).await?;
                sleep(settle).await;
                let calibration = self.calibration.run();
                self.hands.connect().await?;
                let answered = self.hands.call(target).await?;
                held_to(&answered, "warm")?;
                Ok((answered, calibration))
            }
            Way::Warm => {
                self.hands.ready(target, false).await?;
                sleep(settle).await;
                let calibration = self.calibration.run();
                let before = self.hands.call(target).await?;
                let answered = self.hands.call(target).await?;
                held_to(&answered, "warm")?;
                if answered.pod != before.pod {
                    return Err(Missed::Fault(
                        "another pod served than the call before".to_owned(),
                    ));
                }
                Ok((answered, calibration))
            }
            Way::Direct => {
                let pod = self.hands.ready(target, false).await?;
                sleep(settle).await;
                let calibration = self.calibration.run();
                let client = at(&pod)?;
                client.exchange(&target.inner).await?;
                let exchanged = client.exchange(&target.inner).await?;
                let mut answered = super::target::read(target, exchanged)?;
                answered.pod = Some(pod.name);
                // All of it is the pod's.
                let whole = ("processing".to_owned(), answered.seconds);
                answered.timing.parts = [whole].into();
                Ok((answered, calibration))
            }
            Way::DockerRun | Way::EngineFloor => self.start_image(target, way).await,
            Way::BarePod => self.start_bare_pod(target).await,
        }
    }

    async fn start_image(&mut self, target: &Target, way: Way) -> Result<(Answered, f64), Missed> {
        let (Some(container), Some(engine)) = (baseline::container(target), self.engine.clone())
        else {
            return Err(Missed::Fault("there is nothing to start".to_owned()));
        };
        // No pod of the function's competes for the machine.
        self.hands.empty(target).await?;
        self.end_zygotes(target).await?;
        self.made += 1;
        let name = format!("stoic-bench-{}-{}", std::process::id(), self.made);
        self.litter.push(name.clone());
        sleep(self.options.settle).await;
        let calibration = self.calibration.run();
        let answered = match way {
            Way::DockerRun => baseline::docker_run(&name, &container, target).await,
            _ => baseline::engine_floor(&engine, &name, &container, target).await,
        };
        engine.remove(&name).await?;
        self.litter.retain(|left| *left != name);
        answered.map(|answered| (answered, calibration))
    }

    /// Stages that the answer did not tell are those that the gateway lists for the pod.
    pub(super) async fn with_stages(&self, mut answered: Answered) -> Answered {
        if answered.timing.stages.is_empty()
            && let Some(pod) = &answered.pod
            && let Some(stages) = self.hands.stages(pod).await
        {
            answered.timing.stages.extend(stages);
        }
        answered
    }

    async fn fill_cache(&mut self) -> Result<(), Failed> {
        for target in self.targets.clone() {
            self.progress
                .phase(&format!("{}: filling the page cache", target.label()));
            let filled = async {
                self.hands.empty(&target).await?;
                self.hands.call(&target).await
            };
            if let Err(Missed::End(failed)) = filled.await {
                return Err(failed);
            }
        }
        Ok(())
    }

    /// Removes containers and pods that an interruption left.
    pub(super) async fn tidy(&mut self) {
        if let Some(cluster) = &self.cluster {
            for name in self.bare.drain(..) {
                if let Err(failed) = cluster.remove(&name).await {
                    self.notes
                        .push(format!("Pod {name} may be left: {failed}."));
                }
            }
        }
        let Some(engine) = &self.engine else { return };
        for name in self.litter.drain(..) {
            if let Err(failed) = engine.remove(&name).await {
                self.notes
                    .push(format!("Container {name} may be left: {failed}."));
            }
        }
    }
}

/// Whether the answer says that the start was what it was to be.
pub(super) fn held_to(answered: &Answered, start: &str) -> Result<(), Missed> {
    match &answered.start {
        Some(said) if said == start => Ok(()),
        said => Err(Missed::Fault(format!(
            "the call was to be {start} and was {}",
            said.as_deref().unwrap_or("neither, by its answer")
        ))),
    }
}

/// Writes back what is dirty, then drops the page cache.
async fn drop_caches() -> Result<(), Missed> {
    let dropped = tokio::task::spawn_blocking(|| {
        rustix::fs::sync();
        std::fs::write(DROP_CACHES, "3\n")
    });
    match dropped.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Missed::End(Failed::Input(format!(
            "--drop-caches: {DROP_CACHES}: {error}"
        )))),
        Err(error) => Err(Missed::Fault(error.to_string())),
    }
}
