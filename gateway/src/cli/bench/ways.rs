//! The ways in which a call finds its function, and what is meant by each.

use serde::Serialize;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// No process of the function.
    Cold,
    /// The same, and nothing of it in the page cache.
    ColdDropped,
    /// Forked from a process that has loaded everything.
    Zygote,
    /// A ready pod that this caller has not used.
    Standby,
    /// The call before has just ended.
    Warm,
    /// To the pod, around the gateway.
    Direct,
    /// `docker run` of the same image.
    DockerRun,
    /// The engine's own calls, for the same image.
    EngineFloor,
    /// A bare pod of the same image.
    BarePod,
}

impl Way {
    /// All of them, the slowest first.
    pub(super) const ALL: [Self; 9] = [
        Self::BarePod,
        Self::DockerRun,
        Self::EngineFloor,
        Self::ColdDropped,
        Self::Cold,
        Self::Zygote,
        Self::Standby,
        Self::Warm,
        Self::Direct,
    ];

    /// In tables and files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::ColdDropped => "cold-dropped",
            Self::Zygote => "zygote",
            Self::Standby => "standby",
            Self::Warm => "warm",
            Self::Direct => "direct",
            Self::DockerRun => "docker-run",
            Self::EngineFloor => "engine-floor",
            Self::BarePod => "bare-pod",
        }
    }

    /// What it means, exactly.
    pub(super) fn definition(self) -> &'static str {
        match self {
            Self::Cold => {
                "no process of the function exists at the site (neither pod nor zygote); its files are in the page cache"
            }
            Self::ColdDropped => {
                "the same, after `echo 3 > /proc/sys/vm/drop_caches`: its files come from the disk"
            }
            Self::Zygote => {
                "no pod, but a process that has loaded everything is parked, and the pod is forked from it: the answer \
                 names the stage `fork`, and neither `exec` nor `load`"
            }
            Self::Standby => "a ready pod waits that has never served a call of this caller's",
            Self::Warm => "the previous call has just been answered by the same pod",
            Self::Direct => {
                "the same request to the address of a warm pod, around the gateway; the previous call has just been answered"
            }
            Self::DockerRun => {
                "`docker run --rm -p` of the same image by the command line, until the same request is answered by it"
            }
            Self::EngineFloor => {
                "create and start by plain calls of the engine's API, connect, health, and the same request answered: \
                 what no gateway can go below"
            }
            Self::BarePod => {
                "a pod of the same image made by one plain call of the cluster's API, as `kubectl run` makes it, watched \
                 until it has an address, connect, health, and the same request answered"
            }
        }
    }

    /// Whether a pod has to be started for it.
    pub(super) fn starts(self) -> bool {
        match self {
            Self::Cold
            | Self::ColdDropped
            | Self::Zygote
            | Self::DockerRun
            | Self::EngineFloor
            | Self::BarePod => true,
            Self::Standby | Self::Warm | Self::Direct => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_those_of_the_files_and_no_two_are_alike() {
        let names: BTreeSet<&str> = Way::ALL.iter().map(|way| way.name()).collect();
        assert_eq!(names.len(), Way::ALL.len());
        for way in Way::ALL {
            assert_eq!(serde_json::json!(way), way.name());
            assert!(!way.definition().is_empty());
        }
    }
}
