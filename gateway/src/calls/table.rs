//! The table of calls. A call is in it, on disk, before anyone is told that it was accepted.

use super::record::{
    Attempt, CallState, CallView, CallbackView, Job, NewCall, Outcome, Stored, Telling,
};
use crate::history::{History, HistoryError};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Columns of a [`CallView`].
const VIEW: &str = "id, function, method, path, state, created, due, started, finished, attempts, failures, log, \
    body_bytes, status, result_bytes, callback, callback_state, callback_attempts, callback_error";

/// How an acceptance ended.
#[derive(Debug)]
pub(super) enum Accepted {
    /// It is stored.
    New,
    /// Its idempotency key is that of an earlier call.
    Known { id: String, digest: String },
}

/// A call that waits, as it is found at start.
pub(super) struct Waiting {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) due: f64,
}

/// Where the objects of a call are, when it goes.
pub(super) struct Gone {
    pub(super) id: String,
    pub(super) keys: Vec<String>,
}

type Done<T> = Result<T, HistoryError>;

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Stores a call, unless its idempotency key is known.
pub(super) async fn accept(history: &History, call: NewCall) -> Done<Accepted> {
    history
        .write(move |connection| {
            let inserted = connection
                .prepare_cached(
                    "INSERT INTO calls (id, function, method, path, headers, body, body_key, body_bytes, digest, \
                     idempotency, state, created, due, callback, callback_state) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'queued', ?11, ?11, ?12, ?13) \
                     ON CONFLICT (function, idempotency) WHERE idempotency IS NOT NULL DO NOTHING",
                )?
                .execute(params![
                    call.id,
                    call.function,
                    call.method,
                    call.path,
                    call.headers,
                    call.body.inline,
                    call.body.key,
                    signed(call.body.bytes),
                    call.digest,
                    call.idempotency,
                    call.created,
                    call.callback,
                    call.callback.as_ref().map(|_| "waiting"),
                ])?;
            if inserted > 0 {
                return Ok(Accepted::New);
            }
            let known = connection.query_row(
                "SELECT id, digest FROM calls WHERE function = ?1 AND idempotency = ?2",
                params![call.function, call.idempotency],
                |row| {
                    Ok(Accepted::Known {
                        id: row.get(0)?,
                        digest: row.get(1)?,
                    })
                },
            )?;
            Ok(known)
        })
        .await
}

/// Calls of an earlier life: what ran is queued again, and says why.
pub(super) async fn recall(
    history: &History,
    now: f64,
) -> Done<(Vec<Waiting>, Vec<(String, f64)>)> {
    history
        .ask(move |connection| {
            connection.execute(
                "UPDATE calls SET state = 'queued', due = ?1, log = json_insert(log, '$[#]', json_object( \
                 'at', started, 'seconds', max(0.0, ?1 - started), 'reason', 'the gateway ended', 'status', NULL, \
                 'runtime', NULL, 'site', NULL, 'pod', NULL, 'start', NULL, 'predicted', NULL, 'actual', NULL)) \
                 WHERE state = 'running'",
                [now],
            )?;
            let mut queued = connection
                .prepare("SELECT id, function, due FROM calls WHERE state = 'queued' ORDER BY id")?;
            let queued = queued
                .query_map([], |row| {
                    Ok(Waiting {
                        id: row.get(0)?,
                        function: row.get(1)?,
                        due: row.get(2)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            let mut telling = connection.prepare(
                "SELECT id, coalesce(callback_due, 0) FROM calls WHERE callback_state = 'due' ORDER BY id",
            )?;
            let telling = telling
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            Ok((queued, telling))
        })
        .await
}

/// An attempt begins, unless the call was taken back meanwhile.
pub(super) async fn begin(history: &History, id: String, now: f64) -> Done<Option<Job>> {
    history
        .write(move |connection| {
            let begun = connection
                .prepare_cached(
                    "UPDATE calls SET state = 'running', started = ?2, attempts = attempts + 1 \
                     WHERE id = ?1 AND state = 'queued' \
                     RETURNING function, method, path, headers, body, body_key, body_bytes, attempts, failures",
                )?
                .query_row(params![id, now], |row| {
                    Ok(Job {
                        id: id.clone(),
                        function: row.get(0)?,
                        method: row.get(1)?,
                        path: row.get(2)?,
                        headers: row.get(3)?,
                        body: Stored {
                            inline: row.get(4)?,
                            key: row.get(5)?,
                            bytes: unsigned(row.get(6)?),
                        },
                        attempt: row.get(7)?,
                        failures: row.get(8)?,
                    })
                })
                .optional()?;
            Ok(begun)
        })
        .await
}

fn logged(attempt: Option<&Attempt>) -> Done<Option<String>> {
    attempt
        .map(serde_json::to_string)
        .transpose()
        .map_err(|e| HistoryError::Unreadable(e.to_string()))
}

/// A running call ends so. False where it was taken back meanwhile; nothing is changed then.
pub(super) async fn finish(
    history: &History,
    id: String,
    state: CallState,
    attempt: &Attempt,
    outcome: Outcome,
    failed: bool,
    now: f64,
) -> Done<bool> {
    let log = logged(Some(attempt))?;
    history
        .write(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE calls SET state = ?2, finished = ?3, log = json_insert(log, '$[#]', json(?4)), \
                     failures = failures + ?5, status = ?6, result_headers = ?7, result = ?8, result_key = ?9, \
                     result_bytes = ?10, callback_due = ?3, \
                     callback_state = CASE WHEN callback IS NULL THEN NULL ELSE 'due' END \
                     WHERE id = ?1 AND state = 'running'",
                )?
                .execute(params![
                    id,
                    state.name(),
                    now,
                    log,
                    i64::from(failed),
                    outcome.status,
                    outcome.headers,
                    outcome.body.inline,
                    outcome.body.key,
                    outcome.status.map(|_| signed(outcome.body.bytes)),
                ])?;
            Ok(changed > 0)
        })
        .await
}

/// A running call waits again. False where it was taken back meanwhile.
pub(super) async fn again(
    history: &History,
    id: String,
    attempt: &Attempt,
    failed: bool,
    due: f64,
) -> Done<bool> {
    let log = logged(failed.then_some(attempt))?;
    history
        .write(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE calls SET state = 'queued', due = ?2, failures = failures + ?3, \
                     attempts = attempts - (?4 IS NULL), \
                     log = CASE WHEN ?4 IS NULL THEN log ELSE json_insert(log, '$[#]', json(?4)) END \
                     WHERE id = ?1 AND state = 'running'",
                )?
                .execute(params![id, due, i64::from(failed), log])?;
            Ok(changed > 0)
        })
        .await
}

