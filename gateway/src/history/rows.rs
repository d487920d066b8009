//! Rows of the tables of what was measured, written and read.

use super::records::{DeploymentRecord, Measurement, Parts, Race, TransferRecord};
use rusqlite::{Row, Transaction, params};

/// Measurements kept, and as many deployments and transfers; older ones go.
const KEPT: i64 = 1_000_000;

pub(super) fn insert_measurement(
    transaction: &Transaction<'_>,
    m: &Measurement,
) -> rusqlite::Result<()> {
    let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let predicted = |part: fn(&Parts) -> f64| m.predicted.as_ref().map(part);
    let race = m.race.as_ref();
    let raced = |seconds: fn(&Race) -> f64| race.map_or(0.0, seconds);
    transaction.prepare_cached(
        "INSERT INTO measurements (invocation, at, function, version, action, runtime, site, mode, items, bytes, start, \
         pred_queueing, pred_transfer, pred_deployment, pred_processing, pred_low90, pred_high90, \
         act_queueing, act_transfer, act_deployment, act_processing, outcome, model, emulated, \
         items_by, cloud_runtime, cloud_saved, cloud_lost, cloud_used, fluid) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30)",
    )?.execute(params![
        m.invocation, m.at, m.function, m.version, m.action, m.runtime, m.site, m.mode, int(m.items), int(m.bytes), m.start,
        predicted(|p| p.queueing), predicted(|p| p.transfer), predicted(|p| p.deployment), predicted(|p| p.processing),
        m.predicted_90.map(|i| i.0), m.predicted_90.map(|i| i.1),
        m.actual.queueing, m.actual.transfer, m.actual.deployment, m.actual.processing, m.outcome, m.model, m.emulated,
        serde_json::to_string(&m.items_by).unwrap_or_default(), race.map(|r| &r.runtime),
        raced(|r| r.saved_s), raced(|r| r.lost_s), raced(|r| r.used_s), m.fluid_s
    ])?;
    keep_newest(transaction, "measurements")
}

pub(super) fn measurement(row: &Row<'_>) -> rusqlite::Result<Measurement> {
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
        fluid_s: row.get("fluid")?,
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

pub(super) fn insert_deployment(
    transaction: &Transaction<'_>,
    d: &DeploymentRecord,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO deployments (at, function, runtime, seconds, emulated_s, ok, version, probe, standby, failure) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![d.at, d.function, d.runtime, d.seconds, d.emulated_s, d.ok, d.version, d.probe, d.standby, d.failure],
    )?;
    keep_newest(transaction, "deployments")
}

pub(super) fn deployment(row: &Row<'_>) -> rusqlite::Result<DeploymentRecord> {
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

pub(super) fn insert_transfer(
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

pub(super) fn transfer(row: &Row<'_>) -> rusqlite::Result<TransferRecord> {
    Ok(TransferRecord {
        at: row.get("at")?,
        site: row.get("site")?,
        bytes: u64::try_from(row.get::<_, i64>("bytes")?).unwrap_or(0),
        seconds: row.get("seconds")?,
    })
}

/// Every now and then removes what is older than the newest [`KEPT`] of a table; called after an insertion.
fn keep_newest(transaction: &Transaction<'_>, table: &'static str) -> rusqlite::Result<()> {
    let id = transaction.last_insert_rowid();
    if id % 1000 == 0 {
        transaction.execute(&format!("DELETE FROM {table} WHERE id <= ?1"), [id - KEPT])?;
    }
    Ok(())
}
