//! Tokens: what needs one, what each scope may do, and how one that may not is told so.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use stoic_tests::{Answer, Call, Gateway, Launch, any_http, binary, echo, texts, until, zip_of};

/// `admin` with a token as the password, in the basic scheme.
fn basic(token: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("admin:{token}");
    let mut text = String::from("Basic ");
    for three in pair.as_bytes().chunks(3) {
        let bits =
            three.iter().fold(0, |all, b| (all << 8) | u32::from(*b)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n)) as usize & 63];
            text.push(if n > three.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

trait With {
    fn with(self, token: &str) -> Self;
}

impl With for Call {
    fn with(self, token: &str) -> Self {
        match token {
            "" => self,
            token => self.header("authorization", &format!("Bearer {token}")),
        }
    }
}

fn stoic(words: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary("stoic"))
        .args(words)
        .env_remove("STOIC_TOKEN")
        .env_remove("STOIC_TOKEN_FILE")
        .envs(environment.iter().copied())
        .output()
        .expect("the binary can be run")
}

#[track_caller]
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn each_scope_does_its_own_and_no_more() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("echo", json!({})));
    // As long as there is none, nobody needs one.
    let admin = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let of = |scope: &str| gateway.create_token(&admin, &json!({"name": scope, "scopes": [scope]}));
    let (invoke, deploy) = (of("invoke"), of("deploy"));
    let ask = |method: &str, path: &str, token: &str| -> Answer {
        let call = gateway.call(method, path).with(token);
        match method {
            "POST" | "PUT" => call.body("text/plain", "hi").send(),
            _ => call.send(),
        }
    };
    // What is asked, and the scope that it needs: `open`, `any`, or one by name.
    let table = [
        ("GET", "/healthz", "open"),
        ("GET", "/readyz", "open"),
        ("GET", "/openapi.json", "open"),
        ("GET", "/metrics", "any"),
        ("GET", "/", "any"),
        ("GET", "/v1/info", "any"),
        ("GET", "/v1/runtimes", "any"),
        ("GET", "/nothing/here", "any"),
        ("GET", "/system/info", "any"),
        ("POST", "/function/echo", "invoke"),
        ("POST", "/async-function/echo", "invoke"),
        ("GET", "/v1/calls", "invoke"),
        ("GET", "/v1/calls/x", "invoke"),
        ("GET", "/v1/functions/echo/predict", "invoke"),
        ("GET", "/v1/invocations/x/result", "invoke"),
        ("GET", "/v1/functions/echo", "invoke"),
        ("GET", "/v1/functions", "deploy"),
        ("POST", "/v1/functions", "deploy"),
        ("PUT", "/v1/functions/echo", "deploy"),
        ("DELETE", "/v1/functions/none", "deploy"),
        ("POST", "/v1/functions/echo/scale", "deploy"),
        ("GET", "/v1/functions/echo/logs", "deploy"),
        ("GET", "/v1/functions/echo/models", "deploy"),
        ("GET", "/v1/secrets", "deploy"),
        ("PUT", "/v1/secrets/key", "deploy"),
        ("GET", "/v1/pods", "deploy"),
        ("DELETE", "/v1/pods/none", "deploy"),
        ("GET", "/system/functions", "deploy"),
        ("GET", "/system/secrets", "deploy"),
        ("POST", "/system/scale-function/echo", "deploy"),
        ("GET", "/v1/measurements", "admin"),
        ("GET", "/v1/account", "admin"),
        ("GET", "/v1/tokens", "admin"),
        ("DELETE", "/v1/tokens/none", "admin"),
        // The same by another spelling of the path.
        ("GET", "/v1/tokens/", "admin"),
        ("GET", "//v1/tokens", "admin"),
    ];
    for (method, path, needs) in table {
        for (token, scope) in [
            ("", "none"),
            (&*invoke, "invoke"),
            (&*deploy, "deploy"),
            (&*admin, "admin"),
        ] {
            let shown = format!("{method} {path} as {scope}");
            let answer = ask(method, path, token);
            let may = match needs {
                "open" => true,
                "any" => scope != "none",
                needs => scope == "admin" || scope == needs,
            };
            if may {
                assert!(
                    ![401, 403].contains(&answer.status),
                    "{shown}: {}",
                    answer.text()
                );
            } else if scope == "none" {
                let detail = answer.problem(401, "token_missing");
                assert!(detail.contains("STOIC_TOKEN"), "{shown}: {detail}");
                let challenges: Vec<_> =
                    answer.headers.get_all("www-authenticate").iter().collect();
                assert_eq!(
                    challenges,
                    ["Bearer realm=\"stoic\"", "Basic realm=\"stoic\""]
                );
            } else {
                let detail = answer.problem(403, "scope_missing");
                assert!(detail.contains(needs), "{shown}: {detail}");
                let challenge = answer.header("www-authenticate");
                assert!(
                    challenge.contains("insufficient_scope") && challenge.contains(needs),
                    "{shown}: {challenge}"
                );
            }
        }
    }
    let wrong = ask("POST", "/function/echo", "stoic_wrong");
    wrong.problem(401, "token_unknown");
    assert!(wrong.header("www-authenticate").contains("invalid_token"));
}

