//! Tables and how they came to be: one migration after the other, counted in `user_version`.

use rusqlite::Connection;

const MIGRATIONS: &[&str] = &["
    CREATE TABLE functions (
        name TEXT PRIMARY KEY,
        object TEXT NOT NULL,
        created REAL NOT NULL
    ) STRICT;
    CREATE TABLE models (
        function TEXT NOT NULL,
        number INTEGER NOT NULL,
        key TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created REAL NOT NULL,
        invocation TEXT NOT NULL,
        PRIMARY KEY (function, number)
    ) STRICT;
    CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        invocation TEXT NOT NULL, at REAL NOT NULL,
        function TEXT NOT NULL, version TEXT NOT NULL, action TEXT NOT NULL,
        runtime TEXT NOT NULL, site TEXT NOT NULL, mode TEXT NOT NULL,
        items INTEGER NOT NULL, bytes INTEGER NOT NULL, start TEXT NOT NULL,
        pred_queueing REAL, pred_transfer REAL, pred_deployment REAL, pred_processing REAL,
        pred_low90 REAL, pred_high90 REAL,
        act_queueing REAL NOT NULL, act_transfer REAL NOT NULL, act_deployment REAL NOT NULL, act_processing REAL NOT NULL,
        outcome TEXT NOT NULL, model TEXT, emulated TEXT NOT NULL
    ) STRICT;
    CREATE INDEX measurements_by_function ON measurements (function, runtime, id);
    CREATE TABLE deployments (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, function TEXT NOT NULL, runtime TEXT NOT NULL,
        seconds REAL NOT NULL, emulated_s REAL NOT NULL, ok INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE transfers (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, site TEXT NOT NULL, bytes INTEGER NOT NULL, seconds REAL NOT NULL
    ) STRICT;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
", "
    ALTER TABLE deployments ADD COLUMN version TEXT NOT NULL DEFAULT '';
    ALTER TABLE deployments ADD COLUMN probe INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE deployments ADD COLUMN standby INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE deployments ADD COLUMN failure TEXT;
    ALTER TABLE transfers ADD COLUMN probe INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX deployments_by_version ON deployments (function, version, id);
    ALTER TABLE transfers ADD COLUMN rtt_s REAL;
", "
    ALTER TABLE measurements ADD COLUMN items_by TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE measurements ADD COLUMN cloud_runtime TEXT;
    ALTER TABLE measurements ADD COLUMN cloud_saved REAL NOT NULL DEFAULT 0;
    ALTER TABLE measurements ADD COLUMN cloud_lost REAL NOT NULL DEFAULT 0;
    ALTER TABLE measurements ADD COLUMN cloud_used REAL NOT NULL DEFAULT 0;
    CREATE INDEX measurements_raced ON measurements (function, mode, cloud_runtime)
        WHERE cloud_runtime IS NOT NULL;
", "
    CREATE TABLE calls (
        id TEXT PRIMARY KEY,
        function TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, headers TEXT NOT NULL,
        body BLOB, body_key TEXT, body_bytes INTEGER NOT NULL, digest TEXT NOT NULL, idempotency TEXT,
        state TEXT NOT NULL, created REAL NOT NULL, due REAL NOT NULL, started REAL, finished REAL,
        attempts INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
        log TEXT NOT NULL DEFAULT '[]',
        status INTEGER, result_headers TEXT, result BLOB, result_key TEXT, result_bytes INTEGER,
        callback TEXT, callback_state TEXT, callback_attempts INTEGER NOT NULL DEFAULT 0,
        callback_due REAL, callback_error TEXT
    ) STRICT;
    CREATE UNIQUE INDEX calls_once ON calls (function, idempotency) WHERE idempotency IS NOT NULL;
    CREATE INDEX calls_unfinished ON calls (state) WHERE state IN ('queued', 'running');
    CREATE INDEX calls_to_tell ON calls (callback_state) WHERE callback_state = 'due';
    CREATE INDEX calls_finished ON calls (finished) WHERE finished IS NOT NULL;
", "
    CREATE TABLE scales (
        function TEXT NOT NULL, version TEXT NOT NULL, runtime TEXT NOT NULL, replicas INTEGER NOT NULL,
        PRIMARY KEY (function, runtime)
    ) STRICT;
", "
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY, hash BLOB NOT NULL, scopes TEXT NOT NULL, created REAL NOT NULL,
        expires REAL, rate TEXT
    ) STRICT;
", "
    ALTER TABLE measurements ADD COLUMN fluid REAL;
"];

/// Brings the database to the newest schema.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let done: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|n| usize::try_from(n).unwrap_or(0))?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(number + 1).unwrap_or(i64::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}
