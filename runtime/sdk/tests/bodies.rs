//! Batches that come in the body, through the example `sizes`.
#![allow(clippy::unwrap_used)]

#[path = "../../../functions/echo/tests/pod/mod.rs"]
mod pod;

use pod::Pod;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use stoic_sdk::{Batch, Call};
use zip::write::SimpleFileOptions;

/// The example's binary, which cargo builds beside the tests.
fn sizes() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    profile.join("examples/sizes")
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_package_in_the_body_is_a_batch() {
    let pod = Pod::start(sizes(), &[]);
    let zip = zip_of(&[("a.txt", b"aaa"), ("b/c.txt", &[1; 5000])]);
    let headers = "content-type: application/zip\r\nx-stoic-action: measure\r\n";
    let answer = pod.send("POST", "/?unit=bytes", headers, &zip);
    assert_eq!(answer.text(), "action measure\na.txt 3\nb/c.txt 5000\n");
    assert_eq!(answer.header("x-stoic-items"), Some("2"));
    let streamed = "content-type: application/zip\r\naccept: application/x-ndjson\r\n";
    let lines = pod.send("POST", "/", streamed, &zip).lines();
    assert_eq!(lines[0]["items"], 2);
    let last = lines.last().unwrap();
    assert_eq!(last["value"], "action infer\na.txt 3\nb/c.txt 5000\n");
    assert_eq!(last["content_type"], "text/plain");
}

#[test]
fn a_single_item_in_the_body_is_a_batch_of_one() {
    let pod = Pod::start(sizes(), &[]);
    let headers = "content-type: text/plain; charset=utf-8\r\n";
    assert_eq!(
        pod.send("POST", "/", headers, b"hello").text(),
        "action infer\nitem 5\n"
    );
}

#[test]
fn what_is_neither_is_refused() {
    let pod = Pod::start(sizes(), &[]);
    for (content_type, status, code) in [
        ("image/jpeg", 415, "unsupported_media_type"),
        ("application/zip", 400, "package_invalid"),
        ("application/x-tar", 400, "package_invalid"),
    ] {
        let headers = format!("content-type: {content_type}\r\n");
        let answer = pod.send("POST", "/", &headers, b"something else");
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
    let answer = pod.send("POST", "/", "", b"");
    assert_eq!(answer.code(), "unsupported_media_type");
    assert!(
        answer.text().contains("text/plain"),
        "the answer names what is taken"
    );
    assert_eq!(pod.get("/_stoic/sample").code(), "sample_unsupported");
    let model = br#"{"version": "v1", "url": "/nowhere"}"#;
    assert_eq!(
        pod.send("PUT", "/_stoic/model", "", model).code(),
        "model_unsupported"
    );
}

#[test]
fn a_batch_can_be_worked_without_a_server() {
    let zip = zip_of(&[("a.txt", b"aaa")]);
    let batch = Batch::local("infer", Default::default(), "application/zip", zip, &[]).unwrap();
    assert_eq!(batch.items().len(), 1);
    assert_eq!(&batch.read(0).unwrap()[..], b"aaa");
    assert_eq!(batch.read(1).unwrap_err().code, "item_unreadable");
    let problem = batch.put_model("x".as_ref()).unwrap_err();
    assert_eq!(problem.code, "model_output_missing");
    assert!(!Call::detached().cancelled());
}
