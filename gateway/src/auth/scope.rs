//! What a token may do.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// One thing that a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Invoke functions, and ask what they would take and what became of calls.
    Invoke,
    /// Deploy, scale and remove functions, keep their secrets, read their logs.
    Deploy,
    /// Everything, tokens too.
    Admin,
}

/// No scope is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not one of invoke, deploy, admin")]
pub struct ScopeError(String);

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Invoke, Self::Deploy, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let text = text.trim();
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| ScopeError(text.chars().take(32).collect()))
    }
}

/// What a token may do. Written as a list of names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scopes {
    /// These.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether it may do this. `admin` may do everything.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether it may do nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names, with commas between.
    #[must_use]
    pub fn text(self) -> String {
        let names: Vec<&str> = Vec::from(self).into_iter().map(Scope::name).collect();
        names.join(",")
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        Self::of(&scopes)
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        let all = Scope::ALL.into_iter();
        all.filter(|scope| scopes.0 & scope.bit() != 0).collect()
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let scopes: Result<Vec<Scope>, _> = text.split(',').map(str::parse).collect();
        Ok(Self::of(&scopes?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set_and_admin_has_all() {
        let scopes: Scopes = "deploy, invoke,deploy".parse().expect("scopes");
        assert_eq!(scopes.text(), "invoke,deploy");
        assert!(scopes.has(Scope::Invoke) && scopes.has(Scope::Deploy));
        assert!(!scopes.has(Scope::Admin));
        let admin = Scopes::of(&[Scope::Admin]);
        assert!(Scope::ALL.into_iter().all(|scope| admin.has(scope)));
        assert!("invoke,all".parse::<Scopes>().is_err() && "".parse::<Scopes>().is_err());
        let json = serde_json::to_string(&scopes).expect("serialises");
        assert_eq!(json, "[\"invoke\",\"deploy\"]");
        assert_eq!(
            serde_json::from_str::<Scopes>(&json).expect("reads"),
            scopes
        );
    }
}
