//! Every operation of the embedded server, by the official client with its defaults.

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete,
    MetadataDirective, ObjectIdentifier,
};

use crate::serving::{BUCKET, noise, serve};

#[tokio::test(flavor = "multi_thread")]
async fn buckets() {
    let serving = serve().await;
    let s3 = serving.sdk();
    assert!(s3.head_bucket().bucket(BUCKET).send().await.is_err());
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    s3.head_bucket().bucket(BUCKET).send().await.unwrap();
    let again = s3.create_bucket().bucket(BUCKET).send().await.unwrap_err();
    assert!(again.into_service_error().is_bucket_already_owned_by_you());
    s3.create_bucket().bucket("other").send().await.unwrap();
    let listed = s3.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed.buckets().iter().filter_map(|b| b.name()).collect();
    assert_eq!(names, ["other", BUCKET]);
    for bad in [
        "Upper",
        "a",
        "..",
        "a..b",
        "x/y",
        "10.0.0.1",
        "xn--x",
        &"a".repeat(64),
    ] {
        assert!(
            s3.create_bucket().bucket(bad).send().await.is_err(),
            "{bad}"
        );
    }
    assert_eq!(serving.files("buckets"), 2);
    s3.put_object()
        .bucket("other")
        .key("k")
        .send()
        .await
        .unwrap();
    let full = s3.delete_bucket().bucket("other").send().await.unwrap_err();
    assert_eq!(full.code(), Some("BucketNotEmpty"));
    s3.delete_object()
        .bucket("other")
        .key("k")
        .send()
        .await
        .unwrap();
    s3.delete_bucket().bucket("other").send().await.unwrap();
    let gone = s3
        .put_object()
        .bucket("other")
        .key("k")
        .send()
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Some("NoSuchBucket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn put_get_head_delete() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    for length in [0, 1, 262_144, 262_145, 3_000_000] {
        let body = noise(length, 7);
        let put = s3
            .put_object()
            .bucket(BUCKET)
            .key("a/photo.jpg")
            .content_type("image/jpeg")
            .content_encoding("gzip")
            .cache_control("no-store")
            .content_disposition("attachment")
            .metadata("site", "edge")
            .body(ByteStream::from(body.clone()))
            .send()
            .await
            .unwrap();
        let get = s3
            .get_object()
            .bucket(BUCKET)
            .key("a/photo.jpg")
            .send()
            .await
            .unwrap();
        assert_eq!(get.content_length(), Some(length as i64));
        assert_eq!(get.content_type(), Some("image/jpeg"));
        // `aws-chunked`, which the client adds for its trailing checksum, is not stored.
        assert_eq!(get.content_encoding(), Some("gzip"));
        assert_eq!(get.cache_control(), Some("no-store"));
        assert_eq!(get.content_disposition(), Some("attachment"));
        assert_eq!(get.metadata().unwrap()["site"], "edge");
        assert_eq!(get.e_tag(), put.e_tag());
        assert_eq!(get.checksum_crc32(), put.checksum_crc32());
        assert!(get.checksum_crc32().is_some());
        assert_eq!(get.body.collect().await.unwrap().into_bytes(), body);
    }
    let head = s3
        .head_object()
        .bucket(BUCKET)
        .key("a/photo.jpg")
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(3_000_000));
    assert!(head.checksum_crc32().is_some());
    assert!(head.last_modified().unwrap().secs() > 1_700_000_000);
    // The MD5 of "hello", as everyone knows it.
    let hello = s3
        .put_object()
        .bucket(BUCKET)
        .key("hello")
        .body(ByteStream::from_static(b"hello"))
        .send()
        .await
        .unwrap();
    assert_eq!(hello.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    for _ in 0..2 {
        s3.delete_object()
            .bucket(BUCKET)
            .key("a/photo.jpg")
            .send()
            .await
            .unwrap();
    }
    let gone = s3
        .get_object()
        .bucket(BUCKET)
        .key("a/photo.jpg")
        .send()
        .await;
    assert!(gone.unwrap_err().into_service_error().is_no_such_key());
    let gone = s3
        .head_object()
        .bucket(BUCKET)
        .key("a/photo.jpg")
        .send()
        .await;
    assert!(gone.unwrap_err().into_service_error().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let body = noise(600_000, 3);
    let put = s3.put_object().bucket(BUCKET).key("k");
    let etag = put
        .body(ByteStream::from(body.clone()))
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();
    let get = || s3.get_object().bucket(BUCKET).key("k");
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=10-300000", 10..300_001),
        ("bytes=599999-", 599_999..600_000),
        ("bytes=599000-9999999", 599_000..600_000),
        ("bytes=-7", 599_993..600_000),
    ] {
        let part = get().range(range).send().await.unwrap();
        let told = format!("bytes {}-{}/600000", expected.start, expected.end - 1);
        assert_eq!(part.content_range(), Some(told.as_str()));
        assert_eq!(
            part.body.collect().await.unwrap().into_bytes(),
            body[expected]
        );
    }
    let beyond = get().range("bytes=600000-").send().await.unwrap_err();
    assert_eq!(beyond.code(), Some("InvalidRange"));

    let status = |result: Result<GetObjectOutput, SdkError<GetObjectError>>| match result {
        Ok(_) => 200,
        Err(e) => e.raw_response().map_or(0, |r| r.status().as_u16()),
    };
    let past = DateTime::from_secs(1_000_000_000);
    let future = DateTime::from_secs(4_000_000_000);
    assert_eq!(status(get().if_match(&etag).send().await), 200);
    assert_eq!(status(get().if_match("\"x\"").send().await), 412);
    assert_eq!(status(get().if_none_match(&etag).send().await), 304);
    assert_eq!(status(get().if_none_match("\"x\"").send().await), 200);
    assert_eq!(status(get().if_modified_since(future).send().await), 304);
    assert_eq!(status(get().if_modified_since(past).send().await), 200);
    assert_eq!(status(get().if_unmodified_since(past).send().await), 412);
    let put = || s3.put_object().bucket(BUCKET).key("k");
    let refused = put().if_none_match("*").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("PreconditionFailed"));
    let refused = put().if_match("\"x\"").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("PreconditionFailed"));
    put().if_match(&etag).send().await.unwrap();
    let absent = s3.put_object().bucket(BUCKET).key("new");
    absent.if_none_match("*").send().await.unwrap();
    assert_eq!(serving.files("temporary"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_and_deleting_many() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let mut keys: Vec<String> = (0..30).map(|i| format!("in/{i:02}/x")).collect();
    keys.extend(["in".into(), "out/a".into(), "é & <ü>".into()]);
    for key in &keys {
        s3.put_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
    }
    let list = || s3.list_objects_v2().bucket(BUCKET);
    let mut told = Vec::new();
    let mut pages = list().max_keys(7).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        assert!(page.contents().len() <= 7);
        told.extend(page.contents.unwrap().into_iter().map(|o| o.key.unwrap()));
    }
    keys.sort();
    assert_eq!(told, keys);
    let folders = list().prefix("in/").delimiter("/").send().await.unwrap();
    assert_eq!(folders.common_prefixes().len(), 30);
    assert!(folders.contents().is_empty());
    let after = list().start_after("in/29/x").send().await.unwrap();
    assert_eq!(after.key_count(), Some(2));
    let bad = list()
        .continuation_token("nonsense")
        .send()
        .await
        .unwrap_err();
    assert_eq!(bad.code(), Some("InvalidArgument"));

    // The listing follows writes and deletes made after it was first read.
    s3.put_object()
        .bucket(BUCKET)
        .key("late")
        .send()
        .await
        .unwrap();
    let never = "never".to_owned();
    let objects: Vec<_> = keys
        .iter()
        .chain([&never])
        .map(|k| ObjectIdentifier::builder().key(k).build().unwrap())
        .collect();
    let delete = Delete::builder()
        .set_objects(Some(objects))
        .build()
        .unwrap();
    let deleted = s3
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await;
    assert_eq!(deleted.unwrap().deleted().len(), keys.len() + 1);
    let left = list().send().await.unwrap();
    assert_eq!(left.contents()[0].key(), Some("late"));
    assert_eq!(left.key_count(), Some(1));
    assert_eq!(serving.files("buckets/packages"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let begin = || async {
        let create = s3.create_multipart_upload().bucket(BUCKET).key("big");
        let create = create.content_type("application/zip").metadata("n", "1");
        create.send().await.unwrap().upload_id.unwrap()
    };
    let id = begin().await;
    let pieces = [noise(5 << 20, 1), noise(5 << 20, 2), noise(1000, 3)];
    let mut parts = Vec::new();
    // Out of order, and the second twice: the later one counts.
    for (number, body) in [
        (3, &pieces[2]),
        (2, &pieces[0]),
        (1, &pieces[0]),
        (2, &pieces[1]),
    ] {
        let part = s3
            .upload_part()
            .bucket(BUCKET)
            .key("big")
            .upload_id(&id)
            .part_number(number)
            .body(ByteStream::from(body.clone()))
            .send()
            .await
            .unwrap();
        parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag)
                .set_checksum_crc32(part.checksum_crc32)
                .build(),
        );
    }
    let listed = s3
        .list_parts()
        .bucket(BUCKET)
        .key("big")
        .upload_id(&id)
        .max_parts(2);
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.parts().len(), 2);
    assert_eq!(listed.is_truncated(), Some(true));
    let stale = parts.remove(1);
    parts.sort_by_key(|p| p.part_number());
    let complete = |parts: Vec<CompletedPart>| {
        s3.complete_multipart_upload()
            .bucket(BUCKET)
            .key("big")
            .upload_id(&id)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .send()
    };
    let wrong = complete(vec![stale]).await.unwrap_err();
    assert_eq!(wrong.code(), Some("InvalidPart"));
    let order = complete(parts.iter().rev().cloned().collect())
        .await
        .unwrap_err();
    assert_eq!(order.code(), Some("InvalidPartOrder"));
    assert!(
        s3.head_object()
            .bucket(BUCKET)
            .key("big")
            .send()
            .await
            .is_err()
    );
    let done = complete(parts.clone()).await.unwrap();
    assert!(
        done.e_tag().unwrap().ends_with("-3\""),
        "{:?}",
        done.e_tag()
    );
    let got = s3
        .get_object()
        .bucket(BUCKET)
        .key("big")
        .send()
        .await
        .unwrap();
    assert_eq!(got.content_type(), Some("application/zip"));
    assert_eq!(got.metadata().unwrap()["n"], "1");
    assert_eq!(got.e_tag(), done.e_tag());
    assert_eq!(
        got.body.collect().await.unwrap().into_bytes(),
        pieces.concat()
    );
    let again = complete(parts).await.unwrap_err();
    assert_eq!(again.code(), Some("NoSuchUpload"));
    assert_eq!(serving.files("temporary"), 0);

    let id = begin().await;
    let mut small = Vec::new();
    for number in [1, 2] {
        let part = s3.upload_part().bucket(BUCKET).key("big").upload_id(&id);
        let part = part.part_number(number).body(ByteStream::from_static(b"x"));
        let etag = part.send().await.unwrap().e_tag;
        small.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(etag)
                .build(),
        );
    }
    let small = CompletedMultipartUpload::builder()
        .set_parts(Some(small))
        .build();
    let small = s3
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("big")
        .upload_id(&id)
        .multipart_upload(small)
        .send()
        .await
        .unwrap_err();
    assert_eq!(small.code(), Some("EntityTooSmall"));
    assert_eq!(serving.files("temporary"), 2);
    let abort = s3.abort_multipart_upload().bucket(BUCKET).upload_id(&id);
    assert!(abort.clone().key("another").send().await.is_err());
    abort.key("big").send().await.unwrap();
    assert_eq!(serving.files("temporary"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_uploads_go_by_age() {
    let serving = crate::serving::serve_with(|o| o.upload_age = Duration::from_millis(300)).await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let id = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    let id = id.upload_id.unwrap();
    let part = || {
        s3.upload_part()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
            .part_number(1)
            .send()
    };
    part().await.unwrap();
    assert_eq!(serving.files("temporary"), 1);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(serving.files("temporary"), 0);
    assert_eq!(part().await.unwrap_err().code(), Some("NoSuchUpload"));
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_within_the_server() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    s3.create_bucket().bucket("other").send().await.unwrap();
    let body = noise(1_000_000, 9);
    let put = s3
        .put_object()
        .bucket(BUCKET)
        .key("a b/ü")
        .content_type("image/png");
    put.body(ByteStream::from(body.clone()))
        .send()
        .await
        .unwrap();
    let copy = |key: &str| {
        let copy = s3.copy_object().bucket("other").key(key);
        copy.copy_source("packages/a%20b/%C3%BC")
    };
    copy("kept").send().await.unwrap();
    let replaced = copy("new").metadata_directive(MetadataDirective::Replace);
    replaced.content_type("text/plain").send().await.unwrap();
    for (key, content_type) in [("kept", "image/png"), ("new", "text/plain")] {
        let got = s3
            .get_object()
            .bucket("other")
            .key(key)
            .send()
            .await
            .unwrap();
        assert_eq!(got.content_type(), Some(content_type));
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), body);
    }
    let missing = s3
        .copy_object()
        .bucket("other")
        .key("k")
        .copy_source("packages/none");
    assert_eq!(missing.send().await.unwrap_err().code(), Some("NoSuchKey"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_keeps_the_former_object() {
    let serving = serve().await;
    let s3 = serving.sdk();
    s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let put = |body: &'static [u8]| {
        let put = s3.put_object().bucket(BUCKET).key("k");
        put.body(ByteStream::from_static(body))
    };
    put(b"former").send().await.unwrap();
    let wrong = [
        put(b"new").content_md5("1B2M2Y8AsgTpgAmY7PhCfg=="),
        put(b"new").checksum_crc32("AAAAAA=="),
        put(b"new").checksum_crc32_c("AAAAAA=="),
        put(b"new").checksum_sha1("2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        put(b"new").checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ];
    for put in wrong {
        let refused = put.send().await.unwrap_err();
        assert_eq!(refused.code(), Some("BadDigest"), "{refused:?}");
    }
    let got = s3
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), "former");
    assert_eq!(serving.files("temporary"), 0);
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let right = put(b"new").checksum_algorithm(algorithm).send().await;
        right.unwrap();
    }
    let right = put(b"hello").content_md5("XUFAKrxLKna5cZ2REBfFkg==");
    right.send().await.unwrap();
}
