//! Failed starts in a row, and how they are told: every try with its reason, equal reasons once.

use crate::sites::StartError;
use std::fmt;
use std::time::Duration;

/// Longest text of one reason, in characters: a pod's last words may be long.
const LONGEST_REASON: usize = 400;

/// The failed tries of one deployment (paper, section 3.7), the first first.
#[derive(Debug, Clone, Default)]
pub struct StartFailures {
    errors: Vec<StartError>,
    took: Duration,
}

impl StartFailures {
    /// Adds the failure of one more try; `took` is the time since the first was begun.
    pub(super) fn add(&mut self, error: StartError, took: Duration) {
        self.errors.push(error);
        self.took = took;
    }

    /// Number of failed tries.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.errors.len()).unwrap_or(u32::MAX)
    }

    /// The last failure.
    #[must_use]
    pub fn last(&self) -> Option<&StartError> {
        self.errors.last()
    }

    /// Whether trying again at once would not help: the site refuses to start such a pod at all, has no
    /// such image, or has no room for it.
    #[must_use]
    pub fn hopeless(&self) -> bool {
        match self.last() {
            Some(StartError::Refused(_) | StartError::ImageAbsent(_) | StartError::NoRoom(_)) => {
                true
            }
            Some(
                StartError::Image(_)
                | StartError::Engine(_)
                | StartError::Exited(_)
                | StartError::NeverReady(_),
            )
            | None => false,
        }
    }
}

impl fmt::Display for StartFailures {
    /// `10 tries in 51.2 s: tries 1-4 and 6-10: exit status 7; try 5: did not answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons: Vec<(String, Vec<usize>)> = Vec::new();
        for (number, error) in self.errors.iter().enumerate() {
            let text: String = error.to_string().chars().take(LONGEST_REASON).collect();
            match reasons.iter_mut().find(|(known, _)| *known == text) {
                Some((_, tries)) => tries.push(number + 1),
                None => reasons.push((text, vec![number + 1])),
            }
        }
        match self.errors.len() {
            1 => f.write_str("no pod could be started: ")?,
            count => write!(
                f,
                "no pod could be started, in {count} tries over {:.1} s: ",
                self.took.as_secs_f64()
            )?,
        }
        if let [(only, _)] = reasons.as_slice() {
            let every = if self.errors.len() == 1 {
                ""
            } else {
                "every time "
            };
            return write!(f, "{every}{only}");
        }
        for (index, (text, tries)) in reasons.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let word = if tries.len() == 1 { "try" } else { "tries" };
            write!(f, "{separator}{word} {}: {text}", ranges(tries))?;
        }
        Ok(())
    }
}

/// Numbers in ascending order, runs of them shortened: `1-4, 6`.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *number => *end = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let one = |(from, to): &(usize, usize)| match to - from {
        0 => from.to_string(),
        _ => format!("{from}-{to}"),
    };
    runs.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_try_is_told_and_equal_reasons_once() {
        let mut failures = StartFailures::default();
        let exited = || StartError::Exited("exit status 7".to_owned());
        failures.add(exited(), Duration::from_millis(5));
        assert_eq!(
            failures.to_string(),
            "no pod could be started: exit status 7"
        );
        failures.add(exited(), Duration::from_millis(1240));
        assert_eq!(
            failures.to_string(),
            "no pod could be started, in 2 tries over 1.2 s: every time exit status 7"
        );
        let late = StartError::NeverReady("not ready".to_owned());
        failures.add(late, Duration::from_secs(3));
        failures.add(exited(), Duration::from_secs(4));
        assert_eq!(
            failures.to_string(),
            "no pod could be started, in 4 tries over 4.0 s: tries 1-2, 4: exit status 7; try 3: not ready"
        );
        assert_eq!((failures.count(), failures.hopeless()), (4, false));
        failures.add(StartError::Refused("no".to_owned()), Duration::ZERO);
        assert!(failures.hopeless());
    }
}
