//! Another gateway as the cloud of one: it asks for tokens, over TLS, and the link to it can be cut.

use crate::{
    Authority, Call, Gateway, Identity, Launch, Lines, Link, binary, echo, over_tls, texts, zip_of,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// See the module.
#[derive(Debug)]
pub struct Campus {
    /// None while it is dead.
    pub gateway: Option<Gateway>,
    /// The link to it.
    pub link: Link,
    /// Who signed its certificate.
    pub authority: Authority,
    /// What it is started with.
    pub launch: Launch,
    /// Its certificate.
    pub identity: Identity,
    /// Holds its data, as `data`, and files of tokens.
    pub folder: TempDir,
    /// File with the token `shed`, which may do what an edge box does.
    pub token: PathBuf,
}

/// Makes a token in the data folder of a campus; the file that has it.
#[must_use]
pub fn token(folder: &TempDir, name: &str, scope: &str) -> PathBuf {
    let file = folder.path().join(format!("{name}.token"));
    let output = Command::new(binary("stoic"))
        .args([
            "token", "create", "--name", name, "--scope", scope, "--data",
        ])
        .arg(folder.path().join("data"))
        .arg("--out")
        .arg(&file)
        .output()
        .expect("the binary can be run");
    assert!(output.status.success(), "{output:?}");
    file
}

impl Default for Campus {
    fn default() -> Self {
        let authority = Authority::default();
        let identity = authority.identity("campus");
        let folder = TempDir::new().expect("a temporary folder");
        let token = token(&folder, "shed", "invoke,deploy");
        let launch = Launch::default()
            .tables(&identity.table(None))
            .data(&folder.path().join("data"));
        let gateway = launch.start();
        Self {
            link: Link::to(gateway.address),
            gateway: Some(gateway),
            authority,
            launch,
            identity,
            folder,
            token,
        }
    }
}

impl Campus {
    /// The gateway, which lives.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it lives")
    }

    /// The configuration of an edge box that has it as its cloud.
    #[must_use]
    pub fn table(&self, more: &str) -> String {
        format!(
            "[sites.edge]\n[sites.cloud]\nbackend = \"gateway\"\n[sites.cloud.gateway]\n\
             url = \"https://localhost:{}\"\nca = \"{}\"\ntoken_file = \"{}\"\n{more}",
            self.link.address.port(),
            self.authority.file().display(),
            self.token.display()
        )
    }

    /// An edge box that has it as its cloud.
    #[must_use]
    pub fn edge(&self) -> Gateway {
        Launch::default().config(&self.table("")).start()
    }

    /// The pods that others use there, asked with the token of whoever does.
    #[must_use]
    pub fn leases(&self) -> Vec<Value> {
        let token = std::fs::read_to_string(&self.token).expect("the token's file");
        let address = self.gateway().address;
        let request = format!(
            "GET /v1/peer/leases HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-stoic-token: {}\r\n\r\n",
            token.trim()
        );
        let ca = self.authority.file();
        let answer = over_tls(address, &ca, None, &[], request.as_bytes())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let body = answer.text.split("\r\n\r\n").nth(1).expect("a body");
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {}", answer.text))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.gateway = None;
    }
}

/// Deploys a batch function on `edge` and `cloud.cpu`, one pod each, unless the spec says otherwise.
pub fn deploy(edge: &Gateway, name: &str, spec: &Value) {
    let mut all = json!({
        "input": "batch", "divisible": true,
        "standby": {"edge": {"min": 1, "max": 2}, "cloud.cpu": {"min": 1, "max": 2}},
        "runtimes": ["edge", "cloud.cpu"],
    });
    let own = spec.as_object().expect("an object").clone();
    all.as_object_mut().expect("an object").extend(own);
    edge.deploy(&echo(name, all));
}

/// A batch that is sent there comes back whole.
pub fn serves_from_the_cloud(edge: &Gateway) {
    deploy(edge, "batch", &json!({}));
    edge.until_idle("batch", 2);
    let batch = edge.batch("/function/batch", "cloud.cpu", &zip_of(&texts(3)));
    whole(&batch.send().ok().json(), 3);
}

/// What a gateway says of a runtime.
#[must_use]
pub fn runtime(edge: &Gateway, name: &str) -> Value {
    let all = edge.json("/v1/runtimes");
    let all = all.as_array().expect("a list").iter();
    let mut found = all.filter(|runtime| runtime["name"] == name).cloned();
    found
        .next_back()
        .unwrap_or_else(|| panic!("no runtime {name}"))
}

/// A batch in this mode.
#[must_use]
pub fn call(edge: &Gateway, path: &str, mode: &str, zip: &[u8]) -> Call {
    let call = edge.call("POST", path).header("x-stoic-mode", mode);
    call.body(stoic_protocol::ZIP_MEDIA_TYPE, zip)
}

/// Sends a batch by the selector; where it ran.
#[must_use]
pub fn call_now(edge: &Gateway, zip: &[u8]) -> String {
    let answer = call(edge, "/function/batch", "selector", zip).send().ok();
    answer.header("x-stoic-runtime").to_owned()
}

/// Checks that the result holds every item once, in order.
#[track_caller]
pub fn whole(result: &Value, items: usize) {
    let found = result["items"].as_array().expect("a list of items").iter();
    let found: Vec<&str> = found.filter_map(|item| item["name"].as_str()).collect();
    let expected: Vec<String> = texts(items).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, expected);
}

/// Reads on until the runtime says that it has done some of its items.
pub fn until_works(lines: &mut Lines, runtime: &str) {
    loop {
        let progress = lines.event("progress");
        if progress["by_runtime"][runtime].as_u64() > Some(0) {
            return;
        }
    }
}
