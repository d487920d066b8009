//! The thread that owns the database, and the handle to it: what is recorded goes in here, off the
//! request path.

use super::records::{DeploymentRecord, LinkProbe, Measurement, TransferRecord};
use super::rows::{insert_deployment, insert_measurement, insert_transfer};
use super::schema;
use rusqlite::Connection;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::error;

/// Records that may wait to be written; more are dropped and counted, so that a slow disk never
/// stops a request.
const WAITING: usize = 16 * 1024;

/// Why the history could not do something.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite says no: the disk is full or read-only, or the file is none of ours.
    #[error("history: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this version cannot read.
    #[error("history: {0}")]
    Unreadable(String),
    /// The gateway stops.
    #[error("history: the gateway is stopping")]
    Closed,
}

impl HistoryError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;
/// Tells whoever ordered a write how the transaction that it was part of ended.
type Written = Box<dyn FnOnce(Result<(), HistoryError>) + Send>;
type Write = Box<dyn FnOnce(&Connection) -> Written + Send>;

/// What nobody waits for is gathered for this long: a transaction for each measurement cost more than the measurement.
const GATHER: Duration = Duration::from_millis(200);

/// Most writes in one transaction: those of a moment wait for one another's disk, not for a minute's.
const TOGETHER: usize = 1024;

enum Order {
    Job(Job),
    Write(Write),
    Measurement(Box<Measurement>),
    Deployment(DeploymentRecord),
    Transfer(TransferRecord),
    LinkProbe(LinkProbe),
}

/// Handle to the history.
#[derive(Debug, Clone)]
pub struct History {
    orders: mpsc::SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl History {
    /// Opens or makes the database.
    ///
    /// # Errors
    /// The file cannot be opened, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let mut connection = Connection::open(path)?;
        schema::migrate(&mut connection)?;
        let (orders, received) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || run(connection, &received))
            .map_err(|e| HistoryError::Unreadable(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            orders,
            dropped: Arc::default(),
        })
    }

    /// Runs a job on the thread of the database and waits for its answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = answer.send(job(connection));
        });
        let orders = self.orders.clone();
        // The channel is bounded and its thread may be busy: never block a thread that serves requests.
        tokio::task::spawn_blocking(move || orders.send(Order::Job(job)).is_ok())
            .await
            .map_err(|_| HistoryError::Closed)?;
        answered.await.map_err(|_| HistoryError::Closed)?
    }

    /// Makes one change, in a transaction with whatever else is to be written at that moment; on disk
    /// when this returns. The change is one statement that writes, and may read before and after it:
    /// one that fails takes nothing of the others with it.
    ///
    /// # Errors
    /// The change failed, or the disk says no.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |connection| {
            let changed = change(connection);
            Box::new(move |committed| {
                let _ = answer.send(committed.and(changed));
            })
        });
        match self.orders.try_send(Order::Write(write)) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(order)) => {
                let orders = self.orders.clone();
                tokio::task::spawn_blocking(move || orders.send(order).is_ok())
                    .await
                    .map_err(|_| HistoryError::Closed)?;
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(HistoryError::Closed),
        }
        answered.await.map_err(|_| HistoryError::Closed)?
    }

    fn record(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that were dropped because the disk was slower than the work.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Records an invocation.
    pub fn measured(&self, measurement: Measurement) {
        self.record(Order::Measurement(Box::new(measurement)));
    }

    /// Records a deployment.
    pub fn deployed(&self, deployment: DeploymentRecord) {
        self.record(Order::Deployment(deployment));
    }

    /// Records a transfer.
    pub fn transferred(&self, transfer: TransferRecord) {
        self.record(Order::Transfer(transfer));
    }

    /// Records a probe of a link.
    pub fn link_probed(&self, probe: LinkProbe) {
        self.record(Order::LinkProbe(probe));
    }

    /// Returns when everything recorded so far is on disk.
    pub async fn flush(&self) {
        let _ = self.ask(|_| Ok(())).await;
    }
}

impl Order {
    /// Whether somebody waits for it to be done.
    fn awaited(&self) -> bool {
        matches!(self, Self::Job(_) | Self::Write(_))
    }
}

/// Waits for orders: until somebody waits for one of them, or what has come was gathered for long enough. Whether
/// there is any; none comes when every handle is gone.
fn gather(waiting: &mut VecDeque<Order>, orders: &mpsc::Receiver<Order>) -> bool {
    if waiting.is_empty() {
        waiting.extend(orders.recv().ok());
    }
    let until = Instant::now() + GATHER;
    while waiting.len() < TOGETHER && waiting.back().is_some_and(|order| !order.awaited()) {
        let left = until.saturating_duration_since(Instant::now());
        match orders.recv_timeout(left) {
            Ok(order) => waiting.push_back(order),
            Err(_) => break,
        }
    }
    !waiting.is_empty()
}

