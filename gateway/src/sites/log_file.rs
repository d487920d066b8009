//! Output of pods that is kept in files.

use super::{LogAsk, LogStream};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// Read at once.
const PIECE: usize = 64 << 10;
/// How often a file that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Gives a file's last lines and, if asked, what is added to it until the stream is dropped; none
/// where there is no such file.
pub(super) fn open(path: &Path, ask: LogAsk) -> std::io::Result<Option<LogStream>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let from = match ask.tail {
        Some(lines) => begin_of_tail(&mut file, lines)?,
        None => 0,
    };
    file.seek(SeekFrom::Start(from))?;
    let pieces = stream::try_unfold(file, move |mut file| async move {
        loop {
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece)?;
            if count > 0 {
                piece.truncate(count);
                return Ok(Some((Bytes::from(piece), file)));
            }
            if !ask.follow {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    Ok(Some(pieces.boxed()))
}

/// Where the last `lines` lines begin. Reads from the end, so that a log of any length costs what its
/// tail costs.
fn begin_of_tail(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut wanted = lines;
    let mut block = vec![0; PIECE];
    while end > 0 {
        let from = end.saturating_sub(PIECE as u64);
        let part = &mut block[..usize::try_from(end - from).unwrap_or(PIECE)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let place = from + at as u64;
            // The line end at the very end closes the last line and begins none.
            if *byte == b'\n' && place + 1 < length {
                if wanted <= 1 {
                    return Ok(if wanted == 0 { length } else { place + 1 });
                }
                wanted -= 1;
            }
        }
        end = from;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn tail(text: &str, lines: u64) -> String {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("writes");
        let ask = LogAsk {
            tail: Some(lines),
            follow: false,
        };
        let stream = open(file.path(), ask).expect("reads").expect("is there");
        let pieces: Vec<_> = stream.collect().await;
        let bytes: Vec<u8> = pieces
            .into_iter()
            .flat_map(|piece| piece.expect("reads"))
            .collect();
        String::from_utf8(bytes).expect("text")
    }

    #[tokio::test]
    async fn the_last_lines_are_given_whatever_ends_the_file() {
        for (text, lines, wanted) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 0, ""),
            ("a\n", 5, "a\n"),
            ("", 5, ""),
            ("\n\n\n", 1, "\n"),
        ] {
            assert_eq!(tail(text, lines).await, wanted, "{text:?} {lines}");
        }
        let long: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(tail(&long, 20_000).await.lines().count(), 20_000);
        assert!(tail(&long, 20_000).await.starts_with("line 30000\n"));
    }

    #[tokio::test]
    async fn a_file_that_is_followed_gives_what_is_added() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "first").expect("writes");
        let ask = LogAsk {
            tail: None,
            follow: true,
        };
        let mut stream = open(file.path(), ask).expect("reads").expect("is there");
        let piece = stream.next().await.expect("one").expect("reads");
        assert_eq!(&piece[..], b"first\n");
        writeln!(file, "second").expect("writes");
        let piece = stream.next().await.expect("one more").expect("reads");
        assert_eq!(&piece[..], b"second\n");
    }
}
