//! A small object store: GET with ranges, PUT, and objects that misbehave by name.

use super::Answer;
use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked of the store.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<Range<usize>>,
}

#[derive(Default)]
struct Contents {
    objects: HashMap<String, Vec<u8>>,
    asked: Vec<Asked>,
    flaky: u32,
}

/// A store on a port of its own. It lasts until the test process ends.
///
/// Paths that begin with `/denied` answer 403, `/no-ranges` ignores ranges, `/flaky` answers 503
/// twice, `/broken` sends half of each range behind the first 100 KiB and closes, `/slow` takes
/// 300 ms for each answer.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
}

impl Store {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: listener.local_addr().unwrap(),
            contents: Arc::default(),
        };
        let this = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream));
            }
        });
        store
    }

    /// Keeps an object; its URL, with a secret as presigned ones have.
    pub(crate) fn keep(&self, path: &str, bytes: &[u8]) -> String {
        let mut contents = self.contents.lock().unwrap();
        contents.objects.insert(path.to_owned(), bytes.to_vec());
        self.url(path)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}?X-Amz-Signature=SECRET", self.address)
    }

    pub(crate) fn object(&self, path: &str) -> Option<Vec<u8>> {
        self.contents.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.contents.lock().unwrap().asked.clone()
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            // A request's head reads like an answer's, but for its first line.
            let mut first = String::new();
            std::io::BufRead::read_line(&mut reader, &mut first).ok()?;
            let mut words = first.split(' ');
            let (verb, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            let path = target.split('?').next()?.to_owned();
            let mut head = std::io::Cursor::new(b"HTTP/1.1 200 OK\r\n".to_vec()).chain(&mut reader);
            let head = Answer::read_head(&mut head)?;
            let length = head
                .header("content-length")
                .map_or(0, |l| l.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            if path.starts_with("/slow") {
                std::thread::sleep(Duration::from_millis(300));
            }
            let range = head.header("range").map(|range| {
                let (start, end) = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .split_once('-')
                    .unwrap();
                start.parse().unwrap()..end.parse::<usize>().unwrap() + 1
            });
            let start = range.as_ref().map(|range| range.start);
            let (status, extra, bytes) = self.answer(&verb, &path, range, body);
            let mut answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}\r\n",
                bytes.len()
            )
            .into_bytes();
            let early = start.is_some_and(|start: usize| start < 100 << 10);
            let broken = path.starts_with("/broken") && early;
            answer.extend_from_slice(if broken {
                &bytes[..bytes.len() / 2]
            } else {
                &bytes
            });
            stream.write_all(&answer).ok()?;
            if broken {
                return None;
            }
        }
    }

    fn answer(
        &self,
        verb: &str,
        path: &str,
        range: Option<Range<usize>>,
        body: Vec<u8>,
    ) -> (&'static str, String, Vec<u8>) {
        let none = || (String::new(), Vec::new());
        let refused = |status| {
            let (extra, bytes) = none();
            (status, extra, bytes)
        };
        let mut contents = self.contents.lock().unwrap();
        contents.asked.push(Asked {
            path: path.to_owned(),
            range: range.clone(),
        });
        if path.starts_with("/denied") {
            return refused("403 Forbidden");
        }
        if path.starts_with("/flaky") && contents.flaky < 2 {
            contents.flaky += 1;
            return refused("503 Slow Down");
        }
        if verb == "PUT" {
            contents.objects.insert(path.to_owned(), body);
            return refused("200 OK");
        }
        let Some(object) = contents.objects.get(path) else {
            return refused("404 Not Found");
        };
        match range {
            Some(range) if !path.starts_with("/no-ranges") => {
                let extra = format!(
                    "content-range: bytes {}-{}/{}\r\n",
                    range.start,
                    range.end - 1,
                    object.len()
                );
                ("206 Partial Content", extra, object[range].to_vec())
            }
            _ => ("200 OK", String::new(), object.clone()),
        }
    }
}