/// Takes orders until every handle is gone; what can be written together is.
fn run(mut connection: Connection, orders: &mpsc::Receiver<Order>) {
    // Those behind one that cannot be written keep their turn.
    let mut waiting = VecDeque::new();
    while gather(&mut waiting, orders) {
        let mut next = waiting.pop_front();
        let mut jobs = Vec::new();
        let mut writes: Vec<Written> = Vec::new();
        let written = connection.transaction().and_then(|transaction| {
            while let Some(order) = next.take() {
                match order {
                    Order::Measurement(measurement) => {
                        insert_measurement(&transaction, &measurement)?
                    }
                    Order::Deployment(deployment) => insert_deployment(&transaction, &deployment)?,
                    Order::Transfer(transfer) => insert_transfer(&transaction, &transfer, None)?,
                    Order::LinkProbe(probe) => {
                        insert_transfer(&transaction, &probe.transfer, Some(probe.rtt_s))?;
                    }
                    Order::Write(write) => {
                        writes.push(write(&transaction));
                        if writes.len() >= TOGETHER {
                            break;
                        }
                    }
                    Order::Job(job) => {
                        jobs.push(job);
                        break;
                    }
                }
                next = waiting.pop_front().or_else(|| orders.try_recv().ok());
            }
            transaction.commit()
        });
        if let Err(error) = &written {
            error!("what was measured or called was not written: {error}");
        }
        for tell in writes {
            tell(match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(again(error)),
            });
        }
        for job in jobs {
            job(&mut connection);
        }
    }
}

/// The same error, for each of those it happened to.
fn again(error: &rusqlite::Error) -> HistoryError {
    match error.sqlite_error() {
        Some(code) => HistoryError::Sqlite(rusqlite::Error::SqliteFailure(
            *code,
            Some(error.to_string()),
        )),
        None => HistoryError::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{ModelRecord, Parts, Race};
    use super::*;
    use crate::function::FunctionObject;

    #[tokio::test]
    async fn what_was_recorded_is_there_after_a_new_start() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("stoic.db");
        let object = FunctionObject::parse(
            "apiVersion: stoic.dev/v1\nkind: Function\nmetadata: {name: hi}\nspec: {command: [x]}",
        )
        .expect("valid");
        let measured = Measurement {
            invocation: "i1".to_owned(),
            function: "hi".to_owned(),
            predicted: Some(Parts {
                processing: 2.0,
                ..Parts::default()
            }),
            predicted_90: Some((1.0, 3.0)),
            items: 7,
            mode: "duplicator".to_owned(),
            runtime: "edge".to_owned(),
            items_by: [("edge".to_owned(), 7)].into(),
            race: Some(Race {
                runtime: "gpu1".to_owned(),
                saved_s: 0.0,
                lost_s: 2.5,
                used_s: 0.0,
            }),
            ..Measurement::default()
        };
        {
            let history = History::open(&path).expect("opens");
            history.put_function(&object, 1.0).await.expect("stored");
            history.measured(measured.clone());
            let model = ModelRecord {
                function: "hi".into(),
                version: "v1".into(),
                key: "k".into(),
                bytes: 3,
                created: 0.0,
                invocation: "i".into(),
            };
            history.publish_model(model).await.expect("published");
        }
        let history = History::open(&path).expect("opens again");
        assert_eq!(history.functions().await.expect("read")[0].object, object);
        assert_eq!(
            history
                .measurements(Some("hi".into()), None, 10)
                .await
                .expect("read"),
            [measured]
        );
        let account = history.account().await.expect("read");
        assert_eq!((account.len(), account[0].races), (1, 1));
        assert_eq!((account[0].edge_wins, account[0].lost_s), (1, 2.5));
        assert_eq!(history.next_model("hi").await.expect("read"), 2);
        assert_eq!(history.models("hi").await.expect("read")[0].version, "v1");
        assert!(
            history
                .measurements(Some("other".into()), None, 10)
                .await
                .expect("read")
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_cannot_be_written_takes_nothing_along_that_waits_behind_it() {
        let folder = tempfile::tempdir().expect("folder");
        let history = History::open(&folder.path().join("stoic.db")).expect("opens");
        let broken =
            history.ask(|connection| Ok(connection.execute_batch("DROP TABLE measurements")?));
        broken.await.expect("a history that cannot measure");
        history.measured(Measurement::default());
        let object = FunctionObject::parse(
            "apiVersion: stoic.dev/v1\nkind: Function\nmetadata: {name: hi}\nspec: {command: [x]}",
        )
        .expect("valid");
        history.put_function(&object, 1.0).await.expect("stored");
        assert_eq!(history.functions().await.expect("read").len(), 1);
    }
}
