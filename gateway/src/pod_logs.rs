//! What the pods of a function write, line by line, over all its runtimes and pods.
//!
//! Pods that come up while somebody follows are followed too. Of pods that are gone, the last few are
//! told where their site kept what they wrote.

use crate::gateway::Gateway;
use crate::runnable::Deployed;
use crate::sites::{LogAsk, LogStream};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

/// How often new pods are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A longer line is cut into lines of this length.
const LONGEST_LINE: usize = 64 << 10;
/// Lines on their way to whoever reads.
const ON_THE_WAY: usize = 256;
/// Pods that are gone and told of.
const GONE: usize = 3;

/// A line that a pod wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Runtime that it belongs to.
    pub runtime: Arc<str>,
    /// The line, without its end. Not always UTF-8.
    pub text: Bytes,
}

/// Whose pods are wanted.
#[derive(Debug, Clone, Default)]
pub struct PodLogs {
    /// Only those of this runtime.
    pub runtime: Option<String>,
    /// Only this one.
    pub pod: Option<String>,
    /// How much of each, and whether to go on.
    pub ask: LogAsk,
}

impl PodLogs {
    /// The lines; they end when there are no more, or, if they are followed, when the function is
    /// removed.
    pub fn lines(
        self,
        gateway: &Arc<Gateway>,
        deployed: &Arc<Deployed>,
    ) -> impl Stream<Item = LogLine> + Send + use<> {
        let (send, receive) = mpsc::channel(ON_THE_WAY);
        let (gateway, name) = (Arc::clone(gateway), deployed.function.name().to_owned());
        let runtime = gateway.runtime.clone();
        runtime.spawn(async move {
            let left = send.clone();
            tokio::select! {
                () = self.read(&gateway, &name, send) => {}
                () = left.closed() => {}
            }
        });
        stream::unfold(receive, |mut receive| async move {
            Some((receive.recv().await?, receive))
        })
    }

    async fn read(self, gateway: &Arc<Gateway>, function: &str, send: mpsc::Sender<LogLine>) {
        let mut readers = JoinSet::new();
        let mut known: HashMap<String, (AbortHandle, u8)> = HashMap::new();
        let mut ask = self.ask;
        let mut first = true;
        while let Some(deployed) = gateway.functions.get(function) {
            let pods = deployed.pods();
            let up: Vec<_> = pods
                .iter()
                .filter(|pod| pod.address.is_some() && self.wants(&pod.runtime, &pod.name))
                .collect();
            if first && (!ask.follow || up.is_empty()) {
                let gone = self.gone(
                    gateway,
                    &deployed,
                    &up.iter().map(|p| &*p.name).collect::<Vec<_>>(),
                );
                for (site, runtime, pod) in gone {
                    let once = LogAsk {
                        follow: false,
                        ..ask
                    };
                    if let Some(pieces) = open(gateway, &site, &pod, once).await {
                        tell(pieces, &pod, &runtime, &send).await;
                    }
                }
            }
            for pod in &up {
                if known.contains_key(&pod.name) {
                    continue;
                }
                let Some(pieces) = open(gateway, &pod.site, &pod.name, ask).await else {
                    continue;
                };
                let (send, name, runtime) = (send.clone(), pod.name.clone(), pod.runtime.clone());
                let reader =
                    readers.spawn(async move { tell(pieces, &name, &runtime, &send).await });
                known.insert(pod.name.clone(), (reader, 0));
            }
            if !ask.follow {
                break;
            }
            // What comes up from now on is told from its beginning.
            (ask.tail, first) = (None, false);
            known.retain(|name, (reader, missed)| {
                let is_up = up.iter().any(|pod| pod.name == *name);
                *missed = if is_up { 0 } else { *missed + 1 };
                // Its last words may be on their way.
                let over = *missed > 2;
                if over {
                    reader.abort();
                }
                !over
            });
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if ask.follow {
            return;
        }
        while readers.join_next().await.is_some() {}
    }

    fn wants(&self, runtime: &str, pod: &str) -> bool {
        self.runtime
            .as_deref()
            .is_none_or(|wanted| wanted == runtime)
            && self.pod.as_deref().is_none_or(|wanted| wanted == pod)
    }

    /// The last pods of this version that are gone, the oldest first: site, runtime, name.
    fn gone(
        &self,
        gateway: &Gateway,
        deployed: &Deployed,
        up: &[&str],
    ) -> Vec<(String, String, String)> {
        let mut found: Vec<(SystemTime, (String, String, String))> = Vec::new();
        for pool in deployed.pools().iter().flatten() {
            let options = pool.options();
            let prefix = pool.name_prefix();
            for (at, pod) in logged(&gateway.config.data.join("logs"), &prefix) {
                if !up.contains(&&*pod) && self.wants(&options.runtime, &pod) {
                    let site = options.site_name.clone();
                    found.push((at, (site, options.runtime.clone(), pod)));
                }
            }
        }
        found.sort();
        let from = found.len().saturating_sub(GONE);
        found.drain(..from);
        found.into_iter().map(|(_, pod)| pod).collect()
    }
}

impl Gateway {
    /// Removes what pods wrote that are gone, when nothing was added to it for as long as results are
    /// kept.
    pub fn collect_logs(&self) {
        let mut kept: HashSet<String> = HashSet::new();
        for pool in self.all_pools() {
            let options = pool.options();
            kept.insert(format!("{}-{}-zygote", options.function, options.runtime));
            kept.extend(pool.view().into_iter().map(|pod| pod.name));
        }
        let oldest = SystemTime::now().checked_sub(self.config.storage.expire);
        let Some(oldest) = oldest else { return };
        let removed = remove_logs(&self.config.data.join("logs"), oldest, &kept);
        if removed > 0 {
            debug!(removed, "old output of pods that are gone was removed");
        }
    }
}

/// Removes the logs last written before `oldest` whose pods are not among the kept; says how many.
fn remove_logs(folder: &Path, oldest: SystemTime, kept: &HashSet<String>) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let old = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let pod = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let written = entry.metadata().and_then(|data| data.modified());
        pod.is_some_and(|pod| !kept.contains(pod)) && written.is_ok_and(|at| at < oldest)
    };
    let old = entries.flatten().filter(old);
    old.filter(|entry| std::fs::remove_file(entry.path()).is_ok())
        .count()
}