/// Takes a call back. False where it has ended; none where there is no such call.
pub(super) async fn cancel(history: &History, id: String, now: f64) -> Done<Option<bool>> {
    history
        .write(move |connection| {
            let changed = connection.execute(
                "UPDATE calls SET state = 'cancelled', finished = ?2, callback_state = NULL \
                 WHERE id = ?1 AND state IN ('queued', 'running')",
                params![id, now],
            )?;
            if changed > 0 {
                return Ok(Some(true));
            }
            Ok(exists(connection, &id)?.then_some(false))
        })
        .await
}

/// Queues a dead or failed call anew. Gives its function, and the key of the result that is void now;
/// `Err` inside: its state, which is another.
pub(super) async fn revive(
    history: &History,
    id: String,
    now: f64,
) -> Done<Option<Result<(String, Option<String>), String>>> {
    history
        .write(move |connection| {
            let found: Option<(String, String, Option<String>)> = connection
                .query_row(
                    "SELECT state, function, result_key FROM calls WHERE id = ?1",
                    [&id],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            let Some((state, function, key)) = found else {
                return Ok(None);
            };
            let changed = connection.execute(
                "UPDATE calls SET state = 'queued', due = ?2, created = ?2, finished = NULL, failures = 0, \
                 status = NULL, result_headers = NULL, result = NULL, result_key = NULL, result_bytes = NULL, \
                 callback_attempts = 0, callback_error = NULL, callback_due = NULL, \
                 callback_state = CASE WHEN callback IS NULL THEN NULL ELSE 'waiting' END \
                 WHERE id = ?1 AND state IN ('dead', 'failed')",
                params![id, now],
            )?;
            Ok(Some(if changed > 0 { Ok((function, key)) } else { Err(state) }))
        })
        .await
}

fn exists(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM calls WHERE id = ?1")?
        .exists([id])
}

/// One call.
pub(super) async fn view(history: &History, id: String) -> Done<Option<CallView>> {
    history
        .ask(move |connection| {
            let sql = format!("SELECT {VIEW} FROM calls WHERE id = ?1");
            Ok(connection
                .prepare_cached(&sql)?
                .query_row([id], shown)
                .optional()?)
        })
        .await
}

/// Calls before this one, the newest first.
pub(super) async fn list(
    history: &History,
    function: Option<String>,
    state: Option<CallState>,
    before: Option<String>,
    limit: u32,
) -> Done<Vec<CallView>> {
    history
        .ask(move |connection| {
            let sql = format!(
                "SELECT {VIEW} FROM calls WHERE (?1 IS NULL OR function = ?1) AND (?2 IS NULL OR state = ?2) \
                 AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(
                params![function, state.map(CallState::name), before, limit],
                shown,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

fn shown(row: &Row<'_>) -> rusqlite::Result<CallView> {
    let state: String = row.get(4)?;
    let state = CallState::named(&state).unwrap_or(CallState::Queued);
    let log: String = row.get(11)?;
    let url: Option<String> = row.get(15)?;
    let callback = match url {
        None => None,
        Some(url) => Some(CallbackView {
            url,
            state: row
                .get::<_, Option<String>>(16)?
                .unwrap_or_else(|| "none".to_owned()),
            attempts: row.get(17)?,
            error: row.get(18)?,
        }),
    };
    Ok(CallView {
        id: row.get(0)?,
        function: row.get(1)?,
        method: row.get(2)?,
        path: row.get(3)?,
        state,
        created: row.get(5)?,
        due: (state == CallState::Queued).then_some(row.get(6)?),
        started: row.get(7)?,
        finished: row.get(8)?,
        attempted: row.get(9)?,
        failures: row.get(10)?,
        attempts: serde_json::from_str(&log).unwrap_or_default(),
        body_bytes: unsigned(row.get(12)?),
        status: row.get(13)?,
        result_bytes: row.get::<_, Option<i64>>(14)?.map(unsigned),
        callback,
    })
}

/// The state and the answer of a call.
pub(super) async fn outcome(history: &History, id: String) -> Done<Option<(CallState, Outcome)>> {
    history
        .ask(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT state, status, result_headers, result, result_key, result_bytes FROM calls WHERE id = ?1",
                )?
                .query_row([id], |row| {
                    let state: String = row.get(0)?;
                    Ok((
                        CallState::named(&state).unwrap_or(CallState::Queued),
                        answer(row, 1)?,
                    ))
                })
                .optional()?;
            Ok(found)
        })
        .await
}

/// The answer from five columns on.
fn answer(row: &Row<'_>, at: usize) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        status: row.get(at)?,
        headers: row.get::<_, Option<String>>(at + 1)?.unwrap_or_default(),
        body: Stored {
            inline: row.get(at + 2)?,
            key: row.get(at + 3)?,
            bytes: row.get::<_, Option<i64>>(at + 4)?.map_or(0, unsigned),
        },
    })
}

/// What a callback that is due needs.
pub(super) async fn telling(history: &History, id: String) -> Done<Option<Telling>> {
    history
        .ask(move |connection| {
            let found = connection
                .prepare_cached(
                    "SELECT function, callback, state, coalesce(finished - started, 0.0), callback_attempts, \
                     status, result_headers, result, result_key, result_bytes \
                     FROM calls WHERE id = ?1 AND callback_state = 'due' AND callback IS NOT NULL",
                )?
                .query_row([&id], |row| {
                    Ok(Telling {
                        id: id.clone(),
                        function: row.get(0)?,
                        url: row.get(1)?,
                        state: row.get(2)?,
                        seconds: row.get(3)?,
                        attempts: row.get(4)?,
                        outcome: answer(row, 5)?,
                    })
                })
                .optional()?;
            Ok(found)
        })
        .await
}

/// How an attempt to tell a callback ended: `due` once more, `delivered`, or `given_up`.
pub(super) async fn told(
    history: &History,
    id: String,
    state: &'static str,
    due: f64,
    error: Option<String>,
) -> Done<()> {
    history
        .write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE calls SET callback_state = ?2, callback_due = ?3, callback_error = ?4, \
                     callback_attempts = callback_attempts + 1 WHERE id = ?1 AND callback_state = 'due'",
                )?
                .execute(params![id, state, due, error])?;
            Ok(())
        })
        .await
}

