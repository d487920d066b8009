//! How a command fails: one line on standard error and an exit status.

use std::process::ExitCode;
use stoic_protocol::Problem;

/// Exit status for input that is wrong.
pub(super) const BAD_INPUT: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The gateway said so.
    #[error("{}", one_line(&.problem.to_string()))]
    Problem {
        /// What it said.
        problem: Box<Problem>,
        /// After how many seconds it is worth trying again, where it said that too.
        retry_after_s: Option<u64>,
    },
    /// Nothing listens there.
    #[error(
        "no gateway at {gateway}: start one with `stoic up`, or name another with --gateway ({cause})"
    )]
    Unreachable {
        /// Where one was expected.
        gateway: String,
        /// What connecting ended with.
        cause: String,
    },
    /// What answers there says something else than a gateway would.
    #[error("{text}")]
    Answer {
        /// Status of the answer.
        status: u16,
        /// What is wrong with it.
        text: String,
    },
    /// The command was given something it cannot use.
    #[error("{0}")]
    Input(String),
    /// This machine, or the connection, failed.
    #[error("{0}")]
    Machine(String),
    /// Ended by a signal of this number.
    #[error("interrupted")]
    Interrupted(u8),
    /// Whoever read the output has gone: nothing is left to say.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failed {
    /// An input or output error about this.
    pub(super) fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::Machine(format!("{what}: {error}"))
    }

    /// The stable code of the gateway's problem.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }

    /// Exit status: 2 where the caller is to blame, 130 and 143 after signals, else 1.
    pub(super) fn status(&self) -> u8 {
        let client = |status: u16| (400..500).contains(&status);
        match self {
            Self::Problem { problem, .. } if client(problem.status) => BAD_INPUT,
            Self::Answer { status, .. } if client(*status) => BAD_INPUT,
            Self::Input(_) => BAD_INPUT,
            Self::Interrupted(signal) => 128 + signal,
            Self::OutputClosed => 0,
            Self::Problem { .. }
            | Self::Answer { .. }
            | Self::Unreachable { .. }
            | Self::Machine(_) => 1,
        }
    }

    /// Says it on standard error.
    pub(super) fn report(&self) -> ExitCode {
        if !matches!(self, Self::Interrupted(_) | Self::OutputClosed) {
            super::output::complain(&format!("stoic: {self}"));
        }
        ExitCode::from(self.status())
    }
}

/// Problems of functions may hold several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16) -> Failed {
        Failed::Problem {
            problem: Box::new(Problem::new(status, "some_code", "first\n second")),
            retry_after_s: None,
        }
    }

    #[test]
    fn a_problem_is_one_line_with_its_code_and_4xx_is_the_callers_fault() {
        assert_eq!(problem(404).to_string(), "first second (some_code)");
        assert_eq!(problem(404).status(), 2);
        assert_eq!(problem(503).status(), 1);
        assert_eq!(Failed::Interrupted(2).status(), 130);
    }
}
