//! The code of a function of kubeless': the file that it is in a container, and what the runtimes of
//! kubeless were told of where that is.

use super::carry::text;
use crate::function::FileSpec;
use crate::hex::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::Value;
use std::fmt::Write as _;

/// Where kubeless put code.
const FOLDER: &str = "/kubeless";
/// Dependencies that are named, at most.
const NAMED: usize = 10;

/// A language as the configuration of kubeless had it: the `runtime-images` of its chart 2.0.3.
struct Language {
    /// What the names of its runtimes begin with: a version follows.
    id: &'static str,
    /// How its files end.
    suffix: &'static str,
    /// The file that named dependencies.
    deps: &'static str,
    /// A variable that its runtimes got, `{}` being the version.
    env: Option<(&'static str, &'static str)>,
}

const NODE: Option<(&str, &str)> = Some(("NODE_PATH", "/kubeless/node_modules"));

static LANGUAGES: [Language; 11] = [
    language("ballerina", ".bal", "", None),
    language(
        "dotnetcore",
        ".cs",
        "project.csproj",
        Some(("DOTNETCORE_HOME", "/kubeless/packages")),
    ),
    language("go", ".go", "go.mod", None),
    language("java", ".java", "pom.xml", None),
    language("jvm", ".jar", "", None),
    language("nodejs", ".js", "package.json", NODE),
    language("nodejsCE", ".js", "package.json", NODE),
    language("nodejs_distroless", ".js", "package.json", NODE),
    language("php", ".php", "composer.json", None),
    language(
        "python",
        ".py",
        "requirements.txt",
        Some((
            "PYTHONPATH",
            "/kubeless/lib/python{}/site-packages:/kubeless",
        )),
    ),
    language(
        "ruby",
        ".rb",
        "Gemfile",
        Some(("GEM_HOME", "/kubeless/ruby/{}.0")),
    ),
];

const fn language(
    id: &'static str,
    suffix: &'static str,
    deps: &'static str,
    env: Option<(&'static str, &'static str)>,
) -> Language {
    Language {
        id,
        suffix,
        deps,
        env,
    }
}

impl Language {
    /// That of a runtime, with the version: `python3.8`.
    fn of(runtime: &str) -> Option<(&'static Self, &str)> {
        let version = runtime.trim_start_matches(|c: char| !c.is_ascii_digit());
        let id = &runtime[..runtime.len() - version.len()];
        let found = LANGUAGES.iter().find(|language| language.id == id)?;
        Some((found, version))
    }
}

fn runtime(spec: &Value) -> &str {
    text(spec, "runtime").unwrap_or_default()
}

/// Module and function of a handler.
pub(super) fn handler(spec: &Value) -> Option<(&str, &str)> {
    let (module, function) = text(spec, "handler")?.split_once('.')?;
    let good = !module.is_empty() && !function.is_empty() && !function.contains('.');
    good.then_some((module, function))
}

/// What a runtime was told of where code and dependencies are.
pub(super) fn env(spec: &Value) -> Vec<(&'static str, String)> {
    let Some((language, version)) = Language::of(runtime(spec)) else {
        return Vec::new();
    };
    let mut all = vec![("KUBELESS_INSTALL_VOLUME", FOLDER.to_owned())];
    all.extend(
        language
            .env
            .map(|(name, value)| (name, value.replace("{}", version))),
    );
    all
}

/// The code that stands in the object, as the file that kubeless would have made of it; with a line for
/// what hinders that.
pub(super) fn file(spec: &Value, left: &mut Vec<String>) -> Option<FileSpec> {
    let code = text(spec, "function").filter(|code| !code.trim().is_empty())?;
    let mut hinders = |line: String| {
        left.push(format!("function: {line}; the image has to hold the code"));
        None
    };
    let kind = text(spec, "function-content-type").unwrap_or("text");
    let bytes = match kind {
        "text" => code.as_bytes().to_vec(),
        "base64" => match STANDARD.decode(code.trim()) {
            Ok(bytes) => bytes,
            Err(error) => return hinders(format!("it is no base64 ({error})")),
        },
        _ if kind.contains("url") => {
            return hinders(format!(
                "it is behind a URL (function-content-type {kind}), and nothing fetches it"
            ));
        }
        _ => {
            return hinders(format!(
                "an archive (function-content-type {kind}) would need kubeless' build step"
            ));
        }
    };
    let Some((module, _)) = handler(spec) else {
        return hinders("no handler of the form module.function names its file".to_owned());
    };
    if let Some(sum) = text(spec, "checksum").and_then(|sum| sum.strip_prefix("sha256:"))
        && !sum.eq_ignore_ascii_case(&hex(digest::digest(&digest::SHA256, &bytes).as_ref()))
    {
        return hinders("its SHA-256 is not that of spec.checksum".to_owned());
    }
    let suffix = match Language::of(runtime(spec)) {
        Some((language, _)) => language.suffix,
        None => {
            left.push(format!(
                "function: runtime `{}` is not known here, so that its file is called {module}, with nothing behind",
                runtime(spec)
            ));
            ""
        }
    };
    Some(FileSpec {
        path: format!("{FOLDER}/{module}{suffix}"),
        text: (kind == "text").then(|| code.to_owned()),
        base64: (kind == "base64").then(|| code.trim().to_owned()),
    })
}

