//! Who may ask for what: tokens with scopes, kept as hashes, looked up in memory.
//!
//! Without a token nothing is asked and nothing is looked up. What a token looks like is known to whoever
//! made it alone: the database, the log and this module's `Debug` have its hash at most.

mod audit;
mod rate;
mod scope;
mod token;

pub use audit::{Audit, Change};
pub use rate::{Rate, RateError};
pub use scope::{Scope, ScopeError, Scopes};
pub use token::{NewToken, Secret, TokenRecord, TokenView, check_name, hash};

use crate::config::Config;
use crate::history::{History, HistoryError};
use crate::scheduler::unix_now;
use arc_swap::ArcSwap;
use rate::Gauge;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{info, warn};

/// Name of the token that the environment or a file gives.
pub const GIVEN: &str = "given-at-start";
/// What the audit log calls whoever changed something at the data folder itself.
pub const OFFLINE: &str = "data-folder";
/// Environment variable with a token of scope `admin`.
pub const ADMIN_TOKEN: &str = "STOIC_ADMIN_TOKEN";
/// Shortest token that is taken from outside.
const SHORTEST: usize = 20;
/// Tokens that another process made or revoked are known within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who waits for a token to expire looks at the clock so often: it may be set meanwhile.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_secs(60);

/// Somebody who may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub why: Why,
    /// Name of the token, where there is such a one.
    pub who: Option<Arc<str>>,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is none that there is.
    Unknown,
    /// Its time has passed.
    Expired,
    /// It lacks this scope.
    Scope(Scope),
    /// It has asked too often; worth trying again after this time.
    TooOften(Duration),
}

/// A token that there is.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
    hash: [u8; 32],
    /// Seconds since the epoch.
    expires: Option<f64>,
    rate: Option<Rate>,
    gauge: Option<Arc<Gauge>>,
}

impl Known {
    /// Whose it is that this token lets in.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal::Token(self.hash)
    }
}

/// Whom something belongs to that is not to outlast the right to it. A token is meant by its hash: a name
/// may be given anew, to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// Whoever comes while no token is needed.
    Anyone,
    /// The gateway itself.
    Itself,
    /// Whoever has the token of this hash.
    Token([u8; 32]),
}

/// The tokens, by the first bytes of their hashes.
type Table = HashMap<[u8; 8], Vec<Arc<Known>>>;

/// See the module.
#[derive(Debug)]
pub struct Auth {
    /// Whether requests need a token although there is none.
    always: bool,
    enforced: AtomicBool,
    /// Held while the tokens are read again.
    reading: tokio::sync::Mutex<()>,
    table: ArcSwap<Table>,
    /// Told whenever the tokens were read again.
    renewed: watch::Sender<()>,
    /// The token that was given at the start, which no database has.
    given: Option<TokenRecord>,
    /// The gateway's own, for what it asks of itself.
    own: Secret,
    own_hash: [u8; 32],
    begun: Instant,
    /// Where changes are noted.
    pub audit: Audit,
}

/// Why the tokens cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The database cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// No randomness is to be had.
    #[error("the system gives no random bytes")]
    Random,
    /// The token that is given at the start is none.
    #[error("{0}")]
    Given(String),
}

impl Auth {
    /// Reads the tokens.
    ///
    /// # Errors
    /// The database cannot be read, or the token that was given cannot be one.
    pub async fn open(config: &Config, history: &History) -> Result<Arc<Self>, AuthError> {
        let own = Secret::random().ok_or(AuthError::Random)?;
        let auth = Arc::new(Self {
            always: config.auth.required || (beyond_loopback(config) && !config.auth.open),
            enforced: AtomicBool::new(false),
            reading: tokio::sync::Mutex::new(()),
            table: ArcSwap::default(),
            renewed: watch::Sender::new(()),
            given: given(config.auth.admin_token_file.as_deref())?,
            own_hash: hash(own.text()),
            own,
            begun: Instant::now(),
            audit: Audit::bounded(&config.data, config.auth.audit_size.as_u64()),
        });
        auth.reload(history).await?;
        Ok(auth)
    }

