//! What was measured, read back: invocations, the account of races, deployments, transfers and probes.

use super::records::{AccountRow, DeploymentRecord, LinkProbe, Measurement, TransferRecord};
use super::rows::{deployment, measurement, transfer};
use super::worker::{History, HistoryError};
use rusqlite::{Row, params};

impl History {
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
}
