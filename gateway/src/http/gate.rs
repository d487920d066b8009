//! The gate: which request needs what, who asks, and how one that may not is told so.
//!
//! What a browser sends for a page of others goes no further: see [`origin`]. Where no token is needed one
//! flag tells. A token comes as `Authorization: Bearer`, as OpenFaaS' basic authentication (user `admin`, the
//! token as the password), or in `X-Stoic-Token`, which leaves `Authorization` to the function. What carried
//! it goes no further.

use super::Body;
use super::answer::failure;
use super::caller::Caller;
use super::origin::{self, Asked};
use super::routes::{self, Need};
use crate::auth::{Change, Denied, Known, Principal, Scope, Why, beyond_loopback};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::scheduler::unix_now;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use std::sync::Arc;
use stoic_protocol::headers::TOKEN;
use tokio::task::JoinHandle;

/// The user of OpenFaaS' basic authentication.
const BASIC_USER: &str = "admin";

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Nobody had to say.
    Anyone,
    /// Whoever has this token.
    Token(Arc<Known>),
    /// The gateway itself.
    Itself,
}

impl Who {
    /// Whether it may do what needs this scope.
    pub(super) fn may(&self, scope: Scope) -> bool {
        match self {
            Self::Anyone | Self::Itself => true,
            Self::Token(known) => known.scopes.has(scope),
        }
    }

    /// Its name, to be shown. Somebody else may have had it before: see [`Who::principal`].
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Anyone => "anonymous",
            Self::Token(known) => &known.name,
            Self::Itself => "gateway",
        }
    }

    /// Whose it is what it has for as long as it may ask.
    pub(super) fn principal(&self) -> Principal {
        match self {
            Self::Anyone => Principal::Anyone,
            Self::Token(known) => known.principal(),
            Self::Itself => Principal::Itself,
        }
    }
}

/// Why a request goes no further.
#[derive(Debug)]
pub(super) struct Refused {
    failure: Failure,
    challenge: Option<HeaderValue>,
    /// Name of the token, or what stands for it in the audit log.
    who: Arc<str>,
}

impl Refused {
    /// Whose request it was, as far as that is known.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    fn unauthorized(code: &str, detail: &str) -> Box<Self> {
        let challenge = match code {
            "token_missing" => "Bearer realm=\"stoic\"",
            _ => "Bearer realm=\"stoic\", error=\"invalid_token\"",
        };
        Box::new(Self {
            failure: Failure::new(401, code, detail),
            challenge: Some(HeaderValue::from_static(challenge)),
            who: Arc::from(match code {
                "token_missing" => "anonymous",
                _ => "unknown",
            }),
        })
    }

    fn forbidden(failure: Failure) -> Box<Self> {
        Box::new(Self {
            failure,
            challenge: None,
            who: Arc::from("anonymous"),
        })
    }

    /// The answer.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = failure(&self.failure);
        let headers = response.headers_mut();
        if let Some(challenge) = &self.challenge {
            headers.append(header::WWW_AUTHENTICATE, challenge.clone());
            if self.failure.problem.status == 401 {
                let basic = HeaderValue::from_static("Basic realm=\"stoic\"");
                headers.append(header::WWW_AUTHENTICATE, basic);
            }
        }
        response
    }
}

/// Lets a request in, and says whose it is. What carried the token is taken out of it.
pub(super) fn admit(
    gateway: &Gateway,
    request: &mut Request<Incoming>,
    caller: &Caller,
) -> Result<Who, Box<Refused>> {
    let auth = &gateway.auth;
    let enforced = auth.enforced();
    if let Err(failure) = check_browser(gateway, request, caller, enforced)
        && !is_own(gateway, request.headers())
    {
        return Err(Refused::forbidden(failure));
    }
    if !enforced && !caller.inside {
        return Ok(Who::Anyone);
    }
    let shown = take(request.headers_mut());
    // What comes from inside shows the gateway's own, whoever else may reach that door.
    if let Shown::Token(text) = &shown
        && auth.is_own(text)
    {
        return Ok(Who::Itself);
    }
    if caller.inside {
        let detail = "this address is for the gateway itself; ask where it listens";
        return Err(Refused::unauthorized("token_missing", detail));
    }
    let need = match routes::need(gateway, request.uri(), request.method()) {
        Need::Nothing => return Ok(Who::Anyone),
        Need::Token => None,
        Need::Scope(scope) => Some(scope),
    };
    let text = match shown {
        Shown::Token(text) => text,
        Shown::Nothing => {
            let detail = "a token is needed: send `Authorization: Bearer TOKEN`, or with stoic, --token-file or STOIC_TOKEN";
            return Err(Refused::unauthorized("token_missing", detail));
        }
        Shown::Unreadable => {
            let detail = "the authorization is neither `Bearer TOKEN` nor basic authentication of user `admin` with a token as the password";
            return Err(Refused::unauthorized("token_unknown", detail));
        }
    };
    match auth.admit(&text, need, unix_now()) {
        Ok(known) => Ok(Who::Token(known)),
        Err(denied) => Err(refused(denied)),
    }
}

/// Refuses what a browser sends for a page that has nothing to do with this gateway.
fn check_browser(
    gateway: &Gateway,
    request: &Request<Incoming>,
    caller: &Caller,
    enforced: bool,
) -> Result<(), Failure> {
    let (headers, uri) = (request.headers(), request.uri());
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let authority = authority.or_else(|| headers.get(header::HOST).map(origin::text));
    let asked = Asked {
        method: request.method(),
        headers,
        authority,
        secure: caller.secure,
    };
    let configured = &gateway.config.http.origins;
    origin::check_page(&asked, configured)?;
    if enforced || beyond_loopback(&gateway.config) {
        return Ok(());
    }
    // A caller asks by one name again and again.
    if caller.is_known(authority) {
        return Ok(());
    }
    origin::check_name(authority, configured)?;
    caller.knows(authority);
    Ok(())
}

