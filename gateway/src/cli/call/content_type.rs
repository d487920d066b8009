//! What a file is, for its `content-type`: by its extension, else by its first bytes.

use std::path::Path;

/// First bytes that tell what a file is; a tar shows itself at 257.
pub(super) const PEEK: usize = 8192;

/// By the extension, where there is one that is known.
pub(super) fn by_name(path: &Path) -> Option<String> {
    mime_guess::from_path(path).first_raw().map(str::to_owned)
}

/// By the first bytes.
pub(super) fn by_bytes(first: &[u8]) -> &'static str {
    if let Some(kind) = infer::get(first) {
        return kind.mime_type();
    }
    let text = first.iter().find(|byte| !byte.is_ascii_whitespace());
    match (text, is_text(first)) {
        (Some(b'{' | b'['), true) => "application/json",
        (Some(_), true) => "text/plain; charset=utf-8",
        (_, _) => "application/octet-stream",
    }
}

/// UTF-8 without control characters. The last character may be cut in two.
fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or("\0")
        }
        Err(_) => return false,
    };
    !text
        .chars()
        .any(|c| c.is_control() && !c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_known_in_any_case() {
        for (name, kind) in [
            ("a.zip", "application/zip"),
            ("a.tar", "application/x-tar"),
            ("IMG_0001.JPG", "image/jpeg"),
            ("a.b.jpeg", "image/jpeg"),
            ("a.png", "image/png"),
            ("a.json", "application/json"),
        ] {
            assert_eq!(by_name(Path::new(name)).as_deref(), Some(kind), "{name}");
        }
        assert_eq!(by_name(Path::new("photos")), None);
        assert_eq!(by_name(Path::new(".jpg")), None);
    }

    #[test]
    fn first_bytes_tell_what_a_file_without_a_name_is() {
        let mut tar = vec![0; 512];
        tar[..5].copy_from_slice(b"a.txt");
        tar[257..263].copy_from_slice(b"ustar\0");
        for (bytes, kind) in [
            (&b"PK\x03\x04\x14\0"[..], "application/zip"),
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], "image/jpeg"),
            (&b"\x89PNG\r\n\x1a\n"[..], "image/png"),
            (&tar, "application/x-tar"),
            (&b" \n{\"a\": 1}"[..], "application/json"),
            (&b"hello"[..], "text/plain; charset=utf-8"),
            (&"caf\u{e9}".as_bytes()[..4], "text/plain; charset=utf-8"),
            (&b"\x01\x02"[..], "application/octet-stream"),
            (&b""[..], "application/octet-stream"),
        ] {
            assert_eq!(by_bytes(bytes), kind, "{bytes:?}");
        }
    }
}
