//! Tokens, as hashes: on disk when a write returns.

use super::worker::{History, HistoryError};
use crate::auth::{Rate, TokenRecord};
use rusqlite::params;

impl History {
    /// All tokens, in order of their names.
    ///
    /// # Errors
    /// A row cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, HistoryError> {
        self.ask(|connection| {
            let mut statement = connection.prepare(
                "SELECT name, hash, scopes, created, expires, rate FROM tokens ORDER BY name",
            )?;
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let unreadable =
                    |what: String| HistoryError::Unreadable(format!("a stored token: {what}"));
                let (scopes, rate): (String, Option<String>) = (row.get(2)?, row.get(5)?);
                let rate = rate.map(|rate| rate.parse::<Rate>()).transpose();
                all.push(TokenRecord {
                    name: row.get(0)?,
                    hash: row.get(1)?,
                    scopes: scopes
                        .parse()
                        .map_err(|e: crate::auth::ScopeError| unreadable(e.to_string()))?,
                    created: row.get(3)?,
                    expires: row.get(4)?,
                    rate: rate.map_err(|e: crate::auth::RateError| unreadable(e.to_string()))?,
                });
            }
            Ok(all)
        })
        .await
    }

    /// Keeps a token; says whether its name was free.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn put_token(&self, token: TokenRecord) -> Result<bool, HistoryError> {
        self.ask(move |connection| {
            let changed = connection.execute(
                "INSERT INTO tokens (name, hash, scopes, created, expires, rate) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
                params![
                    token.name,
                    token.hash,
                    token.scopes.text(),
                    token.created,
                    token.expires,
                    token.rate.map(|rate| rate.to_string())
                ],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Forgets a token; says whether there was one.
    ///
    /// # Errors
    /// The disk says no.
    pub async fn delete_token(&self, name: &str) -> Result<bool, HistoryError> {
        let name = name.to_owned();
        self.ask(move |connection| {
            Ok(connection.execute("DELETE FROM tokens WHERE name = ?1", [name])? > 0)
        })
        .await
    }

    /// A number that changes when another process writes to the database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn data_version(&self) -> Result<i64, HistoryError> {
        self.ask(|connection| {
            Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
        })
        .await
    }
}
