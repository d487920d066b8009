//! A running gateway: started, asked, stopped, and always cleared away.

use crate::{Answer, Call, Lines, binaries, processes, until, until_some};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A configuration in which nothing takes long: the same sites and runtimes as the default, a fast link,
/// no emulated deployment delay.
pub const QUICK: &str = r#"
[sites.edge]
[sites.cloud.emulated_link]
bandwidth = "1 Gbit/s"
rtt = "2ms"
[sites.cloud.emulated_deployment]
trace = "nautilus"
scale = 0.0
"#;

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// Exit status, none after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to standard error.
    pub errors: String,
}

/// What a gateway is to be started with.
#[derive(Debug, Clone)]
pub struct Launch {
    config: String,
    data: Option<PathBuf>,
    listen: String,
    disk: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running gateway. Dropped, it is killed, and all its pods with it.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    folder: Arc<TempDir>,
    data: PathBuf,
    id: String,
    /// Whether a new life has taken over what is left of this one.
    inherited: bool,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            config: QUICK.to_owned(),
            data: None,
            listen: "127.0.0.1:0".to_owned(),
            disk: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Launch {
    /// With more configuration. Keys come before tables in TOML, so this stands before [`QUICK`].
    #[must_use]
    pub fn keys(mut self, more: &str) -> Self {
        self.config = format!("{more}\n{}", self.config);
        self
    }

    /// With tables behind those of [`QUICK`].
    #[must_use]
    pub fn tables(mut self, more: &str) -> Self {
        self.config.push_str(more);
        self
    }

    /// With this configuration alone.
    #[must_use]
    pub fn config(mut self, whole: &str) -> Self {
        whole.clone_into(&mut self.config);
        self
    }

    /// On a data folder of the caller's.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_path_buf());
        self
    }

    /// On an address of the caller's.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address.to_string();
        self
    }

    /// On any address, one that others can reach too.
    #[must_use]
    pub fn listen_on(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn arguments(mut self, more: &[&str]) -> Self {
        self.arguments
            .extend(more.iter().map(|&one| one.to_owned()));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With its data folder on a disk of its own, mounted with these options (`size=24m`, `ro`), which
    /// goes when the gateway goes. None where this user may not mount.
    #[must_use]
    pub fn disk(mut self, options: &str) -> Option<Self> {
        let tried = TempDir::new().expect("a temporary folder");
        let mounts = own_disk(tried.path(), options)
            .arg("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        self.disk = Some(options.to_owned());
        mounts.then_some(self)
    }

    fn spawn(&self, folder: &Path) -> (Child, PathBuf) {
        let config = folder.join("stoic.toml");
        std::fs::write(&config, &self.config).expect("the temporary folder takes files");
        let own = if self.disk.is_some() { "disk" } else { "data" };
        let data = self.data.clone().unwrap_or_else(|| folder.join(own));
        let errors = File::options()
            .create(true)
            .append(true)
            .open(folder.join("stderr"))
            .expect("the temporary folder takes files");
        let mut path = binaries::folders();
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        std::fs::create_dir_all(folder.join("disk")).expect("the temporary folder takes folders");
        let mut command = match &self.disk {
            None => dies_with_the_test(&binaries::binary("stoic")),
            Some(options) => {
                let mut command = own_disk(&folder.join("disk"), options);
                command.arg(binaries::binary("stoic"));
                command
            }
        };
        let child = command
            .arg("up")
            .arg("--config")
            .arg(config)
            .args(["--listen", &self.listen])
            .arg("--data")
            .arg(&data)
            .args(&self.arguments)
            .env("PATH", std::env::join_paths(path).expect("no `:` in them"))
            .env_remove("STOIC_CONFIG")
            .env_remove("STOIC_LOG")
            .env_remove("STOIC_ADMIN_TOKEN")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the gateway's binary can be run");
        (child, data)
    }

    /// Starts it and returns when it listens.
    ///
    /// # Panics
    /// It did not start; shows what it said.
    #[track_caller]
    #[must_use]
    pub fn start(&self) -> Gateway {
        self.start_in(Arc::new(TempDir::new().expect("a temporary folder")))
    }

    #[track_caller]
    fn start_in(&self, folder: Arc<TempDir>) -> Gateway {
        let (mut child, data) = self.spawn(folder.path());
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("standard output");
        let address = line
            .split_once("://")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the gateway did not start: {line:?} {}",
                read(folder.path())
            );
        };
        // What it prints later is not held up.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        // A disk of the gateway's own is seen through the gateway alone.
        let data = match self.disk {
            Some(_) => Path::new(&format!("/proc/{}/root", child.id()))
                .join(data.strip_prefix("/").expect("an absolute path")),
            None => data,
        };
        let id = until_some("the gateway's identity", || identity(&data));
        Gateway {
            address,
            child,
            folder,
            data,
            id,
            inherited: false,
        }
    }

    /// Starts one that is to fail, and returns how it ended.
    ///
    /// # Panics
    /// It did not end.
    #[track_caller]
    #[must_use]
    pub fn fail(&self) -> Exit {
        let folder = TempDir::new().expect("a temporary folder");
        let (mut child, _) = self.spawn(folder.path());
        ended(&mut child, folder.path())
    }
}

