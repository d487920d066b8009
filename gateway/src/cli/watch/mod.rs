//! `stoic watch`: a folder that cameras write to (mission M1). What arrives becomes batches of one
//! function, results stand beside the images.

mod arrivals;
mod folder;
mod settle;

use super::call::{Carried, Destination, Entry, Packed, Progress, carry, pack};
use super::client::{Call, Client, Gateway, Payload};
use super::failed::Failed;
use super::output::{Format, complain, plain, say};
use super::quantity::{self, pair, seconds};
use arrivals::Arrivals;
use clap::Args;
use folder::{Folder, stamp_now};
use serde::Serialize;
use settle::{Look, Settling};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};
use stoic_protocol::ZIP_MEDIA_TYPE;
use tokio::time::sleep;

/// First pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How often the folder is looked at while files settle.
const WHILE_SETTLING: Duration = Duration::from_millis(500);

/// Options of `stoic watch`.
#[derive(Debug, Args)]
#[command(
    long_about = "Watch a folder that cameras write to, and call a function with what arrives.\n\n\
        Every period, or as soon as files have settled (--on-arrival), the images in the folder become one \
        batch. The result goes to DIR/labels/TIME-INVOCATION.json; only when it is on disk are the images \
        moved to DIR/done/TIME/. Images of a batch that failed stay where they are and are tried again, \
        after longer and longer pauses. The folder is all the state there is: a watch may be ended and \
        begun again at any time. One that is killed between a result and the move works those images \
        twice.\n\n\
        A file is taken once it has not changed for the settle time. Hidden files, empty files and files \
        that are no images are left alone.",
    after_help = "Examples:\n  \
        stoic watch /srv/cameras --function wildlife --every 1h\n  \
        stoic watch /srv/cameras --function wildlife --on-arrival --recursive\n  \
        stoic watch /srv/cameras --function wildlife --once -o json"
)]
pub(super) struct Watch {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The function to call
    #[arg(short, long, value_name = "NAME")]
    function: String,
    /// How often a batch is made of what has arrived; 0: as soon as files have settled
    #[arg(short, long, value_name = "TIME", value_parser = quantity::duration, default_value = "1h")]
    every: Duration,
    /// As soon as files have settled: the same as --every 0
    #[arg(long, conflicts_with = "every")]
    on_arrival: bool,
    /// Make batches of what is there, then end; files that are being written are awaited
    #[arg(long, conflicts_with_all = ["every", "on_arrival"])]
    once: bool,
    /// How long a file must not have changed
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, default_value = "5s")]
    settle: Duration,
    /// Also take what is in subfolders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Most images in a batch
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_items: u32,
    /// Largest batch
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes, default_value = "2GB")]
    max_bytes: u64,
    /// Runtime to run on, instead of the one with the least expected response time
    #[arg(short, long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Query parameter for the function; may be given many times
    #[arg(short, long = "param", value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// How to print each batch
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
    #[command(flatten)]
    gateway: Gateway,
}

