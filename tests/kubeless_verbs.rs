//! The verbs of kubeless on `stoic function`, by the real binary against a real gateway.

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use stoic_tests::{Gateway, binary, until_some};

fn stoic(gateway: &Gateway, words: &[&str]) -> Output {
    stoic_with(gateway, words, b"")
}

fn stoic_with(gateway: &Gateway, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(binary("stoic"))
        .args(words)
        .env("STOIC_GATEWAY", format!("http://{}", gateway.address))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    // It may end before it reads.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

#[track_caller]
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One line, and exit status 2.
#[track_caller]
fn refused(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    assert!(errors.starts_with("stoic: "), "{errors}");
    errors
}

fn spec(gateway: &Gateway, name: &str) -> Value {
    gateway.json(&format!("/v1/functions/{name}"))["spec"].clone()
}

#[test]
fn a_function_is_deployed_by_flags_and_updated_by_what_is_named() {
    let gateway = Gateway::start();
    let words = [
        "function",
        "deploy",
        "--name",
        "hi",
        "--command",
        "stoic-echo",
        "--health",
        "/healthz",
        "--standby",
        "1",
        "--max",
        "3",
        "--idle",
        "5m",
        "--runtime",
        "edge",
        "--memory",
        "2g",
        "--cpu",
        "500m",
        "--env",
        "A=1",
        "-e",
        "B=2",
        "--label",
        "team=birds",
        "--timeout",
        "5m",
        "--concurrency",
        "4",
        "--namespace",
        "default",
        "--read-only",
        "--input",
        "request",
    ];
    let said = done(&stoic(&gateway, &words));
    assert!(
        said.contains("hi is deployed") && said.contains("1 of 1 pods ready"),
        "{said}"
    );
    let first = spec(&gateway, "hi");
    assert_eq!(first["command"], json!(["stoic-echo"]));
    assert_eq!(first["runtimes"], json!(["edge"]));
    assert_eq!(
        first["standby"],
        json!({"edge": {"min": 1, "max": 3, "idle": "5m"}})
    );
    assert_eq!(first["env"], json!({"A": "1", "B": "2"}));
    assert_eq!(
        (&first["timeout"], &first["concurrency"]),
        (&json!("5m"), &json!(4))
    );
    assert_eq!(
        (&first["readOnlyRoot"], &first["resources"]["cpu"]),
        (&json!(true), &json!(0.5))
    );

    let words = [
        "function",
        "update",
        "hi",
        "--env",
        "A=3",
        "--standby",
        "2",
        "--read-only=false",
    ];
    assert!(done(&stoic(&gateway, &words)).contains("hi is updated"));
    let mut wanted = first;
    wanted["env"] = json!({"A": "3", "B": "2"});
    wanted["standby"]["edge"]["min"] = json!(2);
    wanted
        .as_object_mut()
        .expect("a spec")
        .remove("readOnlyRoot");
    assert_eq!(spec(&gateway, "hi"), wanted);
    let labels = &gateway.json("/v1/functions/hi")["metadata"]["labels"];
    assert_eq!(*labels, json!({"team": "birds"}));
    assert!(
        done(&stoic(
            &gateway,
            &["function", "update", "hi", "--env", "A=3"]
        ))
        .contains("is that already")
    );

    let listed = done(&stoic(&gateway, &["function", "ls"]));
    assert!(
        listed.lines().any(|line| line.starts_with("hi ")),
        "{listed}"
    );
}

#[test]
fn standby_goes_to_the_first_runtime_that_can_run_it() {
    let gateway = Gateway::start();
    let first = gateway.json("/v1/runtimes")[0]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    done(&stoic(
        &gateway,
        &[
            "fn",
            "deploy",
            "--name",
            "hi",
            "--command",
            "stoic-echo",
            "--standby",
            "1",
        ],
    ));
    assert_eq!(spec(&gateway, "hi")["standby"][&first]["min"], 1);
    assert_eq!(
        spec(&gateway, "hi")["standby"]
            .as_object()
            .map(|all| all.len()),
        Some(1)
    );
}

#[test]
fn a_call_is_handed_in_and_its_result_fetched_later() {
    let gateway = Gateway::start();
    done(&stoic(
        &gateway,
        &["fn", "deploy", "--name", "hi", "--command", "stoic-echo"],
    ));
    let words = "function call hi --async --data - --idempotency-key one -t text/plain";
    let words: Vec<&str> = words.split(' ').collect();
    let id = done(&stoic_with(&gateway, &words, b"later"));
    let id = id.trim_end();
    assert_eq!(
        done(&stoic(&gateway, &["calls", "wait", id])),
        "later",
        "the echo of what was handed in"
    );
    let again = stoic_with(&gateway, &words, b"later");
    assert!(String::from_utf8_lossy(&again.stderr).contains("known already"));
    assert_eq!(done(&again).trim_end(), id);
    // Without data, too: an asynchronous call is always a POST.
    let empty = done(&stoic(&gateway, &["fn", "call", "hi", "--async"]));
    done(&stoic(&gateway, &["calls", "wait", empty.trim_end()]));
    // What makes no sense together, and what is not there.
    refused(&stoic(
        &gateway,
        &["fn", "call", "none", "--async", "--quiet"],
    ));
    for words in [
        &["fn", "call", "hi", "--async", "--output", "x"][..],
        &["fn", "call", "hi", "--callback-url", "http://127.0.0.1:1/x"],
    ] {
        assert_eq!(stoic(&gateway, words).status.code(), Some(2));
    }
}

#[test]
fn a_function_is_scaled() {
    let gateway = Gateway::start();
    let deploy = "fn deploy --name hi --command stoic-echo --standby edge=1 --max 3";
    done(&stoic(&gateway, &deploy.split(' ').collect::<Vec<_>>()));
    let said = done(&stoic(
        &gateway,
        &["fn", "scale", "hi", "3", "--runtime", "edge"],
    ));
    assert!(said.contains("3 pods") && said.contains("edge"), "{said}");
    gateway.until_idle("hi", 3);
    done(&stoic(&gateway, &["function", "scale", "hi", "0"]));
    gateway.until_idle("hi", 0);
    refused(&stoic(&gateway, &["fn", "scale", "hi", "1", "-r", "none"]));
}

#[test]
fn top_tells_what_pods_do() {
    let gateway = Gateway::start();
    done(&stoic(
        &gateway,
        &[
            "fn",
            "deploy",
            "--name",
            "hi",
            "--command",
            "stoic-echo",
            "--standby",
            "edge=1",
        ],
    ));
    for _ in 0..3 {
        let call = gateway.call("POST", "/function/hi").on("edge");
        let _ = call.body("text/plain", "x").send().ok();
    }
    // What was measured is written behind the answers.
    let row = until_some("all three calls are counted", || {
        let text = done(&stoic(
            &gateway,
            &["function", "top", "--once", "-o", "json"],
        ));
        let rows: Value = serde_json::from_str(&text).expect("JSON");
        let mut rows = rows.as_array().expect("rows").iter();
        let row = rows.find(|row| row["function"] == "hi" && row["runtime"] == "edge")?;
        (row["served"] == 3 && row["measured"].as_u64() >= Some(1)).then(|| row.clone())
    });
    assert_eq!(
        (&row["ready"], &row["running"]),
        (&json!(1), &json!(0)),
        "{row}"
    );
    assert!(row["response_p50_s"].as_f64() > Some(0.0), "{row}");
    // No terminal: once, without being asked to.
    assert!(done(&stoic(&gateway, &["function", "top", "hi"])).contains("SERVED"));
    refused(&stoic(&gateway, &["function", "top", "none", "--once"]));
}

#[test]
fn secrets_are_created_listed_and_removed() {
    let gateway = Gateway::start();
    done(&stoic_with(
        &gateway,
        &["secret", "create", "a.token"],
        b"s3same",
    ));
    assert_eq!(
        std::fs::read(gateway.data().join("secrets/a.token")).expect("kept"),
        b"s3same"
    );
    let taken = refused(&stoic_with(
        &gateway,
        &["secret", "create", "a.token"],
        b"other",
    ));
    assert!(taken.contains("secret_exists"), "{taken}");
    done(&stoic_with(
        &gateway,
        &["secret", "create", "a.token", "--replace"],
        b"other",
    ));
    let listed = done(&stoic(&gateway, &["secret", "list"]));
    assert!(
        listed.contains("a.token") && !listed.contains("other"),
        "{listed}"
    );
    done(&stoic(&gateway, &["secret", "remove", "a.token"]));
    refused(&stoic(&gateway, &["secret", "remove", "a.token"]));
    refused(&stoic_with(&gateway, &["secret", "create", "../x"], b"x"));
    refused(&stoic(
        &gateway,
        &["secret", "create", "x", "--from-file", "/does/not/exist"],
    ));
}

#[test]
fn wrong_input_is_one_line_and_exit_status_2() {
    let gateway = Gateway::start();
    let deploy = ["function", "deploy", "--name", "hi"];
    for (more, says) in [
        (&[][..], "--image"),
        (&["--command", "no-such-program"][..], "no-such-program"),
        (&["--image", "x"][..], "runtime_cannot_run"),
        (&["--command", "stoic-echo", "--port", "99999"][..], "99999"),
        (&["--command", "stoic-echo", "--memory", "much"][..], "much"),
        (&["--command", "stoic-echo", "--cpus", "0"][..], "cores"),
        (&["--command", "stoic-echo", "--standby", "few"][..], "few"),
        (
            &["--command", "stoic-echo", "--standby", "3", "--max", "2"][..],
            "max",
        ),
        (&["--command", "stoic-echo", "--idle", "soon"][..], "soon"),
        (
            &["--command", "stoic-echo", "--timeout", "0"][..],
            "timeout",
        ),
        (
            &["--command", "stoic-echo", "--runtime", "python3.7"][..],
            "python3.7",
        ),
        (
            &["--command", "stoic-echo", "--env", "novalue"][..],
            "novalue",
        ),
        (&["--command", "stoic-echo", "--secret", "none"][..], "none"),
        (&["--command", "stoic-echo", "--health", "x"][..], "health"),
        (
            &["--command", "stoic-echo", "--namespace", "mine"][..],
            "mine",
        ),
        (&["--command", "stoic-echo", "--isolation=full"][..], "full"),
        (&["--no-such-flag"][..], "--no-such-flag"),
    ] {
        let words: Vec<&str> = deploy.iter().chain(more).copied().collect();
        let line = refused(&stoic(&gateway, &words));
        assert!(line.contains(says), "{words:?}: {line}");
    }
    for words in [
        &["function", "deploy"][..],
        &["function", "deploy", "file.yaml", "--name", "hi"],
        &["function", "deploy", "-", "--env", "A=b"],
        &["function", "update", "hi"],
        &["function", "update", "none", "--env", "A=b"],
        &[
            "function",
            "deploy",
            "--name",
            "Not_A_Label",
            "--command",
            "stoic-echo",
        ],
        &["function", "scale", "none", "1"],
        &["function", "scale", "hi", "many"],
        &["function", "scale", "hi", "-1"],
    ] {
        refused(&stoic(&gateway, words));
    }
    assert_eq!(gateway.json("/v1/functions"), json!([]));
}
