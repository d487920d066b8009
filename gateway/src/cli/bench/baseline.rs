//! What starts are held against: the same image started by the engine's own calls, and by `docker run`.

use super::engine::{Container, Engine};
use super::sample::Timing;
use super::target::{Answered, Missed, Target};
use crate::cli::client::{Client, Exchange, Gateway};
use crate::cli::failed::Failed;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// How often a port is tried while nothing listens: the least that the timer can do.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// What a container of the function is, outside of any gateway; `None` where it has no image.
pub(super) fn container(target: &Target) -> Option<Container> {
    let spec = &target.spec;
    let mut env: Vec<(String, String)> = spec.env.clone().into_iter().collect();
    env.push(("PORT".to_owned(), spec.port.to_string()));
    Some(Container {
        image: spec.image.clone()?,
        env,
        args: spec.args.clone(),
    })
}

/// Create, start, connect, health, and the same request answered, by plain calls of the engine's API.
pub(super) async fn engine_floor(
    engine: &Engine,
    name: &str,
    container: &Container,
    target: &Target,
) -> Result<Answered, Missed> {
    let begun = Instant::now();
    engine.create(name, container).await?;
    let created = begun.elapsed().as_secs_f64();
    engine.start(name).await?;
    let started = begun.elapsed().as_secs_f64();
    let address = format!("{}:{}", engine.address(name).await?, target.spec.port);
    answer_by_stages(&address, begun, created, started, target).await
}

/// Connect, health, and the same request answered, at an address that may not listen yet; `created` and
/// `started` are seconds since `begun` at which the stages before had passed.
pub(super) async fn answer_by_stages(
    address: &str,
    begun: Instant,
    created: f64,
    started: f64,
    target: &Target,
) -> Result<Answered, Missed> {
    let until = begun + target.spec.ready_timeout;
    while let Err(error) = TcpStream::connect(address).await {
        if Instant::now() > until {
            return Err(Missed::Fault(format!("{address} never listened: {error}")));
        }
        sleep(TRY_EVERY).await;
    }
    let mut answered = first_answer(address, begun, until, target).await?;
    let ready = answered.timing.parts["deployment"];
    answered.timing.stages = [
        ("create".to_owned(), created),
        ("start".to_owned(), started - created),
        ("ready".to_owned(), ready - started),
    ]
    .into();
    Ok(answered)
}

/// `docker run`, until the same request is answered. The container is to be removed by its name.
pub(super) async fn docker_run(
    name: &str,
    container: &Container,
    target: &Target,
) -> Result<Answered, Missed> {
    let port = free_port()?;
    let mut command = Command::new("docker");
    command
        .args(["run", "--rm", "--name", name, "--label"])
        .arg(format!("stoic.bench={}", std::process::id()))
        .args(["-p", &format!("127.0.0.1:{port}:{}", target.spec.port)]);
    for (key, value) in &container.env {
        command.args(["-e", &format!("{key}={value}")]);
    }
    command
        .arg(&container.image)
        .args(&container.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // What Ctrl-C ends is the bench, which then removes the container.
        .process_group(0)
        .kill_on_drop(true);
    let begun = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|e| Failed::io("cannot run `docker`", &e))?;
    let until = begun + target.spec.ready_timeout;
    let address = format!("127.0.0.1:{port}");
    let answered = tokio::select! {
        answered = first_answer(&address, begun, until, target) => answered,
        ended = child.wait() => Err(Missed::Fault(match ended {
            Ok(status) => format!("`docker run` ended before it answered: {status}"),
            Err(error) => format!("`docker run`: {error}"),
        })),
    };
    drop(child);
    let mut answered = answered?;
    let run = answered.timing.parts["deployment"];
    answered.timing.stages = [("run".to_owned(), run)].into();
    Ok(answered)
}

/// Health, then the same request, at an address that may not answer yet.
async fn first_answer(
    address: &str,
    begun: Instant,
    until: Instant,
    target: &Target,
) -> Result<Answered, Missed> {
    let address = address.parse().map_err(Failed::Input)?;
    let client = Client::new(&Gateway::at(address))?;
    let health = Exchange::get(&target.spec.health);
    loop {
        let why = match client.exchange(&health).await {
            Ok(answer) if answer.status.is_success() => break,
            Ok(answer) => format!("health answers {}", answer.status),
            Err(failed) => failed.to_string(),
        };
        if Instant::now() > until {
            return Err(Missed::Fault(format!("it was never ready: {why}")));
        }
        sleep(TRY_EVERY).await;
    }
    let ready = begun.elapsed().as_secs_f64();
    let answer = client.exchange(&target.inner).await?;
    let seconds = begun.elapsed().as_secs_f64();
    if !answer.status.is_success() {
        return Err(Missed::Fault(format!("it answered {}", answer.status)));
    }
    Ok(Answered {
        seconds,
        start: Some("cold".to_owned()),
        pod: None,
        timing: Timing {
            parts: [
                ("deployment".to_owned(), ready),
                ("processing".to_owned(), answer.seconds),
            ]
            .into(),
            stages: Default::default(),
        },
    })
}

fn free_port() -> Result<u16, Failed> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| Failed::io("no free port", &e))
}

/// Whether there is a `docker` to run.
pub(super) async fn has_docker() -> bool {
    let version = Command::new("docker")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.await.is_ok_and(|status| status.success())
}
