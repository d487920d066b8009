//! The S3 operations over the directory.

#![expect(
    clippy::field_reassign_with_default,
    reason = "S3's outputs have dozens of fields, of which an answer sets a few"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::body::FileRange;
use super::conditions::{self, precondition};
use super::disk::{Bucket, Disk, Precondition, Temporary, WriteError};
use super::listing::{MOST_LISTED, Query, page};
use super::object::{Metadata, hex};
use super::receive::{Promise, receive};
use super::refuse::{blocking_failed, disk_error};
use super::request::{check_key, promised_length, stored_encoding, user_metadata};
use super::uploads::{MOST_PARTS, Named, Uploads, join};

/// The store as a service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) disk: Arc<Disk>,
    pub(super) uploads: Arc<Uploads>,
    pub(super) max_object_bytes: u64,
    pub(super) idle: Duration,
}

/// The checksums that a request or part names, by algorithm.
macro_rules! checksums {
    ($from:expr) => {
        [
            ("crc32", $from.checksum_crc32.clone()),
            ("crc32c", $from.checksum_crc32c.clone()),
            ("sha1", $from.checksum_sha1.clone()),
            ("sha256", $from.checksum_sha256.clone()),
            ("crc64nvme", $from.checksum_crc64nvme.clone()),
        ]
        .into_iter()
        .filter_map(|(name, sum)| Some((name.to_owned(), sum?)))
        .collect::<BTreeMap<String, String>>()
    };
}

/// Writes checksums into an output that has a field for each algorithm.
macro_rules! set_checksums {
    ($output:expr, $sums:expr) => {
        $output.checksum_crc32 = $sums.get("crc32").cloned();
        $output.checksum_crc32c = $sums.get("crc32c").cloned();
        $output.checksum_sha1 = $sums.get("sha1").cloned();
        $output.checksum_sha256 = $sums.get("sha256").cloned();
        $output.checksum_crc64nvme = $sums.get("crc64nvme").cloned();
    };
}

/// The metadata that a request brings for the object it makes.
macro_rules! described {
    ($input:expr) => {
        Metadata {
            key: $input.key.clone(),
            content_type: $input.content_type.clone(),
            content_encoding: stored_encoding($input.content_encoding.as_deref()),
            content_disposition: $input.content_disposition.clone(),
            content_language: $input.content_language.clone(),
            cache_control: $input.cache_control.clone(),
            user: user_metadata($input.metadata.as_ref())?,
            ..Metadata::default()
        }
    };
}

/// What HEAD and GET answer alike.
macro_rules! describe {
    ($output:expr, $metadata:expr, $checksums:expr) => {
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_type = $metadata.content_type.clone();
        $output.content_encoding = $metadata.content_encoding.clone();
        $output.content_disposition = $metadata.content_disposition.clone();
        $output.content_language = $metadata.content_language.clone();
        $output.cache_control = $metadata.cache_control.clone();
        $output.e_tag = Some($metadata.etag());
        $output.last_modified = Some($metadata.modified().into());
        $output.metadata = Some($metadata.user.clone().into_iter().collect());
        if $checksums {
            set_checksums!($output, $metadata.checksums);
        }
    };
}

