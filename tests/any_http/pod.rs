//! A plain HTTP server that knows nothing of STOIC, as anybody's container holds one: it listens on
//! `$PORT`, is healthy at `$HEALTH` alone, and shows what it was sent, byte for byte. Some paths do what
//! servers in the field do: stream, upgrade, hang, break off, close connections without a word.
//!
//! With `$SPEAKS=h2c` it speaks HTTP/2 alone, as gRPC servers do.

#![allow(clippy::unwrap_used)]

mod h2c;

use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime};

/// Set by `/fill`: everything but the health path is answered 429.
static FULL: AtomicBool = AtomicBool::new(false);
/// What streams wait for: `/release` raises it.
static RELEASED: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

fn env(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn main() {
    let port: u16 = env("PORT", "8080").parse().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    if env("SPEAKS", "http1") == "h2c" {
        return h2c::serve(listener, env("HEALTH", "/healthz"));
    }
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let _ = serve(stream);
        });
    }
}

/// A request as it came.
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let headers = fields(reader)?;
        let line = line.trim_end().to_owned();
        Ok(Some(Self { line, headers }))
    }

    fn header(&self, name: &str) -> &str {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }
}

/// Lines `name: value` up to an empty one; names in lower case.
fn fields(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        let line: String = line.iter().map(|byte| char::from(*byte)).collect();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(all);
        };
        all.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

/// The next chunk; empty at the end.
fn chunk(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
    let mut bytes = vec![0; size];
    reader.read_exact(&mut bytes)?;
    if size > 0 {
        reader.read_exact(&mut [0; 2])?;
    }
    Ok(bytes)
}

fn write_chunk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut piece = format!("{:x}\r\n", bytes.len()).into_bytes();
    piece.extend_from_slice(bytes);
    piece.extend_from_slice(b"\r\n");
    stream.write_all(&piece)
}

/// Waits until `/release` was called once more.
fn wait_for_release() {
    let mut released = RELEASED.0.lock().unwrap();
    let before = *released;
    while *released == before {
        released = RELEASED.1.wait(released).unwrap();
    }
}

