//! What was declared: functions, published models, settings of the gateway. On disk when a write
//! returns.

use super::records::{FunctionRecord, ModelRecord, ScaleRecord};
use super::worker::{History, HistoryError};
use crate::function::FunctionObject;
use rusqlite::{OptionalExtension, params};

impl History {
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
            connection.execute("DELETE FROM scales WHERE function = ?1", [&name])?;
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

    /// A setting, where it was set.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get_setting(&self, name: &str) -> Result<Option<String>, HistoryError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            let sql = "SELECT value FROM settings WHERE name = ?1";
            Ok(connection
                .query_row(sql, [name], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Sets a setting.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn set_setting(&self, name: &str, value: String) -> Result<(), HistoryError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            connection.execute(
                "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
                params![name, value],
            )?;
            Ok(())
        })
        .await
    }

    /// Stores how a version of a function was scaled; on disk when this returns.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn put_scales(&self, scales: Vec<ScaleRecord>) -> Result<(), HistoryError> {
        self.ask(move |connection| {
            let transaction = connection.transaction()?;
            for scale in scales {
                transaction.execute(
                    "INSERT OR REPLACE INTO scales (function, version, runtime, replicas) VALUES (?1, ?2, ?3, ?4)",
                    params![scale.function, scale.version, scale.runtime, scale.replicas],
                )?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// How functions were scaled; may be of versions that are not in force any more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn scales(&self) -> Result<Vec<ScaleRecord>, HistoryError> {
        self.ask(|connection| {
            let mut statement =
                connection.prepare("SELECT function, version, runtime, replicas FROM scales")?;
            let rows = statement.query_map([], |row| {
                Ok(ScaleRecord {
                    function: row.get(0)?,
                    version: row.get(1)?,
                    runtime: row.get(2)?,
                    replicas: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
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
}