#[test]
fn a_token_comes_as_bearer_as_openfaas_basic_or_in_a_header_of_its_own_and_stays_here() {
    let gateway = Gateway::start();
    gateway.deploy(&any_http("echo", json!({})));
    gateway.deploy(&echo("batch", json!({"input": "batch"})));
    let admin = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let call = |name: &str, value: &str| {
        let call = gateway.call("POST", "/function/echo/");
        call.header(name, value).body("text/plain", "hi").send()
    };
    let bearer = format!("Bearer {admin}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("authorization", &basic(&admin)),
        ("x-stoic-token", &admin),
    ] {
        let answer = call(name, value).ok();
        assert!(!answer.text().contains(&admin), "{name}: {}", answer.text());
    }
    for value in ["Bearer ", "Digest x", &basic("x"), &admin] {
        call("authorization", value).problem(401, "token_unknown");
    }
    // A function's own authorization passes beside the gateway's.
    let both = gateway
        .call("POST", "/function/echo/")
        .header("authorization", "Bearer the-functions-own")
        .header("x-stoic-token", &admin)
        .body("text/plain", "hi")
        .send()
        .ok();
    assert!(both.text().contains("the-functions-own"), "{}", both.text());

    // Calls that nobody waits for are let in once, and then run by the gateway itself.
    let accepted = gateway
        .call("POST", "/async-function/echo/")
        .with(&admin)
        .body("text/plain", "hi")
        .send()
        .ok();
    let id = accepted.header("x-call-id").to_owned();
    let path = format!("/v1/calls/{id}");
    until("the call has succeeded", || {
        gateway.call("GET", &path).with(&admin).send().ok().json()["state"] == "succeeded"
    });
    let result = gateway.call("GET", &format!("{path}/result")).with(&admin);
    assert!(!result.send().ok().text().contains(&admin));
    let stored: String = gateway
        .database()
        .query_row("SELECT headers FROM calls", [], |row| row.get(0))
        .unwrap();
    assert!(!stored.contains("authorization"), "{stored}");

    let zip = zip_of(&texts(3));
    let batch = gateway.batch("/function/batch", "edge", &zip);
    let _ = batch.with(&admin).send().ok();
    assert!(!gateway.log().contains(&admin) && !gateway.panicked());
}