/// A batch that was worked, as it is printed.
#[derive(Debug, Serialize)]
struct Worked {
    invocation: String,
    result: PathBuf,
    images: usize,
    failed_items: u64,
    runtime: String,
    start: String,
    emulated: String,
    predicted_s: Option<f64>,
    predicted_90: Option<(f64, f64)>,
    response_s: f64,
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let client = Client::new(&self.gateway)?;
        if folder::identity(&self.folder).is_none() {
            let shown = self.folder.display();
            return Err(Failed::Input(format!("there is no folder {shown}")));
        }
        if self.once {
            return self.once(&client).await;
        }
        // Ending is how a watch ends: no failure.
        tokio::select! {
            never = self.forever(&client) => match never {},
            failed = super::interrupted() => match failed {
                Failed::Interrupted(_) => Ok(()),
                failed => Err(failed),
            },
        }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.folder.clone(), self.recursive)
    }

    /// Works what is there until nothing is left.
    async fn once(&self, client: &Client) -> Result<(), Failed> {
        let (folder, mut settling) = (self.folder(), Settling::new(self.settle));
        loop {
            let look = self.look(&folder, &mut settling).await?;
            if look.restless > 0 && !look.overdue {
                sleep(WHILE_SETTLING.min(self.settle)).await;
            } else if look.settled.is_empty() {
                return Ok(());
            } else if self
                .work(client, &folder, look.settled, self.max_bytes)
                .await?
                == 0
            {
                let shown = self.folder.display();
                return Err(Failed::Machine(format!(
                    "the images in {shown} cannot be moved to done/, or do not stop changing"
                )));
            }
        }
    }

    async fn forever(&self, client: &Client) -> std::convert::Infallible {
        let on_arrival = self.on_arrival || self.every.is_zero();
        let (folder, mut settling) = (self.folder(), Settling::new(self.settle));
        let mut arrivals = Arrivals::new(self.recursive);
        let mut troubles = Troubles::default();
        let mut due = Instant::now();
        let mut most_bytes = self.max_bytes;
        let how = if on_arrival {
            "as they arrive".to_owned()
        } else {
            format!("every {}", humantime::format_duration(self.every))
        };
        log(&format!(
            "watching {}: images go to {} {how}",
            self.folder.display(),
            self.function
        ));
        loop {
            tokio::time::sleep_until(due.into()).await;
            if on_arrival && let Err(why) = arrivals.follow(folder.path()) {
                troubles.say(&format!(
                    "the system does not tell what arrives ({why}): looking now and then"
                ));
            }
            let look = match self.look(&folder, &mut settling).await {
                Ok(look) => look,
                Err(error) => {
                    troubles.say(&error.to_string());
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if look.restless > 0 && !look.overdue {
                sleep(WHILE_SETTLING).await;
                continue;
            }
            if look.settled.is_empty() {
                if on_arrival {
                    arrivals.wait().await;
                    // A file being written is told of again and again.
                    sleep(WHILE_SETTLING.min(self.settle)).await;
                } else {
                    due = Instant::now() + self.every;
                }
                continue;
            }
            let waiting = look.settled.len();
            let bytes = look.settled.iter().map(|image| image.stamp.bytes).sum();
            let left = match self.work(client, &folder, look.settled, most_bytes).await {
                Ok(moved) if moved > 0 => {
                    troubles.over();
                    // What did not fit into the batch goes into the next one at once.
                    if on_arrival || moved < waiting {
                        Duration::ZERO
                    } else {
                        self.every
                    }
                }
                Ok(_) => troubles.pause(None),
                Err(error) => {
                    if error.code() == Some("body_too_large") {
                        most_bytes = most_bytes.min(bytes) / 2;
                    }
                    let pause = troubles.pause(retry_after(&error));
                    let pause_text = humantime::format_duration(pause);
                    troubles.say(&format!(
                        "{error}; the images stay, next try in {pause_text}"
                    ));
                    pause
                }
            };
            due = Instant::now() + left;
        }
    }

    async fn look(&self, folder: &Folder, settling: &mut Settling) -> Result<Look, Failed> {
        let reading = folder.clone();
        let (files, unreadable) = tokio::task::spawn_blocking(move || reading.images())
            .await
            .map_err(|e| Failed::Machine(e.to_string()))?
            .map_err(|e| Failed::io(format_args!("cannot read {}", folder.path().display()), &e))?;
        for text in unreadable {
            complain(&format!("stoic: left alone: {text}"));
        }
        Ok(settling.look(files, Instant::now(), SystemTime::now()))
    }

    /// Works one batch of what has settled; tells how many images were moved.
    async fn work(
        &self,
        client: &Client,
        folder: &Folder,
        mut images: Vec<Entry>,
        most_bytes: u64,
    ) -> Result<usize, Failed> {
        // A gateway that refuses early closes on what is being sent: better asked before.
        client.function(&self.function).await?;
        images.truncate(fitting(&images, self.max_items as usize, most_bytes));
        let packed = self.packed(folder, images).await?;
        if packed.items.is_empty() {
            return Ok(0);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let file = tokio::fs::File::from_std(packed.file);
        let body = Payload::stream(file, Some(packed.bytes), &sent);
        let mut call = Call::new(&self.function, ZIP_MEDIA_TYPE, body);
        call.runtime.clone_from(&self.runtime);
        call.parameters.clone_from(&self.parameters);
        let progress = Progress::new(true);
        let carried = carry(client, call, &sent, Some(packed.bytes), &progress).await?;
        let stamp = stamp_now();
        let result = self.keep(client, folder, &carried, &stamp).await?;
        let (away, items) = (folder.clone(), packed.items);
        let images = items.len();
        let (moved, trouble) = tokio::task::spawn_blocking(move || away.put_away(&stamp, &items))
            .await
            .map_err(|e| Failed::Machine(e.to_string()))?
            .map_err(|e| Failed::io("the result is there, but the images cannot be moved", &e))?;
        for text in trouble {
            complain(&format!("stoic: {text}"));
        }
        self.print(&carried, result, images)?;
        Ok(moved)
    }

    async fn packed(&self, folder: &Folder, images: Vec<Entry>) -> Result<Packed, Failed> {
        let path = folder.path().to_path_buf();
        let packed = tokio::task::spawn_blocking(move || pack(&path, images))
            .await
            .map_err(|e| Failed::Machine(e.to_string()))??;
        for (path, why) in &packed.left_out {
            complain(&format!("stoic: {} is left out: {why}", path.display()));
        }
        Ok(packed)
    }

    /// Puts the result on disk.
    async fn keep(
        &self,
        client: &Client,
        folder: &Folder,
        carried: &Carried,
        stamp: &str,
    ) -> Result<PathBuf, Failed> {
        let json = carried.content_type.contains("json");
        let extension = if json { "json" } else { "bin" };
        let failed = |e| Failed::io("cannot keep the result", &e);
        let path = folder
            .result(stamp, &carried.summary.invocation, extension)
            .map_err(failed)?;
        let destination = Destination::open(Some(&path))?;
        let answer = client.result(&carried.result).await?;
        destination.write(answer).await?;
        folder.sync().map_err(failed)?;
        Ok(path)
    }

    fn print(&self, carried: &Carried, result: PathBuf, images: usize) -> Result<(), Failed> {
        let summary = &carried.summary;
        let worked = Worked {
            invocation: summary.invocation.clone(),
            result,
            images,
            failed_items: summary.failed_items,
            runtime: summary.runtime.clone(),
            start: summary.start.clone(),
            emulated: summary.emulated.clone(),
            predicted_s: summary.predicted.map(|parts| parts.response()),
            predicted_90: summary.predicted_90,
            response_s: summary.actual.response(),
        };
        let cannot = |e: &dyn std::fmt::Display| Failed::Machine(format!("cannot print: {e}"));
        say(&match self.output {
            Format::Table => worked.line(),
            Format::Json => serde_json::to_string(&worked).map_err(|e| cannot(&e))?,
            Format::Yaml => {
                let text = serde_saphyr::to_string(&worked).map_err(|e| cannot(&e))?;
                format!("---\n{text}")
            }
        })
    }
}

impl Worked {
    fn line(&self) -> String {
        let failed = match self.failed_items {
            0 => String::new(),
            failed => format!(" ({failed} failed)"),
        };
        let predicted = self
            .predicted_s
            .map_or_else(String::new, |s| format!(", {} s predicted", seconds(s)));
        let emulated = if self.emulated.is_empty() {
            String::new()
        } else {
            format!(", emulated: {}", self.emulated)
        };
        let result = plain(&self.result.display().to_string());
        format!(
            "{} images{failed} on {} ({}) in {} s{predicted}{emulated}: {result}",
            self.images,
            self.runtime,
            self.start,
            seconds(self.response_s)
        )
    }
}

/// How many of the first images fit into one batch; one always does.
fn fitting(images: &[Entry], most: usize, bytes: u64) -> usize {
    let mut total = 0u64;
    let fit = images.iter().take(most).take_while(|image| {
        total = total.saturating_add(image.stamp.bytes);
        total <= bytes
    });
    fit.count().max(1)
}

/// The pause that the gateway asked for.
fn retry_after(error: &Failed) -> Option<Duration> {
    match error {
        Failed::Problem { retry_after_s, .. } => retry_after_s.map(Duration::from_secs),
        _ => None,
    }
}

/// What went wrong lately.
#[derive(Debug, Default)]
struct Troubles {
    failures: u32,
    said: String,
}

impl Troubles {
    /// Says it, once while it lasts.
    fn say(&mut self, text: &str) {
        if self.said != text {
            log(text);
            text.clone_into(&mut self.said);
        }
    }

    /// How long to wait after one more failure, at least as long as the gateway asks for.
    fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let pause = PAUSE.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE).max(asked.unwrap_or_default())
    }

    /// It went well again.
    fn over(&mut self) {
        *self = Self::default();
    }
}

fn log(text: &str) {
    complain(&format!("stoic: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_end_with_success() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.pause(None), PAUSE);
        assert_eq!(troubles.pause(None), PAUSE * 2);
        assert_eq!(troubles.pause(Some(PAUSE * 50)), PAUSE * 50);
        for _ in 0..100 {
            assert!(troubles.pause(None) <= LONGEST_PAUSE);
        }
        assert_eq!(troubles.pause(None), LONGEST_PAUSE);
        troubles.over();
        assert_eq!(troubles.pause(None), PAUSE);
    }

    #[test]
    fn a_batch_holds_what_fits_and_at_least_one() {
        let held = tempfile::tempdir().expect("folder");
        for name in ["a.jpg", "b.jpg", "c.jpg"] {
            std::fs::write(held.path().join(name), [0; 10]).expect("written");
        }
        let (images, _) = Folder::new(held.path().to_path_buf(), false)
            .images()
            .expect("read");
        assert_eq!(fitting(&images, 2, 1000), 2);
        assert_eq!(fitting(&images, 10, 25), 2);
        assert_eq!(fitting(&images, 10, 5), 1);
    }
}