fn now_ns() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_nanos()
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let health = env("HEALTH", "/healthz");
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(asked) = Asked::read(&mut reader)? {
        let path = asked.target().split('?').next().unwrap_or("").to_owned();
        if asked.header("upgrade") == "websocket" {
            return websocket(stream, &asked);
        }
        let direct = asked.line.starts_with("GET") && asked.header("x-forwarded-for").is_empty();
        if direct && path == health {
            answer(&mut stream, "200 OK", "", b"well")?;
            continue;
        }
        if direct && ["/healthz", "/_/health"].contains(&path.as_str()) {
            answer(&mut stream, "404 Not Found", "", b"not here")?;
            continue;
        }
        if FULL.load(Ordering::SeqCst) {
            let _ = body(&mut reader, &asked)?;
            answer(
                &mut stream,
                "429 Too Many Requests",
                "retry-after: 7\r\n",
                b"full",
            )?;
            continue;
        }
        match path.as_str() {
            "/talk" => talk(&mut stream, &mut reader)?,
            "/events" => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                write_chunk(&mut stream, b"data: first\n\n")?;
                wait_for_release();
                write_chunk(&mut stream, b"data: second\n\n")?;
                write_chunk(&mut stream, b"")?;
            }
            "/release" => {
                *RELEASED.0.lock().unwrap() += 1;
                RELEASED.1.notify_all();
                answer(&mut stream, "204 No Content", "", b"")?;
            }
            "/trailers" => {
                let head = "HTTP/1.1 200 OK\r\ntrailer: x-sum, x-undeclared-is-dropped\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                write_chunk(&mut stream, b"some")?;
                stream.write_all(b"0\r\nx-sum: 42\r\n\r\n")?;
            }
            "/cookies" => answer(
                &mut stream,
                "200 OK",
                "set-cookie: a=1\r\nset-cookie: b=2\r\nkeep-alive: timeout=1\r\nconnection: x-hop\r\nx-hop: 1\r\nx-latin: caf\u{e9}\r\n",
                b"",
            )?,
            "/silent" => loop {
                // Until the caller has left.
                if reader.fill_buf()?.is_empty() {
                    return Ok(());
                }
                let seen = reader.buffer().len();
                reader.consume(seen);
            },
            "/stalls" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")?;
                while reader.read(&mut [0; 64])? > 0 {}
                return Ok(());
            }
            "/garbage" => return stream.write_all(b"SSH-2.0-nothing of HTTP\r\n\r\n"),
            "/cut" => {
                return stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ntoo little");
            }
            "/old" => {
                return stream.write_all(
                    b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end",
                );
            }
            "/fill" => {
                FULL.store(true, Ordering::SeqCst);
                answer(&mut stream, "200 OK", "", b"filled")?;
            }
            "/stamp" => {
                let begun = now_ns();
                std::thread::sleep(Duration::from_millis(1));
                answer(&mut stream, "200 OK", "", format!("{begun}").as_bytes())?;
            }
            "/protocol" if asked.header("upgrade") == "stoic-test" => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: stoic-test\r\n\r\n")?;
                // Says everything again, in upper case.
                let mut piece = [0; 1024];
                loop {
                    let count = reader.read(&mut piece)?;
                    if count == 0 || piece[..count].ends_with(b"bye") {
                        return Ok(());
                    }
                    stream.write_all(&piece[..count].to_ascii_uppercase())?;
                }
            }
            _ => {
                let (body, trailers) = body(&mut reader, &asked)?;
                let shown: String = body.iter().map(|byte| char::from(*byte)).collect();
                let all = json!({"line": asked.line, "headers": asked.headers, "body": shown, "trailers": trailers});
                let status = if path == "/teapot" {
                    "418 I'm a teapot"
                } else {
                    "200 OK"
                };
                let text = all.to_string();
                let head = if asked.line.starts_with("HEAD") {
                    "x-length: 1\r\n"
                } else {
                    ""
                };
                answer(&mut stream, status, head, text.as_bytes())?;
            }
        }
        // Some servers close connections that they said they would keep.
        if env("CLOSES", "") == "yes" {
            return Ok(());
        }
    }
    Ok(())
}

/// Names and values, in order.
type Fields = Vec<(String, String)>;

/// The body of a request, and its trailers.
fn body(reader: &mut impl BufRead, asked: &Asked) -> std::io::Result<(Vec<u8>, Fields)> {
    if asked.header("transfer-encoding") == "chunked" {
        let mut all = Vec::new();
        loop {
            let piece = chunk(reader)?;
            if piece.is_empty() {
                return Ok((all, fields(reader)?));
            }
            all.extend(piece);
        }
    }
    let length = asked.header("content-length").parse().unwrap_or(0);
    let mut all = vec![0; length];
    reader.read_exact(&mut all)?;
    Ok((all, Vec::new()))
}

fn answer(stream: &mut TcpStream, status: &str, head: &str, body: &[u8]) -> std::io::Result<()> {
    let head: Vec<u8> = head.chars().map(|c| c as u8).collect();
    let mut all = format!("HTTP/1.1 {status}\r\n").into_bytes();
    all.extend_from_slice(&head);
    if !status.starts_with("204") {
        all.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    all.extend_from_slice(b"\r\n");
    // A head with `x-length` is the answer to HEAD: it has no body.
    if !head.starts_with(b"x-length") {
        all.extend_from_slice(body);
    }
    stream.write_all(&all)
}

/// Says each chunk again as soon as it came.
fn talk(stream: &mut TcpStream, reader: &mut impl BufRead) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        let piece = chunk(reader)?;
        write_chunk(stream, &piece)?;
        if piece.is_empty() {
            let _ = fields(reader)?;
            return Ok(());
        }
    }
}

/// A websocket that says each message again, and names the protocol that was asked for.
fn websocket(mut stream: TcpStream, asked: &Asked) -> std::io::Result<()> {
    use tungstenite::handshake::derive_accept_key;
    use tungstenite::protocol::{Role, WebSocket};
    let accept = derive_accept_key(asked.header("sec-websocket-key").as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        if message.is_text() && message.to_text().unwrap() == "leave" {
            return Ok(());
        }
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            break;
        }
    }
    Ok(())
}