#[test]
fn a_rate_is_held_and_a_token_ends_when_it_expires_or_is_revoked() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("echo", json!({})));
    let admin = gateway.create_token("", &json!({"name": "root", "scopes": ["admin"]}));
    let invoke = |token: &str| {
        let call = gateway.call("POST", "/function/echo").with(token);
        call.body("text/plain", "hi").send()
    };
    let slow = json!({"name": "slow", "scopes": ["invoke"], "rate": "3/m"});
    let slow = gateway.create_token(&admin, &slow);
    for _ in 0..3 {
        let _ = invoke(&slow).ok();
    }
    let refused = invoke(&slow);
    refused.problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((15..=20).contains(&wait), "{wait}");
    // Nobody else waits for it.
    let _ = invoke(&admin).ok();

    let brief = json!({"name": "brief", "scopes": ["invoke"], "lifetime_s": 2});
    let brief = gateway.create_token(&admin, &brief);
    let _ = invoke(&brief).ok();
    until("the token has expired", || invoke(&brief).status == 401);
    invoke(&brief).problem(401, "token_expired");

    let revoke = |name: &str| {
        let call = gateway.call("DELETE", &format!("/v1/tokens/{name}"));
        call.with(&admin).send()
    };
    assert_eq!(revoke("slow").status, 204);
    invoke(&slow).problem(401, "token_unknown");
    revoke("slow").problem(404, "unknown_token");
    for wrong in [
        json!({"name": "a b", "scopes": ["invoke"]}),
        json!({"name": "a", "scopes": []}),
        json!({"name": "a", "scopes": ["root"]}),
        json!({"name": "a", "scopes": ["invoke"], "rate": "often"}),
        json!({"name": "a", "scopes": ["invoke"], "lifetime_s": -1}),
        json!({"name": "a", "scopes": ["invoke"], "more": 1}),
    ] {
        let call = gateway.call("POST", "/v1/tokens").with(&admin);
        let answer = call.body("application/json", wrong.to_string()).send();
        answer.problem(400, "token_invalid");
    }
    let again = json!({"name": "root", "scopes": ["invoke"]}).to_string();
    let call = gateway.call("POST", "/v1/tokens").with(&admin);
    call.body("application/json", again)
        .send()
        .problem(409, "token_exists");
    let shown = gateway.call("GET", "/v1/tokens").with(&admin).send().ok();
    assert!(!shown.text().contains(&admin), "{}", shown.text());
}

#[test]
fn beyond_loopback_a_gateway_without_a_token_does_not_start() {
    let everywhere = Launch::default().listen_on("0.0.0.0:0");
    let refused = everywhere.fail();
    assert_eq!(refused.code, Some(2), "{}", refused.errors);
    assert_eq!(refused.errors.trim_end().lines().count(), 1);
    for way_out in [
        "stoic token create --data",
        "--insecure",
        "STOIC_ADMIN_TOKEN",
    ] {
        assert!(refused.errors.contains(way_out), "{}", refused.errors);
    }
    // Each way out that it names is one.
    let insecure = everywhere.clone().arguments(&["--insecure"]).start();
    let at = |gateway: &Gateway, path: &str| {
        Call::new(
            "GET",
            &format!("http://127.0.0.1:{}{path}", gateway.address.port()),
        )
    };
    assert_eq!(at(&insecure, "/v1/functions").send().status, 200);
    assert!(insecure.log().contains("everybody who reaches"));
    drop(insecure);

    let given = "a-token-from-the-environment";
    let launch = everywhere.clone().environment("STOIC_ADMIN_TOKEN", given);
    let gateway = launch.start();
    at(&gateway, "/v1/tokens")
        .send()
        .problem(401, "token_missing");
    assert_eq!(at(&gateway, "/v1/tokens").with(given).send().status, 200);
    // No process that it starts has it.
    let object = echo("hi", json!({"standby": {"edge": 1}})).to_string();
    let url = format!("http://127.0.0.1:{}/v1/functions", gateway.address.port());
    let _ = Call::new("POST", &url)
        .with(given)
        .body("application/json", object)
        .send();
    let marked = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let environments = all.filter_map(|of| std::fs::read(of.path().join("environ")).ok());
        let mark = format!("STOIC_GATEWAY_ID={}", gateway.id());
        let texts = environments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        texts
            .filter(|text| text.split('\0').any(|pair| pair == mark))
            .collect::<Vec<_>>()
    };
    until("a pod runs", || !marked().is_empty());
    for environment in marked() {
        assert!(!environment.contains(given));
    }
    drop(gateway);
    let short = everywhere
        .clone()
        .environment("STOIC_ADMIN_TOKEN", "short")
        .fail();
    assert_eq!(short.code, Some(2), "{}", short.errors);
    assert!(!short.errors.contains("short:"), "{}", short.errors);

    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let words = [
        "token", "create", "--data", folder, "--name", "root", "--scope", "admin",
    ];
    let token = done(&stoic(&words, &[]));
    let gateway = everywhere.data(data.path()).start();
    at(&gateway, "/v1/functions")
        .send()
        .problem(401, "token_missing");
    assert_eq!(
        at(&gateway, "/v1/functions").with(&token).send().status,
        200
    );
    let noted = std::fs::read_to_string(data.path().join("audit.log")).unwrap();
    assert!(noted.contains("\"who\":\"data-folder\""), "{noted}");
    let kept = std::fs::read(data.path().join("stoic.db")).unwrap();
    let found = kept
        .windows(token.len())
        .any(|part| part == token.as_bytes());
    assert!(!found, "tokens are kept as hashes");
}

