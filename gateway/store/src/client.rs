//! One site's bucket, through the official S3 client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_http_client::tls;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use crate::error::{innermost, without_query};
use crate::{Credentials, Objects, Pieces, Reader, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transfer that moves nothing for so long counts as broken.
const STALL: Duration = Duration::from_secs(30);
/// The longest life S3 allows a presigned URL.
const LONGEST_PRESIGN: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most keys one DeleteObjects takes.
const DELETE_BATCH: usize = 1000;

/// Where a store is and how to talk to it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The S3 endpoint (`http://` or `https://`); `None` is Amazon's for the region.
    pub endpoint: Option<String>,
    /// The endpoint that presigned URLs name, when pods reach the store by another address.
    pub presign_endpoint: Option<String>,
    /// The region requests are signed for; most stores outside Amazon take any.
    pub region: String,
    /// The bucket; created by [`Store::connect`] where it is absent.
    pub bucket: String,
    /// The key pair.
    pub credentials: Credentials,
    /// `http://host/bucket/key` rather than `http://bucket.host/key`.
    pub path_style: bool,
    /// Send and check checksums wherever S3 allows; `false` for stores that know only some.
    pub checksums: bool,
    /// Root certificates (PEM) trusted beside the system's, for `https` endpoints.
    pub ca_pem: Option<Vec<u8>>,
}

impl StoreOptions {
    /// Options for an [`Embedded`](crate::Embedded) server.
    pub fn embedded(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        credentials: Credentials,
    ) -> Self {
        Self {
            endpoint: Some(endpoint.into()),
            presign_endpoint: None,
            region: "us-east-1".to_owned(),
            bucket: bucket.into(),
            credentials,
            path_style: true,
            checksums: true,
            ca_pem: None,
        }
    }
}

/// One bucket of one store. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    way: Way,
    bucket: String,
    endpoint: String,
}

/// How its objects are reached.
#[derive(Debug)]
enum Way {
    S3 { client: Client, presigner: Client },
    Elsewhere(Arc<dyn Objects>),
}

/// What is known about an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length in bytes.
    pub bytes: u64,
    /// The media type it was stored with.
    pub content_type: String,
    /// When it was stored.
    pub modified: SystemTime,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// Length in bytes.
    pub bytes: u64,
    /// When it was stored.
    pub modified: SystemTime,
}

/// An object being read.
#[derive(Debug)]
pub struct Object {
    /// Length in bytes.
    pub bytes: u64,
    /// The media type it was stored with.
    pub content_type: String,
    /// The bytes, as they come.
    pub body: ObjectBody,
}

impl Store {
    /// Connects to a bucket, and creates it where it is absent.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], [`StoreError::Denied`], or what the store answers when it
    /// cannot create the bucket.
    pub async fn connect(options: StoreOptions) -> Result<Self, StoreError> {
        let client = client(&options, options.endpoint.as_deref())?;
        let presigner = match &options.presign_endpoint {
            Some(endpoint) => self::client(&options, Some(endpoint))?,
            None => client.clone(),
        };
        let endpoint = options
            .endpoint
            .unwrap_or_else(|| format!("s3 in {}", options.region));
        let store = Self {
            inner: Arc::new(Inner {
                way: Way::S3 { client, presigner },
                bucket: options.bucket,
                endpoint,
            }),
        };
        store.ensure_bucket(&options.region).await?;
        Ok(store)
    }

    /// A store that is reached by something else than S3.
    pub fn elsewhere(objects: Arc<dyn Objects>) -> Self {
        Self {
            inner: Arc::new(Inner {
                bucket: "objects".to_owned(),
                endpoint: objects.endpoint().to_owned(),
                way: Way::Elsewhere(objects),
            }),
        }
    }

    /// What it is reached by, where that is not S3.
    pub(crate) fn objects(&self) -> Option<&dyn Objects> {
        match &self.inner.way {
            Way::S3 { .. } => None,
            Way::Elsewhere(objects) => Some(&**objects),
        }
    }

