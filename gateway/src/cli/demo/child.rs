//! A gateway of a command's own (demo, bench): a child process that ends with it.

use crate::cli::client::Address;
use crate::cli::failed::Failed;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// See the module. Dropped, it ends the gateway.
#[derive(Debug)]
pub(in crate::cli) struct Child {
    process: tokio::process::Child,
    /// Where it listens.
    pub(in crate::cli) address: Address,
    /// What it says of its runtimes.
    pub(in crate::cli) announced: Vec<String>,
}

impl Child {
    /// Starts it on a free port, with its data in `folder`.
    pub(in crate::cli) async fn start(
        folder: &Path,
        log: &Path,
        text: &str,
    ) -> Result<Self, Failed> {
        let config = folder.join("stoic.toml");
        std::fs::write(&config, text).map_err(|e| Failed::io(config.display(), &e))?;
        let log_file = File::create(log).map_err(|e| Failed::io(log.display(), &e))?;
        let stoic = std::env::current_exe().map_err(|e| Failed::io("the stoic binary", &e))?;
        let mut process = Command::new(&stoic)
            .args(["up", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(folder.join("data"))
            // It is on loopback, for this command alone.
            .env_remove(crate::auth::ADMIN_TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            // A signal from the terminal reaches the command alone, which then ends its gateway.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Failed::io(stoic.display(), &e))?;
        let Some(output) = process.stdout.take() else {
            return Err(Failed::Machine("the gateway has no output".to_owned()));
        };
        let mut lines = BufReader::new(output).lines();
        let mut next = async || lines.next_line().await.ok().flatten();
        let failed =
            || Failed::Machine(format!("the gateway did not start; see {}", log.display()));
        let first = next().await.ok_or_else(failed)?;
        let url = first
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .ok_or_else(failed)?;
        let address = url.parse().map_err(|_| failed())?;
        let mut announced = vec![first];
        // As many lines as there are runtimes, after one that names the data folder.
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(100), next()).await {
            if line.starts_with("runtime") {
                announced.push(line);
            }
        }
        Ok(Self {
            process,
            address,
            announced,
        })
    }

    /// Ends it and waits until it is gone.
    pub(in crate::cli) async fn stop(mut self) {
        self.terminate();
        let _ = tokio::time::timeout(Duration::from_secs(15), self.process.wait()).await;
    }

    fn terminate(&self) {
        let pid = self
            .process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Its pods end with it (the kernel sees to that), even where it is killed.
        self.terminate();
        let patience = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < patience && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