impl Service {
    fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        let bucket = self.disk.bucket(name);
        bucket.ok_or_else(|| s3_error!(NoSuchBucket, "no such bucket"))
    }

    async fn open(&self, bucket: &str, key: &str) -> S3Result<(File, Metadata)> {
        let bucket = self.bucket(bucket)?;
        let key = check_key(key)?.to_owned();
        blocking(move || bucket.open(&key))
            .await?
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => s3_error!(NoSuchKey, "no such object"),
                _ => disk_error(&e),
            })
    }

    async fn temporary(&self) -> S3Result<Temporary> {
        let disk = Arc::clone(&self.disk);
        blocking(move || disk.temporary())
            .await?
            .map_err(|e| disk_error(&e))
    }

    async fn commit(
        &self,
        bucket: Arc<Bucket>,
        temporary: Temporary,
        metadata: Metadata,
        precondition: Precondition,
    ) -> S3Result {
        blocking(move || bucket.commit(temporary, &metadata, &precondition))
            .await?
            .map_err(|e| write_error(&e))
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = req.input.bucket;
        if !s3s::path::check_bucket_name(&name) {
            return Err(s3_error!(InvalidBucketName, "not a bucket name"));
        }
        let location = format!("/{name}");
        let disk = Arc::clone(&self.disk);
        let made = blocking(move || disk.create_bucket(&name)).await?;
        if !made.map_err(|e| disk_error(&e))? {
            return Err(s3_error!(BucketAlreadyOwnedByYou, "the bucket exists"));
        }
        let mut output = CreateBucketOutput::default();
        output.location = Some(location);
        Ok(S3Response::new(output))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let names = self.disk.bucket_names().into_iter();
        let buckets = names.map(|name| s3s::dto::Bucket {
            name: Some(name),
            ..Default::default()
        });
        let mut output = ListBucketsOutput::default();
        output.buckets = Some(buckets.collect());
        Ok(S3Response::new(output))
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.bucket(&req.input.bucket)?;
        let disk = Arc::clone(&self.disk);
        let deleted = blocking(move || disk.delete_bucket(&req.input.bucket)).await?;
        deleted.map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty => s3_error!(BucketNotEmpty, "it holds objects"),
            _ => disk_error(&e),
        })?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        check_key(&input.key)?;
        let bucket = self.bucket(&input.bucket)?;
        let precondition = precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let mut metadata = described!(input);
        let mut promise = Promise {
            bytes: promised_length(input.content_length)?,
            md5: input.content_md5.clone(),
            checksums: checksums!(input),
            trailing: Vec::new(),
        };
        promise.expect_trailers(&req.headers);
        let temporary = self.temporary().await?;
        let received = receive(
            temporary,
            input.body,
            promise,
            req.trailing_headers,
            self.max_object_bytes,
            self.idle,
        )
        .await?;
        metadata.bytes = received.bytes;
        metadata.etag = hex(&received.md5);
        metadata.modified = now();
        metadata.checksums = received.checksums;
        let mut output = PutObjectOutput::default();
        output.e_tag = Some(metadata.etag());
        set_checksums!(output, metadata.checksums);
        self.commit(bucket, received.temporary, metadata, precondition)
            .await?;
        Ok(S3Response::new(output))
    }

    /// Browser forms are not served.
    async fn post_object(
        &self,
        _req: S3Request<PostObjectInput>,
    ) -> S3Result<S3Response<PostObjectOutput>> {
        Err(s3_error!(NotImplemented, "forms are not taken"))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let (file, metadata) = self.open(&input.bucket, &input.key).await?;
        conditions::Read {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        }
        .check(&metadata)?;
        let mut output = GetObjectOutput::default();
        let range = match input.range {
            Some(range) => {
                let range = range
                    .check(metadata.bytes)
                    .map_err(|_| s3_error!(InvalidRange, "beyond the object's end"))?;
                let (first, last) = (range.start, range.end.saturating_sub(1));
                output.content_range = Some(format!("bytes {first}-{last}/{}", metadata.bytes));
                range
            }
            None => 0..metadata.bytes,
        };
        let whole = range.end - range.start == metadata.bytes;
        describe!(output, metadata, whole && input.checksum_mode.is_some());
        output.content_length = i64::try_from(range.end - range.start).ok();
        let body = FileRange::new(file, range.start, range.end);
        output.body = Some(StreamingBlob::new(body));
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let (_, metadata) = self.open(&input.bucket, &input.key).await?;
        conditions::Read {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        }
        .check(&metadata)?;
        let mut output = HeadObjectOutput::default();
        describe!(output, metadata, input.checksum_mode.is_some());
        output.content_length = i64::try_from(metadata.bytes).ok();
        Ok(S3Response::new(output))
    }

    async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(
                NotImplemented,
                "only bucket/key can be copied from"
            ));
        };
        check_key(&input.key)?;
        let target = self.bucket(&input.bucket)?;
        let (mut file, source) = self.open(bucket, key).await?;
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|d| d.as_str() == MetadataDirective::REPLACE);
        let mut metadata = if replace {
            described!(input)
        } else {
            source.clone()
        };
        metadata.key = input.key.clone();
        metadata.bytes = source.bytes;
        metadata.etag = source.etag;
        metadata.checksums = source.checksums;
        metadata.modified = now();
        let mut result = CopyObjectResult::default();
        result.e_tag = Some(metadata.etag());
        result.last_modified = Some(metadata.modified().into());
        let mut temporary = self.temporary().await?;
        let copy = move || {
            use std::io::Read;
            let copied = io::copy(&mut (&mut file).take(source.bytes), &mut temporary.file)?;
            if copied == source.bytes {
                Ok(temporary)
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof))
            }
        };
        let temporary = blocking(copy).await?.map_err(|e| disk_error(&e))?;
        self.commit(target, temporary, metadata, Precondition::None)
            .await?;
        let mut output = CopyObjectOutput::default();
        output.copy_object_result = Some(result);
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let bucket = self.bucket(&req.input.bucket)?;
        let key = check_key(&req.input.key)?.to_owned();
        blocking(move || {
            bucket
                .delete(&[key])?
                .into_iter()
                .collect::<io::Result<()>>()
        })
        .await?
        .map_err(|e| disk_error(&e))?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let bucket = self.bucket(&req.input.bucket)?;
        let quiet = req.input.delete.quiet.unwrap_or(false);
        let keys: Vec<String> = req
            .input
            .delete
            .objects
            .into_iter()
            .map(|o| o.key)
            .collect();
        if keys.len() > 1000 {
            return Err(s3_error!(MalformedXML, "at most 1000 keys"));
        }
        let asked = keys.clone();
        let results = blocking(move || bucket.delete(&asked))
            .await?
            .map_err(|e| disk_error(&e))?;
        let mut output = DeleteObjectsOutput::default();
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, result) in keys.into_iter().zip(results) {
            match result {
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(key),
                    ..Default::default()
                }),
                Err(e) => {
                    let refusal = disk_error(&e);
                    errors.push(Error {
                        key: Some(key),
                        code: Some(refusal.code().as_str().to_owned()),
                        message: refusal.message().map(str::to_owned),
                        ..Default::default()
                    });
                }
            }
        }
        output.deleted = (!quiet).then_some(deleted);
        output.errors = (!errors.is_empty()).then_some(errors);
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        let query = Query::of(&input)?;
        let page = blocking(move || bucket.with_index(|index| page(index, &query)))
            .await?
            .map_err(|e| disk_error(&e))?;
        Ok(S3Response::new(page.answer(input)))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        check_key(&input.key)?;
        self.bucket(&input.bucket)?;
        let id = self
            .uploads
            .begin(input.bucket.clone(), described!(input))?;
        let mut output = CreateMultipartUploadOutput::default();
        output.upload_id = Some(id);
        output.checksum_algorithm = input.checksum_algorithm;
        output.checksum_type = input.checksum_type;
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        Ok(S3Response::new(output))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let (id, bucket, key) = (&input.upload_id, &input.bucket, &input.key);
        if !(1..=MOST_PARTS).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "part numbers go from 1 to 10000"
            ));
        }
        let number = input.part_number;
        let room = self
            .uploads
            .room(id, bucket, key, number, self.max_object_bytes)?;
        let mut promise = Promise {
            bytes: promised_length(input.content_length)?,
            md5: input.content_md5.clone(),
            checksums: checksums!(input),
            trailing: Vec::new(),
        };
        promise.expect_trailers(&req.headers);
        let temporary = self.temporary().await?;
        let trailers = req.trailing_headers;
        let received = receive(temporary, input.body, promise, trailers, room, self.idle).await?;
        let part = self.uploads.add(id, bucket, key, number, received)?;
        let mut output = UploadPartOutput::default();
        output.e_tag = Some(ETag::Strong(part.etag()));
        set_checksums!(output, part.checksums);
        Ok(S3Response::new(output))
    }

    async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let parts = self
            .uploads
            .parts(&input.upload_id, &input.bucket, &input.key)?;
        let after = input
            .part_number_marker
            .as_ref()
            .and_then(|m| m.to_string().parse().ok())
            .unwrap_or(0);
        let most = usize::try_from(input.max_parts.unwrap_or(MOST_LISTED).clamp(1, MOST_LISTED))
            .unwrap_or(1);
        let mut rest = parts.into_iter().filter(|(number, _)| *number > after);
        let told: Vec<_> = rest
            .by_ref()
            .take(most)
            .map(|(number, part)| {
                let mut line = Part::default();
                line.part_number = Some(number);
                line.size = i64::try_from(part.bytes).ok();
                line.e_tag = Some(ETag::Strong(part.etag()));
                line.last_modified = Some(part.modified.into());
                set_checksums!(line, part.checksums);
                line
            })
            .collect();
        let mut output = ListPartsOutput::default();
        let more = rest.next().is_some();
        output.is_truncated = Some(more);
        if more {
            output.next_part_number_marker = told.last().and_then(|l| l.part_number);
        }
        output.parts = Some(told);
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        output.upload_id = Some(input.upload_id);
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let (id, name, key) = (&input.upload_id, &input.bucket, &input.key);
        let bucket = self.bucket(name)?;
        let precondition = precondition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let named = input
            .multipart_upload
            .and_then(|u| u.parts)
            .unwrap_or_default();
        let named: Vec<Named> = named
            .into_iter()
            .map(|part| Named {
                number: part.part_number.unwrap_or_default(),
                checksums: checksums!(part),
                etag: part.e_tag.map(ETag::into_value).unwrap_or_default(),
            })
            .collect();
        let (mut metadata, parts) = self.uploads.chosen(id, name, key, &named)?;
        if parts.iter().map(|part| part.bytes).sum::<u64>() > self.max_object_bytes {
            return Err(s3_error!(EntityTooLarge, "the parts are too much together"));
        }
        let target = self.temporary().await?;
        let (temporary, bytes, etag) = blocking(move || join(&parts, target))
            .await?
            .map_err(|e| disk_error(&e))?;
        metadata.bytes = bytes;
        metadata.etag = etag;
        metadata.modified = now();
        let mut output = CompleteMultipartUploadOutput::default();
        output.e_tag = Some(metadata.etag());
        self.commit(bucket, temporary, metadata, precondition)
            .await?;
        // Another request may have ended it meanwhile: the object is there either way.
        let _ = self.uploads.end(id, name, key);
        output.location = Some(format!("/{name}/{key}"));
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        self.uploads
            .end(&input.upload_id, &input.bucket, &input.key)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// Runs work on the disk where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(blocking_failed)
}

fn write_error(error: &WriteError) -> S3Error {
    match error {
        WriteError::Precondition => s3_error!(PreconditionFailed, "the condition does not hold"),
        WriteError::Io(error) => disk_error(error),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
}
