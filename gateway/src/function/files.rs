//! Files that come with a function and are put into its containers.

use super::InvalidFunction;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most bytes that the files of a function may have together: what a Secret of Kubernetes takes.
pub const LARGEST_FILES: usize = 1 << 20;
/// Most files of a function: each is a mount of its own.
pub const MOST_FILES: usize = 64;
/// Longest path.
const LONGEST_PATH: usize = 1024;
/// Folders of containers that are somebody else's.
const TAKEN: [&str; 6] = [
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/var/run/secrets",
    crate::secrets::IN_CONTAINERS,
];

/// A file that a function's containers find, and can only read. What the image has beside it stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Where it is, from the root on.
    #[schemars(regex(pattern = "^/."))]
    pub path: String,
    /// What it holds, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it holds, as Base64: for what is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl FileSpec {
    /// What it holds.
    ///
    /// # Errors
    /// It says so neither as text nor as Base64, or both ways, or what should be Base64 is none.
    pub fn bytes(&self) -> Result<Vec<u8>, InvalidFunction> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(text.as_bytes().to_vec()),
            (None, Some(coded)) => {
                let coded: String = coded.split_ascii_whitespace().collect();
                STANDARD.decode(coded).map_err(|error| {
                    InvalidFunction(format!(
                        "spec.files: the base64 of `{}` is none: {error}",
                        self.path
                    ))
                })
            }
            _ => Err(InvalidFunction(format!(
                "spec.files: `{}` needs either text or base64",
                self.path
            ))),
        }
    }
}

/// Checks the files of a function.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_files(files: &[FileSpec]) -> Result<(), InvalidFunction> {
    let refuse = |text: String| Err(InvalidFunction(format!("spec.files: {text}")));
    if files.len() > MOST_FILES {
        return refuse(format!("{} files; the most is {MOST_FILES}", files.len()));
    }
    let mut total = 0;
    for (n, file) in files.iter().enumerate() {
        let path = file.path.as_str();
        if let Err(why) = check_path(path) {
            let start: String = path.chars().take(128).collect();
            return refuse(format!("`{start}` {why}"));
        }
        if let Some(other) = files[..n].iter().find(|other| overlap(&other.path, path)) {
            return refuse(match other.path == path {
                true => format!("`{path}` is there twice"),
                false => format!("`{}` and `{path}` cannot both be files", other.path),
            });
        }
        total += file.bytes()?.len();
    }
    if total > LARGEST_FILES {
        return refuse(format!(
            "they have {total} bytes together; the most is {LARGEST_FILES}: build an image that holds them"
        ));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    let Some(parts) = path.strip_prefix('/') else {
        return Err("must start with `/`".to_owned());
    };
    if path.len() > LONGEST_PATH {
        return Err(format!("is longer than {LONGEST_PATH} bytes"));
    }
    if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has a part that is empty, `.` or `..`".to_owned());
    }
    // Neither engine takes a colon in the place of a mount.
    if path.contains(|c: char| c == ':' || c.is_control()) {
        return Err("has a colon or a control character".to_owned());
    }
    match TAKEN.iter().find(|taken| overlap(taken, path)) {
        Some(taken) => Err(format!("is in the way of {taken}")),
        None => Ok(()),
    }
}

/// Whether one is the other, or lies in it.
fn overlap(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> FileSpec {
        FileSpec {
            path: path.to_owned(),
            text: Some(text.to_owned()),
            base64: None,
        }
    }

    #[test]
    fn files_hold_what_they_say() {
        assert_eq!(text("/a", "b").bytes().expect("text"), b"b");
        let mut coded = FileSpec {
            base64: Some("AP8\n=".to_owned()),
            text: None,
            path: "/a".to_owned(),
        };
        assert_eq!(coded.bytes().expect("coded"), [0, 255]);
        coded.text = Some(String::new());
        assert!(coded.bytes().is_err(), "both");
        coded = text("/a", "b");
        coded.text = None;
        assert!(coded.bytes().is_err(), "neither");
        coded.base64 = Some("not!".to_owned());
        assert!(coded.bytes().is_err(), "no Base64");
    }

    #[test]
    fn paths_that_are_no_place_for_a_file_are_refused() {
        for path in [
            "",
            "a",
            "/",
            "//a",
            "/a/",
            "/a/../b",
            "/./a",
            "/a:b",
            "/a\nb",
            "/proc/1",
            "/tmp",
            "/tmp/x",
            "/var",
            "/var/openfaas/secrets/k",
        ] {
            let error = check_files(&[text(path, "")]).expect_err(path).to_string();
            assert!(error.starts_with("spec.files: `"), "{path}: {error}");
        }
        check_files(&[
            text("/kubeless/a.py", ""),
            text("/tmpx", ""),
            text("/v/a", ""),
        ])
        .expect("fine");
    }

    #[test]
    fn files_in_each_others_way_and_too_much_of_them_are_refused() {
        let twice = check_files(&[text("/a", ""), text("/a", "")]).expect_err("twice");
        assert!(twice.to_string().contains("twice"), "{twice}");
        let within = check_files(&[text("/a/b", ""), text("/a", "")]).expect_err("within");
        assert!(within.to_string().contains("both"), "{within}");
        let half = "x".repeat(LARGEST_FILES / 2);
        check_files(&[text("/a", &half), text("/b", &half)]).expect("just fits");
        let more = check_files(&[text("/a", &half), text("/b", &half), text("/c", "x")]);
        let more = more.expect_err("too large").to_string();
        assert!(more.contains("1048577 bytes"), "{more}");
        let many: Vec<FileSpec> = (0..=MOST_FILES)
            .map(|n| text(&format!("/f{n}"), ""))
            .collect();
        assert!(check_files(&many).is_err(), "too many");
    }
}
