//! TLS on the front: HTTP/1.1 and HTTP/2 by agreement, certificates of callers where they are asked for,
//! and the command line over it.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use stoic_tests::{Authority, Gateway, Launch, binary, echo, over_tls, until};

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn stoic(gateway: &Gateway, words: &[&str], environment: &[(&str, &Path)]) -> Output {
    Command::new(binary("stoic"))
        .args(words)
        .env(
            "STOIC_GATEWAY",
            format!("https://localhost:{}", gateway.address.port()),
        )
        .envs(environment.iter().copied())
        .output()
        .expect("the binary can be run")
}

#[track_caller]
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_front_speaks_tls_and_what_the_caller_chooses_over_it() {
    let authority = Authority::default();
    let identity = authority.identity("gateway");
    let gateway = Launch::default().tables(&identity.table(None)).start();
    let ask = |protocols: &[&str], bytes: &[u8]| {
        over_tls(gateway.address, &authority.file(), None, protocols, bytes).unwrap()
    };
    for protocols in [&["http/1.1"][..], &[]] {
        let answer = ask(protocols, GET);
        assert!(answer.text.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.text.ends_with("ok\n"), "{answer:?}");
    }
    // The preface and empty settings; the server's own settings come back as its first frame.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let answer = ask(&["h2", "http/1.1"], preface);
    assert_eq!(answer.protocol, "h2");
    assert_eq!(answer.text.as_bytes()[3], 4, "{answer:?}");

    // Neither another authority nor plain HTTP gets anywhere.
    let other = Authority::default();
    let refused = over_tls(gateway.address, &other.file(), None, &[], GET).unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(gateway.call("GET", "/healthz").try_send().is_err());
    assert!(!gateway.panicked());
}

#[test]
fn the_command_line_speaks_tls_with_an_authority_of_its_own() {
    let authority = Authority::default();
    let identity = authority.identity("gateway");
    let gateway = Launch::default().tables(&identity.table(None)).start();
    let file = gateway.data().join("echo.json");
    std::fs::write(&file, echo("echo", json!({})).to_string()).unwrap();
    let ca = authority.file();
    let with = [("STOIC_CA", ca.as_path())];
    done(&stoic(
        &gateway,
        &["function", "deploy", file.to_str().unwrap()],
        &with,
    ));
    let data = file.to_str().unwrap();
    let words = [
        "function",
        "call",
        "echo",
        "--data",
        data,
        "-t",
        "text/plain",
    ];
    assert!(done(&stoic(&gateway, &words, &with)).contains("stoic-echo"));
    let named = ["pods", "--ca", ca.to_str().unwrap()];
    assert!(done(&stoic(&gateway, &named, &[])).contains("echo"));
    let untrusted = stoic(&gateway, &["pods"], &[]);
    assert_eq!(untrusted.status.code(), Some(1));
    let said = String::from_utf8_lossy(&untrusted.stderr);
    assert!(
        said.contains("certificate") && said.contains("--ca"),
        "{said}"
    );
    let own = Launch::default()
        .tables(&authority.itself().table(None))
        .start();
    let refused = stoic(&own, &["pods"], &with);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("CA:FALSE"), "{said}");

    // What the gateway asks of itself, calls that nobody waits for, goes on as before.
    let asked = "POST /async-function/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
    let accepted = over_tls(gateway.address, &ca, None, &[], asked.as_bytes()).unwrap();
    assert!(accepted.text.starts_with("HTTP/1.1 202"), "{accepted:?}");
    until("the call has succeeded", || {
        done(&stoic(&gateway, &["calls", "list"], &with)).contains("succeeded")
    });
}

#[test]
fn callers_show_a_certificate_where_they_are_asked_for_one() {
    let authority = Authority::default();
    let callers = Authority::default();
    let table = authority.identity("gateway").table(Some(&callers.file()));
    let gateway = Launch::default().tables(&table).start();
    let client = callers.identity("client");
    let stranger = authority.identity("stranger");
    let ca = authority.file();
    let ask = |identity| over_tls(gateway.address, &ca, identity, &["http/1.1"], GET);
    assert!(ask(Some(&client)).unwrap().text.starts_with("HTTP/1.1 200"));
    for refused in [ask(None), ask(Some(&stranger))] {
        assert!(refused.is_err(), "{refused:?}");
    }
    let with = [
        ("STOIC_CA", ca.as_path()),
        ("STOIC_CLIENT_CERT", client.cert.as_path()),
        ("STOIC_CLIENT_KEY", client.key.as_path()),
    ];
    done(&stoic(&gateway, &["runtimes"], &with));
    assert_eq!(
        stoic(&gateway, &["runtimes"], &with[..1]).status.code(),
        Some(1)
    );
}

#[test]
fn a_certificate_that_is_renewed_is_used_without_a_restart() {
    let (old, new) = (Authority::default(), Authority::default());
    let identity = old.identity("gateway");
    let gateway = Launch::default().tables(&identity.table(None)).start();
    let ask = |authority: &Authority| over_tls(gateway.address, &authority.file(), None, &[], GET);
    assert!(ask(&old).is_ok() && ask(&new).is_err());
    // Half of it is there: what was read before serves on.
    let renewed = new.identity("renewed");
    std::fs::copy(&renewed.cert, &identity.cert).unwrap();
    until("the gateway has looked", || {
        gateway.log().contains("cannot be used")
    });
    assert!(ask(&old).is_ok());
    std::fs::copy(&renewed.key, &identity.key).unwrap();
    until("the new certificate is in use", || ask(&new).is_ok());
}

#[test]
fn files_that_are_no_certificate_or_key_are_named_at_start() {
    let authority = Authority::default();
    let identity = authority.identity("gateway");
    let other = authority.identity("other");
    let mut cases = Vec::new();
    let mut absent = identity.clone();
    absent.cert = "/nowhere/cert.pem".into();
    cases.push((absent, "tls.cert"));
    let mut swapped = identity.clone();
    swapped.key.clone_from(&identity.cert);
    cases.push((swapped, "tls.key"));
    let mut mixed = identity.clone();
    mixed.key.clone_from(&other.key);
    cases.push((mixed, "tls.key"));
    for (identity, key) in cases {
        let exit = Launch::default().tables(&identity.table(None)).fail();
        assert_eq!(exit.code, Some(2), "{}", exit.errors);
        assert!(exit.errors.contains(key), "{}", exit.errors);
        assert_eq!(exit.errors.trim_end().lines().count(), 1, "{}", exit.errors);
    }
}