    async fn ensure_bucket(&self, region: &str) -> Result<(), StoreError> {
        use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
        let what = || format!("bucket {}", self.bucket());
        let head = self
            .client()?
            .head_bucket()
            .bucket(self.bucket())
            .send()
            .await;
        match head.map_err(|e| StoreError::from_sdk(what(), self.endpoint(), e)) {
            Ok(_) => return Ok(()),
            Err(StoreError::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        // Amazon's first region is the one that must not be named.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let created = self
            .client()?
            .create_bucket()
            .bucket(self.bucket())
            .set_create_bucket_configuration(place)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error().is_some_and(|s| {
                    s.is_bucket_already_owned_by_you() || s.is_bucket_already_exists()
                }) =>
            {
                Ok(())
            }
            Err(e) => Err(StoreError::from_sdk(what(), self.endpoint(), e)),
        }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    pub(crate) fn client(&self) -> Result<&Client, StoreError> {
        match &self.inner.way {
            Way::S3 { client, .. } => Ok(client),
            Way::Elsewhere(_) => Err(self.no_s3()),
        }
    }

    fn presigner(&self) -> Result<&Client, StoreError> {
        match &self.inner.way {
            Way::S3 { presigner, .. } => Ok(presigner),
            Way::Elsewhere(_) => Err(self.no_s3()),
        }
    }

    fn no_s3(&self) -> StoreError {
        StoreError::other(self.endpoint(), "this is not done over the gateway's HTTP")
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    fn body(&self, source: Source) -> ObjectBody {
        ObjectBody {
            source,
            endpoint: self.endpoint().to_owned(),
        }
    }

    /// The error for a failed operation on one key.
    pub(crate) fn error<E>(
        &self,
        key: &str,
        error: aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
    ) -> StoreError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        StoreError::from_sdk(format!("{}/{key}", self.bucket()), self.endpoint(), error)
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn get(&self, key: &str) -> Result<Object, StoreError> {
        if let Some(objects) = self.objects() {
            let found = objects.get(key, None).await?;
            return Ok(Object {
                bytes: found.bytes,
                content_type: found.content_type,
                body: self.body(Source::Pieces(found.pieces)),
            });
        }
        let got = self
            .client()?
            .get_object()
            .bucket(self.bucket())
            .key(key)
            .send()
            .await
            .map_err(|e| self.error(key, e))?;
        let bytes = length(got.content_length);
        Ok(Object {
            bytes,
            content_type: got.content_type.unwrap_or_else(unknown_type),
            body: self.body(Source::S3(got.body)),
        })
    }

    /// Reads `length` bytes from `offset` on; fewer at the object's end, none beyond it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such object.
    pub async fn get_range(
        &self,
        key: &str,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, StoreError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        if let Some(objects) = self.objects() {
            let found = objects.get(key, Some((offset, length))).await?;
            return self
                .body(Source::Pieces(found.pieces))
                .collect(length)
                .await;
        }
        let last = offset.saturating_add(length - 1);
        let got = self
            .client()?
            .get_object()
            .bucket(self.bucket())
            .key(key)
            .range(format!("bytes={offset}-{last}"))
            .send()
            .await;
        match got {
            Ok(got) => self.body(Source::S3(got.body)).collect(length).await,
            Err(e) if e.raw_response().is_some_and(|r| r.status().as_u16() == 416) => {
                Ok(Bytes::new())
            }
            Err(e) => Err(self.error(key, e)),
        }
    }

    /// What is known about an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn head(&self, key: &str) -> Result<Option<Head>, StoreError> {
        if let Some(objects) = self.objects() {
            return Ok(objects.head(key).await?.map(crate::elsewhere::head));
        }
        let head = self
            .client()?
            .head_object()
            .bucket(self.bucket())
            .key(key)
            .send()
            .await;
        match head.map_err(|e| self.error(key, e)) {
            Ok(head) => Ok(Some(Head {
                bytes: length(head.content_length),
                content_type: head.content_type.unwrap_or_else(unknown_type),
                modified: time(head.last_modified),
            })),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Removes an object; that it is not there is fine.
    ///
    /// # Errors
    /// When the store cannot remove it.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if let Some(objects) = self.objects() {
            return objects.delete(key).await;
        }
        self.client()?
            .delete_object()
            .bucket(self.bucket())
            .key(key)
            .send()
            .await
            .map(|_| ())
            .map_err(|e| self.error(key, e))
    }

    /// All objects whose key begins with `prefix`, in the order of their keys' bytes.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut pages = self
            .client()?
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| self.error(prefix, e))?;
            for object in page.contents.unwrap_or_default() {
                let Some(key) = object.key else { continue };
                listed.push(Listed {
                    key,
                    bytes: length(object.size),
                    modified: time(object.last_modified),
                });
            }
        }
        Ok(listed)
    }

    /// A URL that reads the object without credentials until it expires (at most 7 days).
    /// Its query string is a secret: keep it out of logs.
    ///
    /// # Errors
    /// When `expires` is zero or the key cannot be signed.
    pub async fn presign_get(&self, key: &str, expires: Duration) -> Result<String, StoreError> {
        if let Some(objects) = self.objects() {
            return objects.presign(key, false, expires).await;
        }
        let request = self
            .presigner()?
            .get_object()
            .bucket(self.bucket())
            .key(key)
            .presigned(presigning(expires)?)
            .await
            .map_err(|e| self.error(key, e))?;
        Ok(request.uri().to_owned())
    }

    /// A URL that writes the object without credentials until it expires (at most 7 days).
    /// Its query string is a secret: keep it out of logs.
    ///
    /// # Errors
    /// When `expires` is zero or the key cannot be signed.
    pub async fn presign_put(&self, key: &str, expires: Duration) -> Result<String, StoreError> {
        if let Some(objects) = self.objects() {
            return objects.presign(key, true, expires).await;
        }
        let request = self
            .presigner()?
            .put_object()
            .bucket(self.bucket())
            .key(key)
            .presigned(presigning(expires)?)
            .await
            .map_err(|e| self.error(key, e))?;
        Ok(request.uri().to_owned())
    }

    /// Blocking ranged reads of an object of `bytes` bytes, for a zip's directory. Must be made
    /// inside a runtime and used outside of its async threads (`spawn_blocking`).
    pub fn reader(&self, key: &str, bytes: u64) -> Reader {
        Reader::new(self.clone(), key.to_owned(), bytes)
    }

    /// Removes the objects under `prefix` that were stored longer than `older_than` ago, and says
    /// how many they were: none of a store elsewhere, whose own gateway does that.
    ///
    /// # Errors
    /// When the store cannot list or delete; what was removed until then stays removed.
    pub async fn expire(&self, prefix: &str, older_than: Duration) -> Result<usize, StoreError> {
        if self.objects().is_some() {
            return Ok(0);
        }
        let now = SystemTime::now();
        let old: Vec<_> = self
            .list(prefix)
            .await?
            .into_iter()
            // A time in the future is a clock's fault, not old age.
            .filter(|o| {
                now.duration_since(o.modified)
                    .is_ok_and(|age| age > older_than)
            })
            .collect();
        let mut removed = 0;
        for batch in old.chunks(DELETE_BATCH) {
            let keys = batch
                .iter()
                .map(|o| ObjectIdentifier::builder().key(&o.key).build())
                .collect::<Result<Vec<_>, _>>()
                .and_then(|keys| {
                    Delete::builder()
                        .set_objects(Some(keys))
                        .quiet(true)
                        .build()
                })
                .map_err(|e| StoreError::other("expire", e))?;
            let answer = self
                .client()?
                .delete_objects()
                .bucket(self.bucket())
                .delete(keys)
                .send()
                .await
                .map_err(|e| self.error(prefix, e))?;
            let failed = answer.errors.unwrap_or_default();
            if let Some(first) = failed.first() {
                let cause = first.message.clone().unwrap_or_default();
                return Err(StoreError::other(
                    format!("{} of {} objects not expired", failed.len(), batch.len()),
                    cause,
                ));
            }
            removed += batch.len();
        }
        Ok(removed)
    }
}

