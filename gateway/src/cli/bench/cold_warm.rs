//! The order of a run: check, find or start a gateway, measure, put back, report. An interruption skips to putting back.

use super::engine::Engine;
use super::machine::{self, Machine};
use super::options::ColdWarm;
use super::place::Place;
use super::report::{Run, Told};
use super::rounds::Bench;
use super::target::Target;
use crate::cli::failed::Failed;
use crate::cli::interrupted;
use crate::cli::output::{Format, complain, say};
use crate::cli::quantity;
use std::time::{Duration, SystemTime};
use stoic_evaluation::report::Folder;

/// Longest time for putting back what was changed.
const PUTTING_BACK: Duration = Duration::from_secs(30);

/// Runs the command. Minds signals itself.
pub(super) async fn run(options: ColdWarm) -> Result<(), Failed> {
    options.check()?;
    let folder = Folder::open(&options.out)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let began = quantity::moment(since.map_or(0.0, |since| since.as_secs_f64()));
    let mut machine = Machine::read(began);
    let place = tokio::select! {
        place = Place::open(&options) => place?,
        failed = interrupted() => return Err(failed),
    };
    machine.gateway = Some(place.version.clone());
    machine.own_gateway = place.own();
    if place.own() {
        complain("no gateway answers: the bench runs one of its own on a temporary folder");
    }
    let ended = on(&options, &place, &mut machine, &folder).await;
    place.close().await;
    ended
}

async fn on(
    options: &ColdWarm,
    place: &Place,
    machine: &mut Machine,
    folder: &Folder,
) -> Result<(), Failed> {
    if let Some(engine) = Engine::find() {
        // An engine that does not answer is none.
        machine.engine = engine.version().await.ok();
    }
    let (mut deployed, mut notes) = (Vec::new(), Vec::new());
    let targets = place.targets(options, &mut deployed, &mut notes);
    let targets = tokio::select! {
        targets = targets => targets,
        failed = interrupted() => Err(failed),
    };
    let targets = match targets {
        Ok(targets) => targets,
        Err(failed) => {
            put_back(place, &[], &deployed).await;
            return Err(failed);
        }
    };
    let mut bench = Bench::new(options, place, notes);
    let (mut bursts, mut loads) = (Vec::new(), Vec::new());
    let measuring = async {
        bench.prepare(targets.clone()).await?;
        bench.rounds().await?;
        bench.bursts(&mut bursts).await?;
        bench.loads(&mut loads).await
    };
    let ended = tokio::select! {
        ended = measuring => ended,
        failed = interrupted() => Err(failed),
    };
    bench.progress.finish();
    if matches!(ended, Err(Failed::Interrupted(_))) {
        complain("interrupted: putting back what was changed; a second signal ends at once");
    }
    tokio::select! {
        () = async {
            bench.tidy().await;
            put_back(place, &targets, &deployed).await;
        } => {}
        failed = interrupted() => return Err(failed),
        () = tokio::time::sleep(PUTTING_BACK) => {
            complain("not everything could be put back in time");
        }
    }
    machine.load_after = machine::load_average();
    if bench.samples.is_empty() {
        return ended.and(Err(Failed::Machine(match bench.faults.first() {
            Some(fault) => format!("nothing could be measured: {}", fault.text),
            None => "nothing was measured".to_owned(),
        })));
    }
    let run = Run {
        noise: bench.calibration.verdict(),
        bench: &bench,
        bursts: &bursts,
        loads: &loads,
        machine,
        place: place.sentence(),
        cut_short: ended.as_ref().err().map(ToString::to_string),
    };
    let told = Told::of(&run);
    let report = told.report();
    let files = folder.write(&report, "bench cold-warm")?;
    match options.printing.output {
        Format::Table => say(&told.text())?,
        Format::Json | Format::Yaml => {
            options.printing.print(&report.summary, |_| String::new())?
        }
    }
    complain(&format!(
        "written: {} files in {}; to read: {}",
        files.len(),
        options.out.display(),
        options.out.join("index.html").display()
    ));
    ended
}

/// Puts back what was changed: pods kept ready as the spec says, functions that were deployed for the run removed. The
/// bench's own gateway goes as a whole.
async fn put_back(place: &Place, targets: &[Target], deployed: &[String]) {
    if place.own() {
        return;
    }
    let cannot = |what: String, failed: &Failed| complain(&format!("{what}: {failed}"));
    for name in deployed {
        if let Err(failed) = place.client.delete(name).await {
            cannot(format!("{name} could not be removed"), &failed);
        }
    }
    for target in targets {
        if deployed.contains(&target.function) {
            continue;
        }
        let held = place
            .client
            .hold(&target.function, &target.runtime, target.standby.min)
            .await;
        if let Err(failed) = held {
            cannot(
                format!("the scale of {} could not be put back", target.label()),
                &failed,
            );
        }
    }
}