/// The line about dependencies, where there are any: they are not installed.
pub(super) fn deps(spec: &Value) -> Option<String> {
    let deps = text(spec, "deps").filter(|deps| !deps.trim().is_empty())?;
    let file = Language::of(runtime(spec)).map_or("", |(language, _)| language.deps);
    let mut names = match file {
        "package.json" | "composer.json" => of_json(deps),
        "requirements.txt" => of_lines(deps),
        _ => Vec::new(),
    };
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let mut line = "deps".to_owned();
    if !file.is_empty() {
        let _ = write!(line, " ({file})");
    }
    if !names.is_empty() {
        let _ = write!(line, ": {}", names.join(", "));
    }
    if more > 0 {
        let _ = write!(line, " and {more} more");
    }
    line.push_str(": would need kubeless' build step; the image has to hold them");
    Some(line)
}

fn of_lines(deps: &str) -> Vec<String> {
    let lines = deps
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn of_json(deps: &str) -> Vec<String> {
    let whole: Value = serde_json::from_str(deps).unwrap_or_default();
    let of = |key: &str| whole[key].as_object().cloned().unwrap_or_default();
    let all = of("dependencies").into_iter().chain(of("require"));
    all.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(spec: &Value) -> (Option<FileSpec>, String) {
        let mut left = Vec::new();
        let file = file(spec, &mut left);
        (file, left.join("\n"))
    }

    #[test]
    fn the_file_is_called_as_kubeless_called_it() {
        for (runtime, path) in [
            ("python3.8", "/kubeless/mod.py"),
            ("nodejs14", "/kubeless/mod.js"),
            ("nodejs_distroless8", "/kubeless/mod.js"),
            ("ruby2.4", "/kubeless/mod.rb"),
            ("php7.2", "/kubeless/mod.php"),
            ("go1.14", "/kubeless/mod.go"),
            ("java1.8", "/kubeless/mod.java"),
            ("jvm1.8", "/kubeless/mod.jar"),
            ("dotnetcore2.1", "/kubeless/mod.cs"),
            ("ballerina0.981.0", "/kubeless/mod.bal"),
        ] {
            let spec = json!({"handler": "mod.f", "function": "x", "runtime": runtime});
            let (file, left) = told(&spec);
            assert_eq!(file.expect(runtime).path, path);
            assert_eq!(left, "", "{runtime}");
        }
        for runtime in ["", "perl5", "pythonic3.8"] {
            let spec = json!({"handler": "mod.f", "function": "x", "runtime": runtime});
            let (file, left) = told(&spec);
            assert_eq!(file.expect(runtime).path, "/kubeless/mod");
            assert!(left.contains("is not known"), "{runtime}: {left}");
        }
    }

    #[test]
    fn what_is_no_file_says_why() {
        let of = |kind: &str, code: &str| {
            told(&json!({
                "handler": "mod.f", "function": code, "runtime": "python3.8",
                "function-content-type": kind,
            }))
        };
        let (file, left) = of("base64", "AP8=");
        assert_eq!(file.expect("coded").bytes().expect("coded"), [0, 255]);
        assert_eq!(left, "");
        for (kind, code, word) in [
            ("base64", "?", "no base64"),
            ("url", "https://example.org/key=secret", "behind a URL"),
            ("url+zip", "https://example.org/a.zip", "behind a URL"),
            ("base64+zip", "UEs=", "archive"),
            ("text+compressedtar", "x", "archive"),
        ] {
            let (file, left) = of(kind, code);
            assert_eq!(file, None, "{kind}");
            assert!(left.contains(word), "{kind}: {left}");
            assert!(!left.contains("secret"), "{left}");
        }
        let (file, left) = told(&json!({"handler": "a.b.c", "function": "x"}));
        assert!(file.is_none() && left.contains("no handler"), "{left}");
        assert_eq!(told(&json!({"handler": "a.b", "function": " "})).1, "");
    }

    #[test]
    fn code_that_is_not_what_its_sum_says_is_left_out() {
        let sum = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let mut spec =
            json!({"handler": "m.f", "function": "x", "runtime": "python3.8", "checksum": sum});
        assert!(told(&spec).0.is_some());
        spec["function"] = "y".into();
        let (file, left) = told(&spec);
        assert!(file.is_none() && left.contains("SHA-256"), "{left}");
    }

    #[test]
    fn runtimes_are_told_where_things_are() {
        let of = |runtime: &str| env(&json!({"runtime": runtime}));
        assert_eq!(
            of("python3.8"),
            [
                ("KUBELESS_INSTALL_VOLUME", "/kubeless".to_owned()),
                (
                    "PYTHONPATH",
                    "/kubeless/lib/python3.8/site-packages:/kubeless".to_owned()
                ),
            ]
        );
        assert_eq!(of("ruby2.4")[1].1, "/kubeless/ruby/2.4.0");
        assert_eq!(of("go1.14").len(), 1);
        assert!(of("").is_empty());
    }

    #[test]
    fn dependencies_are_named() {
        let of = |runtime: &str, text: &str| deps(&json!({"runtime": runtime, "deps": text}));
        let line = of("python3.8", "# these\nnumpy==1.20\n\ntorch # large\n").expect("named");
        assert!(
            line.starts_with("deps (requirements.txt): numpy==1.20, torch: "),
            "{line}"
        );
        let line = of("nodejs14", r#"{"dependencies": {"lodash": "^4"}}"#).expect("named");
        assert!(
            line.starts_with("deps (package.json): lodash ^4: "),
            "{line}"
        );
        let many: String = (0..12).map(|n| format!("d{n}\n")).collect();
        let line = of("python3.8", &many).expect("named");
        assert!(line.contains("d9 and 2 more: "), "{line}");
        assert!(
            of("java1.8", "<project/>")
                .expect("named")
                .starts_with("deps (pom.xml): would")
        );
        assert_eq!(of("python3.8", "\n"), None);
    }
}
