//! The thread that owns the database, and the handle to it.

use super::records::{
    AccountRow, DeploymentRecord, FunctionRecord, LinkProbe, Measurement, ModelRecord, Parts, Race,
    TransferRecord,
};
use super::schema;
use crate::function::FunctionObject;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;
use tracing::error;

/// Records that may wait to be written; more are dropped and counted, so that a slow disk never
/// stops a request.
const WAITING: usize = 16 * 1024;
/// Measurements kept, and as many deployments and transfers; older ones go.
const KEPT: i64 = 1_000_000;

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

enum Order {
    Job(Job),
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
    async fn ask<T: Send + 'static>(
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

    /// Stores a function; on disk when this returns.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn put_function(
        &self,
        object: &FunctionObject,
        created: f64,
    ) -> Result<(), HistoryError> {
        let name = object.metadata.name.clone();
        let text =
            serde_json::to_string(object).map_err(|e| HistoryError::Unreadable(e.to_string()))?;
        self.ask(move |connection| {
            connection.execute(
                "INSERT INTO functions (name, object, created) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET object = ?2",
                params![name, text, created],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes a function; its measurements and models stay.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn delete_function(&self, name: &str) -> Result<bool, HistoryError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            Ok(connection.execute("DELETE FROM functions WHERE name = ?1", [name])? > 0)
        })
        .await
    }

    /// All functions.
    ///
    /// # Errors
    /// A row cannot be read.
    pub async fn functions(&self) -> Result<Vec<FunctionRecord>, HistoryError> {
        self.ask(|connection| {
            let mut statement =
                connection.prepare("SELECT object, created FROM functions ORDER BY name")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            rows.map(|row| {
                let (text, created) = row?;
                let object = serde_json::from_str(&text)
                    .map_err(|e| HistoryError::Unreadable(format!("a stored function: {e}")))?;
                Ok(FunctionRecord { object, created })
            })
            .collect()
        })
        .await
    }

    /// The number that the next model of a function will have.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn next_model(&self, function: &str) -> Result<u64, HistoryError> {
        let function = function.to_owned();
        self.ask(move |connection| {
            let newest: Option<i64> = connection.query_row(
                "SELECT max(number) FROM models WHERE function = ?1",
                [function],
                |row| row.get(0),
            )?;
            Ok(u64::try_from(newest.unwrap_or(0)).unwrap_or(0) + 1)
        })
        .await
    }

    /// Publishes a model that is in every store by now.
    ///
    /// # Errors
    /// The disk says no, or the number is taken.
    pub async fn publish_model(&self, model: ModelRecord) -> Result<(), HistoryError> {
        self.ask(move |connection| {
            let number: i64 = model.version.trim_start_matches('v').parse().map_err(|_| HistoryError::Unreadable(format!("model version `{}`", model.version)))?;
            connection.execute(
                "INSERT INTO models (function, number, key, bytes, created, invocation) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![model.function, number, model.key, i64::try_from(model.bytes).unwrap_or(i64::MAX), model.created, model.invocation],
            )?;
            Ok(())
        })
        .await
    }

    /// Published models of a function, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn models(&self, function: &str) -> Result<Vec<ModelRecord>, HistoryError> {
        let function = function.to_owned();
        self.ask(move |connection| {
            let mut statement = connection
                .prepare("SELECT function, number, key, bytes, created, invocation FROM models WHERE function = ?1 ORDER BY number DESC")?;
            let rows = statement.query_map([function], |row| {
                Ok(ModelRecord {
                    function: row.get(0)?,
                    version: format!("v{}", row.get::<_, i64>(1)?),
                    key: row.get(2)?,
                    bytes: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                    created: row.get(4)?,
                    invocation: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest measurements, the newest first; of one function and runtime where they are named.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn measurements(
        &self,
        function: Option<String>,
        runtime: Option<String>,
        limit: u32,
    ) -> Result<Vec<Measurement>, HistoryError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare(
                "SELECT * FROM measurements WHERE (?1 IS NULL OR function = ?1) AND (?2 IS NULL OR runtime = ?2) ORDER BY id DESC LIMIT ?3",
            )?;
            let rows = statement.query_map(params![function, runtime, limit], measurement)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What races cost the cloud, in sum over the measurements that are kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn account(&self) -> Result<Vec<AccountRow>, HistoryError> {
        self.ask(|connection| {
            let mut statement = connection.prepare(
                "SELECT function, mode, cloud_runtime, count(*), sum(instr('+' || runtime || '+', '+' || cloud_runtime || '+') = 0), sum(cloud_saved), sum(cloud_lost), sum(cloud_used) \
                 FROM measurements WHERE cloud_runtime IS NOT NULL GROUP BY function, mode, cloud_runtime ORDER BY function, mode, cloud_runtime",
            )?;
            let uint = |row: &Row<'_>, at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
            let rows = statement.query_map([], |row| {
                Ok(AccountRow {
                    function: row.get(0)?,
                    mode: row.get(1)?,
                    runtime: row.get(2)?,
                    races: uint(row, 3)?,
                    edge_wins: uint(row, 4)?,
                    saved_s: row.get(5)?,
                    lost_s: row.get(6)?,
                    used_s: row.get(7)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest deployments, the oldest of them first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn deployments(&self, limit: u32) -> Result<Vec<DeploymentRecord>, HistoryError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare(
                "SELECT * FROM (SELECT * FROM deployments ORDER BY id DESC LIMIT ?1) ORDER BY id",
            )?;
            let rows = statement.query_map([limit], deployment)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest deployments of a function's version, the oldest of them first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn deployments_of(
        &self,
        function: &str,
        version: &str,
        limit: u32,
    ) -> Result<Vec<DeploymentRecord>, HistoryError> {
        let (function, version) = (function.to_owned(), version.to_owned());
        self.ask(move |connection| {
            let mut statement = connection.prepare(
                "SELECT * FROM (SELECT * FROM deployments WHERE function = ?1 AND version = ?2 ORDER BY id DESC LIMIT ?3) ORDER BY id",
            )?;
            let rows = statement.query_map(params![function, version, limit], deployment)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest transfers of packages, the oldest of them first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn transfers(&self, limit: u32) -> Result<Vec<TransferRecord>, HistoryError> {
        self.ask(move |connection| {
            let mut statement =
                connection.prepare("SELECT * FROM (SELECT id, at, site, bytes, seconds FROM transfers WHERE probe = 0 ORDER BY id DESC LIMIT ?1) ORDER BY id")?;
            let rows = statement.query_map([limit], transfer)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The newest probes of links, the oldest of them first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn link_probes(&self, limit: u32) -> Result<Vec<LinkProbe>, HistoryError> {
        self.ask(move |connection| {
            let mut statement =
                connection.prepare("SELECT * FROM (SELECT id, at, site, bytes, seconds, rtt_s FROM transfers WHERE probe = 1 ORDER BY id DESC LIMIT ?1) ORDER BY id")?;
            let rows = statement.query_map([limit], |row| {
                let rtt_s: Option<f64> = row.get(5)?;
                Ok(LinkProbe { transfer: transfer(row)?, rtt_s: rtt_s.unwrap_or(0.0) })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Bytes that probes have sent to each site since a moment (seconds since the Unix epoch).
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn link_probed_since(&self, since: f64) -> Result<Vec<(String, u64)>, HistoryError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare(
                "SELECT site, sum(bytes) FROM transfers WHERE probe = 1 AND at >= ?1 GROUP BY site",
            )?;
            let rows = statement.query_map([since], |row| {
                let bytes: i64 = row.get(1)?;
                Ok((row.get(0)?, u64::try_from(bytes).unwrap_or(0)))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A setting of the gateway, made with `make` where there is none.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn setting(
        &self,
        name: &'static str,
        make: impl FnOnce() -> String + Send + 'static,
    ) -> Result<String, HistoryError> {
        self.ask(move |connection| {
            let found: Option<String> = connection
                .query_row(
                    "SELECT value FROM settings WHERE name = ?1",
                    [name],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(value) = found {
                return Ok(value);
            }
            let value = make();
            connection.execute(
                "INSERT INTO settings (name, value) VALUES (?1, ?2)",
                params![name, value],
            )?;
            Ok(value)
        })
        .await
    }

    /// Returns when everything recorded so far is on disk.
    pub async fn flush(&self) {
        let _ = self.ask(|_| Ok(())).await;
    }
}

/// Takes orders until every handle is gone; what can be written together is.
fn run(mut connection: Connection, orders: &mpsc::Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut next = Some(first);
        let mut jobs = Vec::new();
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
                    Order::Job(job) => {
                        jobs.push(job);
                        break;
                    }
                }
                next = orders.try_recv().ok();
            }
            transaction.commit()
        });
        if let Err(error) = written {
            error!("measurements were not written: {error}");
        }
        for job in jobs {
            job(&mut connection);
        }
    }
}

fn insert_measurement(transaction: &Transaction<'_>, m: &Measurement) -> rusqlite::Result<()> {
    let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let predicted = |part: fn(&Parts) -> f64| m.predicted.as_ref().map(part);
    let race = m.race.as_ref();
    let raced = |seconds: fn(&Race) -> f64| race.map_or(0.0, seconds);
    transaction.prepare_cached(
        "INSERT INTO measurements (invocation, at, function, version, action, runtime, site, mode, items, bytes, start, \
         pred_queueing, pred_transfer, pred_deployment, pred_processing, pred_low90, pred_high90, \
         act_queueing, act_transfer, act_deployment, act_processing, outcome, model, emulated, \
         items_by, cloud_runtime, cloud_saved, cloud_lost, cloud_used) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)",
    )?.execute(params![
        m.invocation, m.at, m.function, m.version, m.action, m.runtime, m.site, m.mode, int(m.items), int(m.bytes), m.start,
        predicted(|p| p.queueing), predicted(|p| p.transfer), predicted(|p| p.deployment), predicted(|p| p.processing),
        m.predicted_90.map(|i| i.0), m.predicted_90.map(|i| i.1),
        m.actual.queueing, m.actual.transfer, m.actual.deployment, m.actual.processing, m.outcome, m.model, m.emulated,
        serde_json::to_string(&m.items_by).unwrap_or_default(), race.map(|r| &r.runtime),
        raced(|r| r.saved_s), raced(|r| r.lost_s), raced(|r| r.used_s)
    ])?;
    keep_newest(transaction, "measurements")
}

fn measurement(row: &Row<'_>) -> rusqlite::Result<Measurement> {
    let uint = |name: &str| {
        row.get::<_, i64>(name)
            .map(|value| u64::try_from(value).unwrap_or(0))
    };
    let predicted = match (
        row.get("pred_queueing")?,
        row.get("pred_transfer")?,
        row.get("pred_deployment")?,
        row.get("pred_processing")?,
    ) {
        (Some(queueing), Some(transfer), Some(deployment), Some(processing)) => Some(Parts {
            queueing,
            transfer,
            deployment,
            processing,
        }),
        _ => None,
    };
    let race = match row.get::<_, Option<String>>("cloud_runtime")? {
        Some(runtime) => Some(Race {
            runtime,
            saved_s: row.get("cloud_saved")?,
            lost_s: row.get("cloud_lost")?,
            used_s: row.get("cloud_used")?,
        }),
        None => None,
    };
    let predicted_90 = Option::zip(row.get("pred_low90")?, row.get("pred_high90")?);
    Ok(Measurement {
        invocation: row.get("invocation")?,
        at: row.get("at")?,
        function: row.get("function")?,
        version: row.get("version")?,
        action: row.get("action")?,
        runtime: row.get("runtime")?,
        site: row.get("site")?,
        mode: row.get("mode")?,
        items: uint("items")?,
        bytes: uint("bytes")?,
        start: row.get("start")?,
        predicted,
        predicted_90,
        predicted_50: None,
        actual: Parts {
            queueing: row.get("act_queueing")?,
            transfer: row.get("act_transfer")?,
            deployment: row.get("act_deployment")?,
            processing: row.get("act_processing")?,
        },
        outcome: row.get("outcome")?,
        model: row.get("model")?,
        emulated: row.get("emulated")?,
        items_by: serde_json::from_str(&row.get::<_, String>("items_by")?).unwrap_or_default(),
        race,
    })
}

fn deployment(row: &Row<'_>) -> rusqlite::Result<DeploymentRecord> {
    Ok(DeploymentRecord {
        at: row.get("at")?,
        function: row.get("function")?,
        version: row.get("version")?,
        runtime: row.get("runtime")?,
        seconds: row.get("seconds")?,
        emulated_s: row.get("emulated_s")?,
        ok: row.get("ok")?,
        probe: row.get("probe")?,
        standby: row.get("standby")?,
        failure: row.get("failure")?,
    })
}

fn insert_deployment(transaction: &Transaction<'_>, d: &DeploymentRecord) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO deployments (at, function, runtime, seconds, emulated_s, ok, version, probe, standby, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![d.at, d.function, d.runtime, d.seconds, d.emulated_s, d.ok, d.version, d.probe, d.standby, d.failure],
    )?;
    keep_newest(transaction, "deployments")
}

fn transfer(row: &Row<'_>) -> rusqlite::Result<TransferRecord> {
    Ok(TransferRecord {
        at: row.get("at")?,
        site: row.get("site")?,
        bytes: u64::try_from(row.get::<_, i64>("bytes")?).unwrap_or(0),
        seconds: row.get("seconds")?,
    })
}

fn insert_transfer(
    transaction: &Transaction<'_>,
    t: &TransferRecord,
    probed_rtt_s: Option<f64>,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO transfers (at, site, bytes, seconds, probe, rtt_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            t.at,
            t.site,
            i64::try_from(t.bytes).unwrap_or(i64::MAX),
            t.seconds,
            probed_rtt_s.is_some(),
            probed_rtt_s
        ],
    )?;
    keep_newest(transaction, "transfers")
}

/// Every now and then removes what is older than the newest [`KEPT`] of a table; called after an insertion.
fn keep_newest(transaction: &Transaction<'_>, table: &'static str) -> rusqlite::Result<()> {
    let id = transaction.last_insert_rowid();
    if id % 1000 == 0 {
        transaction.execute(&format!("DELETE FROM {table} WHERE id <= ?1"), [id - KEPT])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