    /// Reads the tokens again.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn reload(&self, history: &History) -> Result<(), HistoryError> {
        // One at a time: what was read first must not be put in force last.
        let _turn = self.reading.lock().await;
        let records = history.tokens().await?;
        let before = self.table.load();
        let mut table = Table::new();
        for record in records.into_iter().chain(self.given.clone()) {
            let same = before
                .get(&prefix(&record.hash))
                .into_iter()
                .flatten()
                .find(|known| known.hash == record.hash && known.rate == record.rate);
            // What it has asked for already counts on.
            let gauge = match (same, record.rate) {
                (Some(same), _) => same.gauge.clone(),
                (None, rate) => rate.map(|rate| Arc::new(Gauge::new(rate))),
            };
            let known = Known {
                name: record.name.into(),
                scopes: record.scopes,
                hash: record.hash,
                expires: record.expires,
                rate: record.rate,
                gauge,
            };
            let slot = table.entry(prefix(&known.hash)).or_default();
            slot.push(Arc::new(known));
        }
        let enforced = self.always || !table.is_empty();
        self.table.store(Arc::new(table));
        self.enforced.store(enforced, Relaxed);
        self.renewed.send_replace(());
        Ok(())
    }

    /// Whether requests need a token.
    #[must_use]
    pub fn enforced(&self) -> bool {
        self.enforced.load(Relaxed)
    }

    /// Whether there is any token.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.table.load().is_empty()
    }

    /// What the gateway shows when it asks something of itself.
    #[must_use]
    pub fn own(&self) -> &Secret {
        &self.own
    }

    /// Whether this is the gateway's own.
    #[must_use]
    pub fn is_own(&self, text: &str) -> bool {
        same(&hash(text), &self.own_hash)
    }

    /// The token of this text, if it may do what needs this scope (none: any token may) at this time, in
    /// seconds since the epoch.
    ///
    /// # Errors
    /// It may not.
    pub fn admit(&self, text: &str, need: Option<Scope>, now: f64) -> Result<Arc<Known>, Denied> {
        let sum = hash(text);
        let table = self.table.load();
        let mut found = table.get(&prefix(&sum)).into_iter().flatten();
        let known = found.find(|known| same(&known.hash, &sum)).ok_or(Denied {
            why: Why::Unknown,
            who: None,
        })?;
        let denied = |why| Denied {
            why,
            who: Some(Arc::clone(&known.name)),
        };
        if known.expires.is_some_and(|end| end <= now) {
            return Err(denied(Why::Expired));
        }
        if let Some(scope) = need
            && !known.scopes.has(scope)
        {
            return Err(denied(Why::Scope(scope)));
        }
        if let Some(gauge) = &known.gauge {
            let taken = gauge.take(self.begun.elapsed());
            taken.map_err(|wait| denied(Why::TooOften(wait)))?;
        }
        Ok(Arc::clone(known))
    }

    /// Returns when what let this one in lets it in no more: its token is revoked or has expired, or it had
    /// none and one is needed now. For what goes on long after it was let in.
    pub async fn until_gone(&self, principal: Principal) {
        // Before the first look, so that no change falls between the two.
        let mut renewed = self.renewed.subscribe();
        loop {
            let left = match self.standing(principal, unix_now()) {
                Standing::Gone => return,
                Standing::Lasts => None,
                Standing::Until(left) => Some(left),
            };
            let expiry = async {
                match left {
                    Some(left) => tokio::time::sleep(left.min(LOOK_AT_THE_CLOCK)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = renewed.changed() => {}
                () = expiry => {}
            }
        }
    }

    fn standing(&self, principal: Principal, now: f64) -> Standing {
        let sum = match principal {
            Principal::Itself => return Standing::Lasts,
            Principal::Anyone if self.enforced() => return Standing::Gone,
            Principal::Anyone => return Standing::Lasts,
            Principal::Token(sum) => sum,
        };
        let table = self.table.load();
        let mut found = table.get(&prefix(&sum)).into_iter().flatten();
        let Some(known) = found.find(|known| same(&known.hash, &sum)) else {
            return Standing::Gone;
        };
        match known.expires.map(|end| end - now) {
            None => Standing::Lasts,
            Some(left) if left <= 0.0 => Standing::Gone,
            Some(left) => {
                Standing::Until(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
            }
        }
    }
}

/// Whether one that was let in still would be.
enum Standing {
    /// As long as no token changes.
    Lasts,
    /// So long at most.
    Until(Duration),
    /// No more.
    Gone,
}

/// Whether others than this machine's users can reach the gateway.
#[must_use]
pub fn beyond_loopback(config: &Config) -> bool {
    !config.listen.ip().to_canonical().is_loopback()
}

/// Learns of tokens that another process made or revoked in the same data folder.
pub async fn watch(auth: Arc<Auth>, history: History) {
    let mut seen = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(version) = history.data_version().await else {
            continue;
        };
        if seen == Some(version) {
            continue;
        }
        match auth.reload(&history).await {
            Ok(()) => {
                // The first time, nobody has to have written: they were read a while ago.
                if seen.replace(version).is_some() {
                    info!("another process wrote to the data folder: the tokens are read again");
                }
            }
            Err(error) => warn!("the tokens cannot be read again: {error}"),
        }
    }
}

/// The token of the environment, or of a file.
fn given(file: Option<&Path>) -> Result<Option<TokenRecord>, AuthError> {
    let (text, from) = match (std::env::var(ADMIN_TOKEN), file) {
        (Ok(text), _) if !text.is_empty() => (text, ADMIN_TOKEN.to_owned()),
        (_, None) => return Ok(None),
        (_, Some(file)) => {
            let from = format!("auth.admin_token_file {}", file.display());
            let text = std::fs::read_to_string(file)
                .map_err(|error| AuthError::Given(format!("{from}: {error}")))?;
            (text, from)
        }
    };
    let text = text.trim();
    if text.len() < SHORTEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(AuthError::Given(format!(
            "{from}: a token has at least {SHORTEST} characters of ASCII and no blanks, as `openssl rand -hex 32` makes one"
        )));
    }
    Ok(Some(TokenRecord {
        name: GIVEN.to_owned(),
        hash: hash(text),
        scopes: Scopes::of(&[Scope::Admin]),
        created: unix_now(),
        expires: None,
        rate: None,
    }))
}