#[test]
fn the_command_line_makes_lists_and_revokes_tokens_and_shows_one() {
    let gateway = Launch::default().keys("[auth]\nrequired = true").start();
    let url = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let path = file.to_str().unwrap();
    let ask = |words: &[&str], environment: &[(&str, &str)]| {
        let mut all = vec![("STOIC_GATEWAY", url.as_str())];
        all.extend(environment);
        stoic(words, &all)
    };
    let denied = ask(&["pods"], &[]);
    assert_eq!(denied.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("token_missing"));

    // The first one in the data folder of the gateway that runs: it notices.
    let data = gateway.data().to_str().unwrap();
    let offline = [
        "token", "create", "--data", data, "--name", "root", "--scope", "admin", "--out", path,
    ];
    done(&stoic(&offline, &[]));
    let mode = std::fs::metadata(&file).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    until("the gateway knows the token", || {
        ask(&["pods", "--token-file", path], &[]).status.success()
    });
    done(&ask(&["pods"], &[("STOIC_TOKEN", &token)]));
    done(&ask(&["pods"], &[("STOIC_TOKEN_FILE", path)]));

    let by = [("STOIC_TOKEN", token.as_str())];
    let words = [
        "token",
        "create",
        "--name",
        "cam",
        "--scope",
        "invoke,deploy",
        "--expires",
        "30d",
        "--rate",
        "10/s",
    ];
    let cam = done(&ask(&words, &by));
    assert!(cam.starts_with("stoic_") && cam.len() > 40, "{cam}");
    let listed = done(&ask(&["token", "list"], &by));
    assert!(
        listed.contains("invoke,deploy") && listed.contains("10/s"),
        "{listed}"
    );
    assert!(!listed.contains(&cam));
    done(&ask(&["function", "list"], &[("STOIC_TOKEN", &cam)]));
    assert_eq!(
        ask(&["token", "list"], &[("STOIC_TOKEN", &cam)])
            .status
            .code(),
        Some(2)
    );
    done(&ask(&["token", "revoke", "cam"], &by));
    assert_eq!(
        ask(&["function", "list"], &[("STOIC_TOKEN", &cam)])
            .status
            .code(),
        Some(2)
    );

    // Revoked in the data folder, it is no good within seconds.
    done(&stoic(&["token", "revoke", "--data", data, "root"], &[]));
    until("the gateway knows that it is revoked", || {
        !ask(&["pods"], &by).status.success()
    });
}

#[test]
fn a_warm_request_with_a_token_costs_next_to_nothing_more() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("echo", json!({"standby": {"edge": 1}})));
    gateway.until_idle("echo", 1);
    let median = |token: &str| {
        let mut times: Vec<Duration> = (0..300)
            .map(|_| {
                let call = gateway.call("POST", "/function/echo").with(token);
                let begun = Instant::now();
                let _ = call.body("text/plain", "hi").send().ok();
                begun.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let _ = median("");
    let open = median("");
    let admin = gateway.create_token(
        "",
        &json!({"name": "root", "scopes": ["admin"], "rate": "100000/s"}),
    );
    let closed = median(&admin);
    // A hash and a look in a table: some hundred nanoseconds, far below what a loaded machine scatters.
    assert!(
        closed < open * 2 + Duration::from_millis(1),
        "{open:?} {closed:?}"
    );
}
