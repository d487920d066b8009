//! How an invocation is placed: the words of header `X-Stoic-Mode`, of `--mode` and of the
//! configuration.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On the runtime that the caller names.
    Pinned,
    /// On the runtime of least expected response (paper, section 3).
    #[default]
    Selector,
    /// As `selector`, but where cloud runtimes cannot be told apart several are deployed, and the first
    /// that is up gets the work.
    Hedged,
    /// At the edge and in the cloud at once; whoever loses is ended (paper, section 4.3).
    Duplicator,
    /// One batch shared by the edge, from its front, and the cloud, from its back.
    Cooperative,
    /// Whichever of these is predicted to be fastest.
    Auto,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pinned,
        Self::Selector,
        Self::Hedged,
        Self::Duplicator,
        Self::Cooperative,
        Self::Auto,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Selector => "selector",
            Self::Hedged => "hedged",
            Self::Duplicator => "duplicator",
            Self::Cooperative => "cooperative",
            Self::Auto => "auto",
        }
    }

    /// Whether it takes more than one runtime.
    #[must_use]
    pub const fn several(self) -> bool {
        matches!(self, Self::Hedged | Self::Duplicator | Self::Cooperative)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn every_name_is_read_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
            let text = serde_json::to_string(&mode).expect("serialises");
            assert_eq!(text, format!("\"{mode}\""));
        }
        assert_eq!("Selector".parse::<Mode>(), Err(()));
    }
}
