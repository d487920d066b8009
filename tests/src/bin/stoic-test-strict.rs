//! A pod that works one request at a time and says so when two are sent: `500 two at once`. A plain HTTP
//! server with no part of this project in it, as any container's may be.
//!
//! Answers a request with its body. `?delay=5` works for so many milliseconds, `/first` counts first
//! requests, `/count` tells how many requests were worked and how many first ones, without being one.
//! Environment: `PORT`; `FAIL_FIRST=1` answers `/first` with 503; `START_DELAY` is in milliseconds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static INSIDE: AtomicU64 = AtomicU64::new(0);
static WORKED: AtomicU64 = AtomicU64::new(0);
static FIRST: AtomicU64 = AtomicU64::new(0);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn main() -> std::io::Result<()> {
    std::thread::sleep(Duration::from_millis(number("START_DELAY").unwrap_or(0)));
    let port = number("PORT").and_then(|port| u16::try_from(port).ok());
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(8080)))?;
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// Requests on one connection, until it ends.
fn serve(stream: TcpStream) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            chunked |= header.starts_with("transfer-encoding:");
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).ok()?;
                let at = body.len();
                body.resize(at + size, 0);
                reader.read_exact(&mut body[at..]).ok()?;
                let mut end = String::new();
                reader.read_line(&mut end).ok()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        let (status, body) = answer(&path, body);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

fn answer(path: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
    match path {
        "/healthz" => return ("200 OK", Vec::new()),
        "/count" => {
            let (worked, first) = (&WORKED, &FIRST);
            let text = format!(
                "{} {}",
                worked.load(Ordering::SeqCst),
                first.load(Ordering::SeqCst)
            );
            return ("200 OK", text.into_bytes());
        }
        "/first" => {
            FIRST.fetch_add(1, Ordering::SeqCst);
            return match number("FAIL_FIRST") {
                Some(_) => ("503 Service Unavailable", Vec::new()),
                None => ("200 OK", Vec::new()),
            };
        }
        _ => {}
    }
    let alone = INSIDE.fetch_add(1, Ordering::SeqCst) == 0;
    WORKED.fetch_add(1, Ordering::SeqCst);
    if let Some((_, delay)) = path.split_once("?delay=") {
        std::thread::sleep(Duration::from_millis(delay.parse().unwrap_or(0)));
    }
    // Before the answer is written: whoever has it may send the next at once.
    let alone = INSIDE.fetch_sub(1, Ordering::SeqCst) == 1 && alone;
    match alone {
        true => ("200 OK", body),
        false => ("500 Internal Server Error", b"two at once".to_vec()),
    }
}