/// Pods whose names begin so and end with a number, and that have a file in the folder of logs, with
/// the time it was written last.
fn logged(folder: &Path, prefix: &str) -> Vec<(SystemTime, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let pod = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let name = name.strip_suffix(".log")?;
        let number = name.strip_prefix(prefix)?.rsplit('-').next()?;
        number.parse::<u64>().ok()?;
        Some((entry.metadata().ok()?.modified().ok()?, name.to_owned()))
    };
    entries.flatten().filter_map(pod).collect()
}

async fn open(gateway: &Gateway, site: &str, pod: &str, ask: LogAsk) -> Option<LogStream> {
    match gateway.site(site)?.logs(pod, ask).await {
        Ok(pieces) => pieces,
        Err(error) => {
            debug!(%pod, "its output cannot be read: {error}");
            None
        }
    }
}

/// Tells a pod's output line by line.
async fn tell(mut pieces: LogStream, pod: &str, runtime: &str, send: &mpsc::Sender<LogLine>) {
    let (pod, runtime): (Arc<str>, Arc<str>) = (pod.into(), runtime.into());
    let mut rest = BytesMut::new();
    let line = |text: Bytes| LogLine {
        pod: Arc::clone(&pod),
        runtime: Arc::clone(&runtime),
        text,
    };
    while let Some(Ok(piece)) = pieces.next().await {
        rest.extend_from_slice(&piece);
        while let Some(end) = end_of_line(&rest) {
            let mut text = rest.split_to(end);
            if text.last() == Some(&b'\n') {
                text.truncate(text.len() - 1);
            }
            if text.last() == Some(&b'\r') {
                text.truncate(text.len() - 1);
            }
            if send.send(line(text.freeze())).await.is_err() {
                return;
            }
        }
    }
    if !rest.is_empty() {
        let _ = send.send(line(rest.freeze())).await;
    }
}

/// Where the first line ends, its end included; a line that is too long ends where it is.
fn end_of_line(bytes: &[u8]) -> Option<usize> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    match within.iter().position(|byte| *byte == b'\n') {
        Some(at) => Some(at + 1),
        None => (bytes.len() >= LONGEST_LINE).then_some(LONGEST_LINE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_become_lines_and_none_grows_without_end() {
        let long = vec![b'x'; LONGEST_LINE + 5];
        let pieces: Vec<std::io::Result<Bytes>> = vec![
            Ok(Bytes::from_static(b"one\r\ntw")),
            Ok(Bytes::from_static(b"o\n\n")),
            Ok(Bytes::from(long)),
        ];
        let (send, mut receive) = mpsc::channel(16);
        tell(stream::iter(pieces).boxed(), "p", "edge", &send).await;
        drop(send);
        let mut lengths = Vec::new();
        while let Some(line) = receive.recv().await {
            lengths.push(line.text.len());
        }
        assert_eq!(lengths, [3, 3, 0, LONGEST_LINE, 5]);
    }
}