fn prefix(hash: &[u8; 32]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differ = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn auth(text: &str) -> (tempfile::TempDir, History, Arc<Auth>) {
        let folder = tempfile::tempdir().expect("folder");
        let mut config = Config::parse(text).expect("valid");
        config.data = folder.path().to_owned();
        let history = History::open(&folder.path().join("stoic.db")).expect("opens");
        let auth = Auth::open(&config, &history).await.expect("opens");
        (folder, history, auth)
    }

    fn record(name: &str, secret: &Secret, scope: Scope) -> TokenRecord {
        TokenRecord {
            name: name.to_owned(),
            hash: hash(secret.text()),
            scopes: Scopes::of(&[scope]),
            created: 1.0,
            expires: None,
            rate: None,
        }
    }

    #[tokio::test]
    async fn a_token_does_what_its_scope_says_until_it_ends_or_is_revoked() {
        let (_folder, history, auth) = auth("").await;
        assert!(!auth.enforced() && !auth.any());
        let secret = Secret::random().expect("random");
        let mut one = record("one", &secret, Scope::Deploy);
        one.expires = Some(100.0);
        assert!(history.put_token(one.clone()).await.expect("kept"));
        assert!(!history.put_token(one).await.expect("its name is taken"));
        auth.reload(&history).await.expect("read");
        assert!(auth.enforced() && auth.any());
        let may = |need, now| {
            let admitted = auth.admit(secret.text(), need, now);
            admitted.map(|known| known.name.clone()).map_err(|denied| {
                // Whoever is known is named.
                assert_eq!(denied.who.is_some(), denied.why != Why::Unknown);
                denied.why
            })
        };
        assert_eq!(may(Some(Scope::Deploy), 99.0).as_deref(), Ok("one"));
        assert_eq!(may(None, 99.0).as_deref(), Ok("one"));
        assert_eq!(may(Some(Scope::Admin), 99.0), Err(Why::Scope(Scope::Admin)));
        assert_eq!(may(None, 100.0), Err(Why::Expired));
        let another = auth.admit("another", None, 1.0);
        assert_eq!(
            another.map_err(|denied| denied.why).err(),
            Some(Why::Unknown)
        );
        assert!(history.delete_token("one").await.expect("revoked"));
        auth.reload(&history).await.expect("read");
        assert_eq!(may(None, 1.0), Err(Why::Unknown));
        assert!(!auth.enforced());
    }

    #[tokio::test]
    async fn beyond_loopback_or_where_it_is_required_nothing_goes_without_a_token() {
        for (text, enforced) in [
            ("", false),
            ("listen = \"[::1]:0\"", false),
            ("listen = \"0.0.0.0:0\"", true),
            ("listen = \"0.0.0.0:0\"\n[auth]\nopen = true", false),
            ("[auth]\nrequired = true", true),
        ] {
            let (_folder, _, auth) = auth(text).await;
            assert_eq!(auth.enforced(), enforced, "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_counts_on_when_tokens_are_read_again() {
        let (_folder, history, auth) = auth("").await;
        let secret = Secret::random().expect("random");
        let mut limited = record("limited", &secret, Scope::Invoke);
        limited.rate = Some("2/h".parse().expect("a rate"));
        history.put_token(limited).await.expect("kept");
        auth.reload(&history).await.expect("read");
        let take = || {
            let admitted = auth.admit(secret.text(), None, 1.0);
            admitted.map(|_| ()).map_err(|denied| denied.why)
        };
        assert_eq!((take(), take()), (Ok(()), Ok(())));
        auth.reload(&history).await.expect("read");
        assert!(matches!(take(), Err(Why::TooOften(wait)) if wait.as_secs() > 1700));
    }

    #[tokio::test]
    async fn what_was_let_in_ends_with_its_token_and_not_with_another_of_that_name() {
        let (_folder, history, auth) = auth("").await;
        let gone = |principal| {
            let auth = Arc::clone(&auth);
            tokio::spawn(async move { auth.until_gone(principal).await })
        };
        let anyone = gone(Principal::Anyone);
        let itself = gone(Principal::Itself);
        let (old, new) = (Secret::random(), Secret::random());
        let (old, new) = (old.expect("random"), new.expect("random"));
        let (name, scope) = ("one", Scope::Deploy);
        let _ = history.put_token(record(name, &old, scope)).await;
        auth.reload(&history).await.expect("read");
        // Now a token is needed.
        anyone.await.expect("ended");
        let known = auth.admit(old.text(), None, 1.0).expect("it is there");
        let (first, second) = (gone(known.principal()), gone(known.principal()));
        auth.reload(&history).await.expect("read");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!first.is_finished() && !second.is_finished());
        // Both before the tokens are read again: the name was there all along.
        assert!(history.delete_token(name).await.expect("gone"));
        let mut again = record(name, &new, scope);
        again.expires = Some(unix_now() + 0.3);
        let _ = history.put_token(again).await;
        auth.reload(&history).await.expect("read");
        first.await.expect("ended");
        second.await.expect("ended");
        // One that comes too late is told as well.
        auth.until_gone(known.principal()).await;
        let known = auth.admit(new.text(), None, 1.0).expect("it is there");
        let begun = Instant::now();
        auth.until_gone(known.principal()).await;
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(!itself.is_finished());
        itself.abort();
    }

    #[tokio::test]
    async fn no_secret_is_shown() {
        let (_folder, _, auth) = auth("").await;
        let own = auth.own().text().to_owned();
        assert!(auth.is_own(&own) && !auth.is_own("x"));
        assert!(!format!("{auth:?}").contains(&own));
    }
}
