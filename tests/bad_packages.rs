//! A package that is none, cut short, hostile or empty is refused by its code; nothing of it stays, and
//! the pod never sees it.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use stoic_tests::{Gateway, damaged, echo, encrypted, tar_of, texts, zip_of};

const ZIP: &str = "application/zip";
const TAR: &str = "application/x-tar";

/// Packages that are refused: what is wrong, media type, bytes, code.
fn bad() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let good = zip_of(&texts(5));
    let half = good[..good.len() / 2].to_vec();
    let zeros = vec![0_u8; 80 << 20];
    let climbing = zip_of(&[("aa/b.txt", "x")]);
    let tar = tar_of(&texts(5));
    vec![
        ("no zip", ZIP, b"no zip at all".to_vec(), "package_invalid"),
        ("truncated zip", ZIP, half, "package_invalid"),
        ("a tar called a zip", ZIP, tar.clone(), "package_invalid"),
        ("a bomb", ZIP, zip_of(&[("zeros", zeros)]), "package_bomb"),
        (
            "a name with ../",
            ZIP,
            damaged(&climbing, b"aa/b.txt", b"../b.txt"),
            "package_unsafe_name",
        ),
        (
            "an absolute name",
            ZIP,
            damaged(&climbing, b"aa/b.txt", b"/a/b.txt"),
            "package_unsafe_name",
        ),
        ("encrypted", ZIP, encrypted(&good), "package_encrypted"),
        (
            "no entries",
            ZIP,
            zip_of::<&str, &str>(&[]),
            "package_empty",
        ),
        (
            "nothing but what does not count",
            ZIP,
            zip_of(&[(".DS_Store", "x")]),
            "package_empty",
        ),
        (
            "two of a name",
            ZIP,
            damaged(
                &zip_of(&[("a.txt", "1"), ("b.txt", "2")]),
                b"b.txt",
                b"a.txt",
            ),
            "package_duplicate_name",
        ),
        ("no tar", TAR, vec![b'x'; 4096], "package_invalid"),
        ("truncated tar", TAR, tar[..700].to_vec(), "package_invalid"),
        ("a zip called a tar", TAR, good, "package_invalid"),
        ("empty tar", TAR, vec![0; 1024], "package_empty"),
        ("no body", ZIP, Vec::new(), "body_empty"),
    ]
}

#[test]
fn each_is_refused_by_its_code_and_nothing_of_it_stays() {
    let mut gateway = Gateway::start();
    gateway.deploy(&echo(
        "batch",
        json!({"input": "batch", "standby": {"edge": 1}}),
    ));
    let pod = gateway.until_idle("batch", 1)[0]["name"].clone();
    for (what, media, bytes, code) in bad() {
        for events in [false, true] {
            let mut call = gateway
                .call("POST", "/function/batch")
                .body(media, bytes.clone());
            if events {
                call = call.header("accept", "application/x-ndjson");
            }
            let answer = call.send();
            assert_eq!(answer.json()["code"], code, "{what}: {}", answer.text());
            answer.problem(400, code);
            assert!(answer.json()["invocation"].is_string(), "{what}");
        }
        let left = gateway.stored("");
        assert!(left.is_empty(), "{what}: {left:?}");
        assert!(gateway.unfinished().is_empty(), "{what}");
    }
    assert!(gateway.lives());
    // The same pod, untouched, still serves.
    let good = gateway
        .batch("/function/batch", "edge", &zip_of(&texts(2)))
        .send()
        .ok();
    assert_eq!(good.header("x-stoic-pod"), pod);
    let pods = gateway.pods("batch");
    assert_eq!((pods.len(), &pods[0]["served"]), (1, &json!(1)), "{pods:?}");
}

#[test]
fn an_item_that_is_damaged_does_not_harm_the_others() {
    let gateway = Gateway::start();
    gateway.deploy(&echo("batch", json!({"input": "batch"})));
    // Stored in a tar nothing is checked; in a zip the deflated bytes of one entry are.
    let texts = texts(4);
    let good = zip_of(&texts);
    let at = good
        .windows(5)
        .position(|bytes| bytes == b"2.txt")
        .expect("the local header of the third");
    let mut zip = good.clone();
    zip[at + 5 + 3] ^= 0xff;
    let answer = gateway.batch("/function/batch", "edge", &zip).send().ok();
    let items = answer.json()["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 4);
    for (n, item) in items.iter().enumerate() {
        if n == 2 {
            assert_eq!(item["error"]["code"], "item_corrupt", "{item}");
        } else {
            assert_eq!(item["bytes"], texts[n].1.len(), "{item}");
        }
    }
}