/// Whether the gateway asks this of itself: a call keeps the headers that it was accepted with.
fn is_own(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let token = headers.get(TOKEN).and_then(|value| value.to_str().ok());
    token.is_some_and(|text| gateway.auth.is_own(text.trim()))
}

fn refused(denied: Denied) -> Box<Refused> {
    let mut refused = match denied.why {
        Why::Unknown => Refused::unauthorized(
            "token_unknown",
            "there is no such token, or it was revoked; `stoic token create` makes another",
        ),
        Why::Expired => Refused::unauthorized(
            "token_expired",
            "the token has expired; `stoic token create` makes another",
        ),
        Why::Scope(scope) => {
            let detail = format!(
                "this needs a token of scope {scope}; `stoic token create --scope {scope}` makes one"
            );
            let challenge =
                format!("Bearer realm=\"stoic\", error=\"insufficient_scope\", scope=\"{scope}\"");
            Box::new(Refused {
                failure: Failure::new(403, "scope_missing", detail),
                challenge: HeaderValue::try_from(challenge).ok(),
                who: Arc::default(),
            })
        }
        Why::TooOften(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let detail = "the token's rate is used up; ask again later, or raise it";
            let failure = Failure::new(429, "rate_limited", detail);
            Box::new(Refused {
                failure: failure.retry_after(seconds.max(1)),
                challenge: None,
                who: Arc::default(),
            })
        }
    };
    if let Some(who) = denied.who {
        refused.who = who;
    }
    refused
}

/// What a request shows.
enum Shown {
    Nothing,
    Unreadable,
    Token(String),
}

/// Takes out what shows who asks.
fn take(headers: &mut HeaderMap) -> Shown {
    if let Some(value) = headers.remove(TOKEN) {
        return match value.to_str() {
            Ok(text) => Shown::Token(text.trim().to_owned()),
            Err(_) => Shown::Unreadable,
        };
    }
    let Some(value) = headers.remove(header::AUTHORIZATION) else {
        return Shown::Nothing;
    };
    let read = || {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        (user == BASIC_USER).then(|| password.to_owned())
    };
    read().map_or(Shown::Unreadable, Shown::Token)
}

/// The name of what an answer is about, for the audit log: set by whoever changed it where the path
/// does not have it.
#[derive(Debug, Clone)]
pub(super) struct About(pub(super) String);

/// Longest path that is noted.
const LONGEST_PATH: usize = 256;

/// What is noted of a request that may change something, before it is worked.
#[derive(Debug)]
pub(super) struct Note {
    what: String,
    from: String,
    who: String,
}

impl Note {
    /// Of this request of somebody's; none where it changes nothing that lasts.
    pub(super) fn of(request: &Request<Incoming>, who: &str, caller: &Caller) -> Option<Self> {
        let (method, uri) = (request.method(), request.uri());
        if !routes::may_change(uri, method) {
            return None;
        }
        // Queries stay out: nobody promised that they hold no secret.
        let path: String = uri.path().chars().take(LONGEST_PATH).collect();
        Some(Self {
            what: format!("{method} {path}"),
            from: caller.address.to_str().unwrap_or_default().to_owned(),
            who: who.to_owned(),
        })
    }

    fn change(self, status: u16) -> Change {
        let mut change = Change::new(unix_now(), &self.who, self.what, status);
        change.from = Some(self.from);
        change
    }

    /// Writes it down, with what became of it.
    pub(super) fn write(self, gateway: &Gateway, answer: &Response<Body>) -> JoinHandle<()> {
        let mut change = self.change(answer.status().as_u16());
        change.name = answer.extensions().get().map(|About(name)| name.clone());
        let audit = gateway.auth.audit.clone();
        gateway.runtime.spawn_blocking(move || audit.note(&change))
    }

    /// Writes it down as one that was refused, and why. The caller waits for the disk, which bounds how
    /// much of this there is.
    pub(super) fn write_refused(self, gateway: &Gateway, refused: &Refused) -> JoinHandle<()> {
        let problem = &refused.failure.problem;
        let mut change = self.change(problem.status);
        change.code = Some(problem.code.clone());
        let audit = gateway.auth.audit.clone();
        let runtime = &gateway.runtime;
        runtime.spawn_blocking(move || audit.note_refused(&change))
    }
}

/// Scope that a change needs, where reading needs another.
pub(super) fn reading(method: &Method, read: Scope, change: Scope) -> Need {
    match *method {
        Method::GET | Method::HEAD => Need::Scope(read),
        _ => Need::Scope(change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        let shown = take(&mut headers);
        assert!(headers.is_empty());
        match shown {
            Shown::Token(text) => Some(text),
            Shown::Nothing | Shown::Unreadable => None,
        }
    }

    #[test]
    fn a_token_comes_in_three_ways_and_goes_no_further() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let of = |value: &str| shown("authorization", value);
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(of(&basic("admin:a:b")).as_deref(), Some("a:b"));
        assert_eq!(shown(TOKEN, "abc").as_deref(), Some("abc"));
        for wrong in [
            "abc",
            "Digest x",
            "Basic !!",
            &basic("root:abc"),
            &basic("admin"),
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        // The gateway's own header leaves the other to the function.
        let mut both = HeaderMap::new();
        both.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer f"));
        both.insert(TOKEN, HeaderValue::from_static("abc"));
        assert!(matches!(take(&mut both), Shown::Token(text) if text == "abc"));
        assert_eq!(both[header::AUTHORIZATION], "Bearer f");
    }
}