/// The bytes of an object, as they come.
#[derive(Debug)]
pub struct ObjectBody {
    source: Source,
    endpoint: String,
}

/// Where the bytes come from.
enum Source {
    S3(ByteStream),
    Pieces(Pieces),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::S3(_) => "S3",
            Self::Pieces(_) => "Pieces",
        })
    }
}

impl ObjectBody {
    /// All bytes at once, for small objects.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond `limit` bytes; otherwise as the stream.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, StoreError> {
        let mut all = BytesMut::new();
        let mut first = Bytes::new();
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_next(cx)).await {
            let chunk = chunk?;
            if (first.len() + all.len() + chunk.len()) as u64 > limit {
                return Err(StoreError::TooLarge { limit });
            }
            if first.is_empty() && all.is_empty() {
                first = chunk;
                continue;
            }
            if !first.is_empty() {
                all.extend_from_slice(&first);
                first = Bytes::new();
            }
            all.extend_from_slice(&chunk);
        }
        Ok(if first.is_empty() {
            all.freeze()
        } else {
            first
        })
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match &mut self.source {
            Source::S3(stream) => ready!(Pin::new(stream).poll_next(cx)),
            Source::Pieces(pieces) => return pieces.as_mut().poll_next(cx),
        };
        Poll::Ready(next.map(|chunk| {
            chunk.map_err(|e| StoreError::Unreachable {
                endpoint: without_query(&self.endpoint),
                cause: without_query(&innermost(&e)),
            })
        }))
    }
}

fn client(options: &StoreOptions, endpoint: Option<&str>) -> Result<Client, StoreError> {
    let mut trust = tls::TrustStore::default();
    if let Some(pem) = &options.ca_pem {
        trust = trust.with_pem_certificate(pem.clone());
    }
    let http = if endpoint.is_some_and(|e| e.starts_with("http://")) {
        aws_smithy_http_client::Builder::new().build_http()
    } else {
        let context = tls::TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|e| StoreError::other("TLS", e))?;
        aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::Ring,
            ))
            .tls_context(context)
            .build_https()
    };
    let keys = aws_sdk_s3::config::Credentials::new(
        options.credentials.access_key(),
        options.credentials.secret_key(),
        None,
        None,
        "stoic",
    );
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(options.region.clone()))
        .credentials_provider(keys)
        .force_path_style(options.path_style)
        .http_client(http)
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build(),
        )
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(STALL)
                .build(),
        );
    if !options.checksums {
        config = config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    if let Some(endpoint) = endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(StoreError::other(
                "endpoint",
                format!("{endpoint} must begin with http:// or https://"),
            ));
        }
        config = config.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(config.build()))
}

fn presigning(expires: Duration) -> Result<PresigningConfig, StoreError> {
    PresigningConfig::expires_in(expires.min(LONGEST_PRESIGN))
        .map_err(|e| StoreError::other("presign", e))
}

fn length(length: Option<i64>) -> u64 {
    length.and_then(|l| u64::try_from(l).ok()).unwrap_or(0)
}

fn time(at: Option<DateTime>) -> SystemTime {
    at.and_then(|t| SystemTime::try_from(t).ok())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn unknown_type() -> String {
    "application/octet-stream".to_owned()
}