impl Gateway {
    /// Starts a gateway with the quick configuration.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Launch::default().start()
    }

    /// A request to it.
    #[must_use]
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, &format!("http://{}{path}", self.address))
    }

    /// The answer to `GET`.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send()
    }

    /// The answer to `GET`, line by line.
    #[track_caller]
    #[must_use]
    pub fn get_open(&self, path: &str) -> Lines {
        self.call("GET", path).open()
    }

    /// The JSON that `GET` answers.
    #[track_caller]
    #[must_use]
    pub fn json(&self, path: &str) -> Value {
        self.get(path).ok().json()
    }

    /// Posts a function object.
    #[track_caller]
    #[must_use]
    pub fn post_function(&self, object: &Value) -> Answer {
        self.call("POST", "/v1/functions")
            .body("application/json", object.to_string())
            .send()
    }

    /// Deploys a function.
    #[track_caller]
    pub fn deploy(&self, object: &Value) -> Value {
        self.post_function(object).ok().json()
    }

    /// Posts a package to a batch function, pinned to a runtime.
    #[must_use]
    pub fn batch(&self, path: &str, runtime: &str, zip: &[u8]) -> Call {
        self.call("POST", path)
            .on(runtime)
            .body(stoic_protocol::ZIP_MEDIA_TYPE, zip)
    }

    /// Makes a token as whoever has the other, or as nobody where that is empty.
    #[track_caller]
    #[must_use]
    pub fn create_token(&self, by: &str, token: &Value) -> String {
        let call = self.call("POST", "/v1/tokens");
        let call = match by {
            "" => call,
            by => call.header(stoic_protocol::headers::TOKEN, by),
        };
        let made = call.body("application/json", token.to_string()).send();
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        made["token"].as_str().expect("told once").to_owned()
    }

    /// The pods of a function.
    #[track_caller]
    #[must_use]
    pub fn pods(&self, function: &str) -> Vec<Value> {
        let all = self.json("/v1/pods");
        let all = all.as_array().expect("a list").iter();
        all.filter(|pod| pod["function"] == function)
            .cloned()
            .collect()
    }

    /// Waits until a function has so many idle pods and no other.
    #[track_caller]
    pub fn until_idle(&self, function: &str, count: usize) -> Vec<Value> {
        until_some(&format!("{count} idle pods of {function}"), || {
            let pods = self.pods(function);
            (pods.len() == count && pods.iter().all(|pod| pod["state"] == "idle")).then_some(pods)
        })
    }

    /// Waits until a function has a pod in this state; returns it.
    #[track_caller]
    pub fn until_state(&self, function: &str, state: &str) -> Value {
        until_some(&format!("a pod of {function} that is {state}"), || {
            let pods = self.pods(function);
            pods.into_iter().find(|pod| pod["state"] == state)
        })
    }

    /// Waits until the representative tasks of a function are done.
    #[track_caller]
    pub fn until_bootstrapped(&self, function: &str) {
        until(&format!("the bootstrap of {function}"), || {
            let bootstrap =
                self.json(&format!("/v1/functions/{function}"))["status"]["bootstrap"].clone();
            assert_ne!(bootstrap["state"], "failed", "{bootstrap}");
            bootstrap["state"] == "done"
        });
    }

    /// The identity with which it marks its pods.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Id of the gateway's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the gateway lives.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its database, read only, with all that was recorded until now.
    ///
    /// # Panics
    /// It cannot be opened.
    #[must_use]
    pub fn database(&self) -> rusqlite::Connection {
        // What nobody waits for is written when somebody asks what is.
        let _ = self.get("/v1/measurements?limit=1");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.data.join("stoic.db"), flags)
            .expect("the gateway made a database")
    }

    /// Ids of the processes that it started and that still live.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes::marked(&self.id)
    }

    /// Objects in the embedded stores whose key begins so, as `SITE/KEY`: `edge/packages/01...`.
    #[must_use]
    pub fn stored(&self, prefix: &str) -> Vec<String> {
        let mut found: Vec<String> = self
            .store_files("buckets/stoic")
            .into_iter()
            .filter_map(|(site, path)| Some((site, key_of(&path)?)))
            .filter(|(_, key)| key.starts_with(prefix))
            .map(|(site, key)| format!("{site}/{key}"))
            .collect();
        found.sort();
        found
    }

    /// Files of bodies on their way into the embedded stores.
    #[must_use]
    pub fn unfinished(&self) -> Vec<PathBuf> {
        let files = self.store_files("temporary").into_iter();
        files.map(|(_, path)| path).collect()
    }

    fn store_files(&self, folder: &str) -> Vec<(String, PathBuf)> {
        let list = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        list(&self.data.join("store"))
            .flat_map(|site| {
                let name = site.file_name().to_string_lossy().into_owned();
                list(&site.path().join(folder)).map(move |file| (name.clone(), file.path()))
            })
            .collect()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(self.folder.path())
    }

    /// Whether a thread of its own panicked.
    #[must_use]
    pub fn panicked(&self) -> bool {
        self.log().lines().any(|line| line.starts_with("thread '"))
    }

    /// Sends it `SIGTERM`.
    pub fn terminate(&self) {
        processes::signal(self.pid(), Signal::TERM);
    }

    /// Stops it in its tracks: it lives, and does nothing any more.
    pub fn freeze(&self) {
        processes::signal(self.pid(), Signal::STOP);
    }

    /// Sends it `SIGINT`, as Ctrl-C does.
    pub fn interrupt(&self) {
        processes::signal(self.pid(), Signal::INT);
    }

    /// Kills one of its pods; whether it was still there.
    #[track_caller]
    pub fn kill_pod(&self, pid: u32) -> bool {
        // While it executes its program, a process shows no environment.
        until("the process is a pod of this gateway, or gone", || {
            self.processes().contains(&pid) || !processes::alive(pid)
        });
        processes::signal(pid, Signal::KILL)
    }

    /// Stops one of its pods in its tracks: it lives, and does nothing any more.
    #[track_caller]
    pub fn freeze_pod(&self, pid: u32) {
        until("the process is a pod of this gateway", || {
            self.processes().contains(&pid)
        });
        assert!(processes::signal(pid, Signal::STOP), "the pod lives");
    }

    /// Id of the process of a function's only pod on a runtime.
    #[track_caller]
    #[must_use]
    pub fn pod_on(&self, function: &str, runtime: &str) -> u32 {
        until_some(&format!("a pod of {function} on {runtime}"), || {
            let pods = self.pods(function).into_iter();
            let pid = pods
                .filter(|pod| pod["runtime"] == runtime)
                .find_map(|pod| pod["pid"].as_u64());
            pid.and_then(|pid| u32::try_from(pid).ok())
        })
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> Exit {
        ended(&mut self.child, self.folder.path())
    }

    /// `kill -9`, and a new life on the same data folder.
    #[track_caller]
    #[must_use]
    pub fn reborn(mut self, launch: &Launch) -> Self {
        self.child.kill().expect("the gateway lives");
        self.child.wait().expect("it can be waited for");
        let folder = Arc::clone(&self.folder);
        let launch = launch.clone().data(&self.data.clone());
        // What its drop would clear away is what the new life has to.
        self.inherited = true;
        drop(self);
        launch.start_in(folder)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.inherited {
            return;
        }
        for pid in self.processes() {
            processes::signal(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- what the gateway logged\n{}---", self.log());
        }
    }
}

/// Where the kernel can end it with the thread that started it, it does: a test that is killed leaves
/// nothing behind.
fn dies_with_the_test(binary: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(binary);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
    command
}

/// A command that runs its arguments with an empty disk at a folder, in a mount namespace of its own.
fn own_disk(folder: &Path, options: &str) -> Command {
    let mut command = dies_with_the_test(Path::new("unshare"));
    let script = r#"mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@""#;
    command
        .args(["--mount", "--", "sh", "-c", script, "sh", options])
        .arg(folder);
    command
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr")).unwrap_or_default()
}

#[track_caller]
fn ended(child: &mut Child, folder: &Path) -> Exit {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Exit {
                code: status.code(),
                signal: status.signal(),
                errors: read(folder),
            };
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the gateway did not end: {}", read(folder));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The identity that a gateway keeps in its data folder and marks its processes with. Read from a copy:
/// SQLite would not find a folder that is seen through another process.
fn identity(data: &Path) -> Option<String> {
    let copy = TempDir::new().ok()?;
    for name in ["stoic.db", "stoic.db-wal"] {
        std::fs::copy(data.join(name), copy.path().join(name)).ok()?;
    }
    let sql = "SELECT value FROM settings WHERE name = 'gateway-id'";
    let database = rusqlite::Connection::open(copy.path().join("stoic.db")).ok()?;
    database.query_row(sql, [], |row| row.get(0)).ok()
}

/// The key of a stored object. Its file ends with what is known of it as JSON, the length of that in four
/// bytes, and a mark of eight.
fn key_of(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.len().checked_sub(12)?;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().ok()?);
    let known: Value =
        serde_json::from_slice(&bytes[end.checked_sub(length as usize)?..end]).ok()?;
    known["key"].as_str().map(str::to_owned)
}