/// Gives up what has waited since before this time; says which, and whom to tell.
pub(super) async fn give_up(
    history: &History,
    before: f64,
    now: f64,
) -> Done<Vec<(String, String, bool)>> {
    history
        .write(move |connection| {
            let mut statement = connection.prepare_cached(
                "UPDATE calls SET state = 'expired', finished = ?2, callback_due = ?2, \
                 callback_state = CASE WHEN callback IS NULL THEN NULL ELSE 'due' END \
                 WHERE state IN ('queued', 'running') AND created < ?1 RETURNING id, function, callback IS NOT NULL",
            )?;
            let rows = statement.query_map(params![before, now], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

/// Some of the calls that ended before this time and owe nobody anything.
pub(super) async fn outlived(history: &History, before: f64) -> Done<Vec<Gone>> {
    history
        .ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, body_key, result_key FROM calls \
                 WHERE finished < ?1 AND callback_state IS NOT 'due' LIMIT 1000",
            )?;
            let rows = statement.query_map([before], |row| {
                let keys: [Option<String>; 2] = [row.get(1)?, row.get(2)?];
                Ok(Gone {
                    id: row.get(0)?,
                    keys: keys.into_iter().flatten().collect(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

/// Forgets calls that have ended.
pub(super) async fn forget(history: &History, ids: Vec<String>, before: f64) -> Done<()> {
    history
        .write(move |connection| {
            let ids =
                serde_json::to_string(&ids).map_err(|e| HistoryError::Unreadable(e.to_string()))?;
            connection.execute(
                "DELETE FROM calls WHERE id IN (SELECT value FROM json_each(?1)) AND finished < ?2",
                params![ids, before],
            )?;
            Ok(())
        })
        .await
}

/// Which of these have no row.
pub(super) async fn unknown(history: &History, ids: Vec<String>) -> Done<Vec<String>> {
    history
        .ask(move |connection| {
            let mut left = Vec::new();
            for id in ids {
                if !exists(connection, &id)? {
                    left.push(id);
                }
            }
            Ok(left)
        })
        .await
}
