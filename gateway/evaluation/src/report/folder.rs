//! The folder of a report. Files that another evaluation wrote are replaced; files of anybody else are never touched.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use thiserror::Error;

use super::Report;

/// What `summary.json` calls the programs that may have written it: the mark of a folder that may be replaced.
const MADE_BY: [&str; 2] = ["stoic evaluate", "stoic bench"];

/// Why a report cannot be written.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The folder holds a file of somebody else where one of the report's would stand.
    #[error(
        "{} is there and was written by no evaluation or bench; name another folder with --out, or move it away",
        .0.display()
    )]
    Foreign(PathBuf),
    /// The file system refused.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, std::io::Error),
}

/// A folder that a report can be written to.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files that the evaluation before left here, relative to the folder.
    earlier: BTreeSet<PathBuf>,
    /// Whether its `summary.json` is an evaluation's.
    ours: bool,
}

impl Folder {
    /// Makes the folder, where there is none, and proves that files can be written in it: before hours of work, not
    /// after.
    ///
    /// # Errors
    /// When it cannot be made or written, or holds a foreign `summary.json`, `report.md` or `index.html`.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let cannot = |at: &Path| {
            let at = at.to_owned();
            move |e| FolderError::Io(at, e)
        };
        std::fs::create_dir_all(path).map_err(cannot(path))?;
        let probe = path.join(".stoic-evaluate");
        std::fs::write(&probe, "").map_err(cannot(&probe))?;
        std::fs::remove_file(&probe).map_err(cannot(&probe))?;
        let (ours, earlier) = earlier(path);
        let folder = Self {
            path: path.to_owned(),
            earlier,
            ours,
        };
        for name in ["summary.json", "report.md", "index.html"] {
            folder.refuse_foreign(Path::new(name))?;
        }
        Ok(folder)
    }

    fn refuse_foreign(&self, name: &Path) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let known = self.ours && (name == Path::new("summary.json") || self.earlier.contains(name));
        if path.symlink_metadata().is_ok() && !known {
            return Err(FolderError::Foreign(path));
        }
        Ok(())
    }

    /// Writes a report and removes what an earlier evaluation left here and this one did not write. Returns the paths
    /// of what it wrote, relative to the folder. `command` is the one that writes it, such as `evaluate replay`.
    ///
    /// # Errors
    /// When the file system refuses, or a foreign file is in the way; then nothing was written.
    pub fn write(&self, report: &Report, command: &str) -> Result<Vec<PathBuf>, FolderError> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for section in &report.sections {
            for table in &section.tables {
                files.push((format!("tables/{}.csv", table.name).into(), table.csv()));
            }
            for (name, figure) in &section.figures {
                files.push((format!("figures/{name}.svg").into(), figure.svg()));
            }
        }
        for table in &report.data {
            files.push((format!("tables/{}.csv", table.name).into(), table.csv()));
        }
        files.push(("report.md".into(), report.markdown()));
        files.push(("index.html".into(), report.html(&self.pages_below())));
        let names: Vec<PathBuf> = files.iter().map(|(name, _)| name.clone()).collect();
        files.push(("summary.json".into(), self.summary(report, command, &names)));
        for (name, _) in &files {
            self.refuse_foreign(name)?;
        }
        for (name, text) in &files {
            let path = self.path.join(name);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above).map_err(|e| FolderError::Io(above.to_owned(), e))?;
            }
            std::fs::write(&path, text).map_err(|e| FolderError::Io(path.clone(), e))?;
        }
        for left in self.earlier.iter().filter(|name| !names.contains(name)) {
            // It is gone, or somebody else's trouble.
            let _ = std::fs::remove_file(self.path.join(left));
        }
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn summary(&self, report: &Report, command: &str, names: &[PathBuf]) -> String {
        let mut summary = match &report.summary {
            Value::Object(object) => object.clone(),
            _ => serde_json::Map::new(),
        };
        let files: Vec<String> = names.iter().map(|n| n.display().to_string()).collect();
        summary.insert("made_by".to_owned(), json!(format!("stoic {command}")));
        summary.insert("files".to_owned(), json!(files));
        format!("{:#}\n", Value::Object(summary))
    }

    /// Pages of other evaluations in folders right below this one.
    fn pages_below(&self) -> Vec<(String, String)> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut pages: Vec<(String, String)> = entries
            .flatten()
            .filter(|entry| earlier(&entry.path()).0 && entry.path().join("index.html").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| (name.clone(), format!("{name}/index.html")))
            .collect();
        pages.sort();
        pages
    }
}

/// Whether a folder is an evaluation's, and which files that wrote: only such as stay inside the folder.
fn earlier(folder: &Path) -> (bool, BTreeSet<PathBuf>) {
    let summary: Option<Value> = std::fs::read(folder.join("summary.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let Some(summary) = summary else {
        return (false, BTreeSet::new());
    };
    let ours = summary["made_by"]
        .as_str()
        .is_some_and(|by| MADE_BY.iter().any(|known| by.starts_with(known)));
    let files = summary["files"].as_array().filter(|_| ours);
    let inside = |path: &PathBuf| {
        let mut parts = path.components();
        parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let files = files
        .into_iter()
        .flatten()
        .filter_map(|file| Some(PathBuf::from(file.as_str()?)))
        .filter(inside)
        .collect();
    (ours, files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Section, Table};

    fn report(tables: &[&str]) -> Report {
        let mut section = Section::new("Tables");
        for name in tables {
            let mut table = Table::new(name, *name, &["a"]);
            table.row(vec![Cell::Count(1)]);
            section.tables.push(table);
        }
        Report {
            title: "T".to_owned(),
            sections: vec![section],
            summary: json!({"rows": 3}),
            ..Report::default()
        }
    }

    #[test]
    fn an_evaluation_replaces_an_earlier_one_and_leaves_nothing_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let open = || Folder::open(&path).expect("opens");
        open()
            .write(&report(&["one", "two"]), "evaluate replay")
            .expect("writes");
        std::fs::write(path.join("notes.txt"), "mine").expect("writes");
        open()
            .write(&report(&["one"]), "evaluate replay")
            .expect("writes");
        assert!(path.join("tables/one.csv").is_file() && path.join("notes.txt").is_file());
        assert!(!path.join("tables/two.csv").exists());
        let summary: Value =
            serde_json::from_slice(&std::fs::read(path.join("summary.json")).expect("reads"))
                .expect("parses");
        assert_eq!(
            (&summary["rows"], &summary["made_by"]),
            (&json!(3), &json!("stoic evaluate replay"))
        );
    }

    #[test]
    fn files_of_others_are_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("report.md"), "my thesis").expect("writes");
        let error = Folder::open(folder.path()).expect_err("foreign");
        assert!(error.to_string().contains("report.md is there"), "{error}");
        std::fs::remove_file(folder.path().join("report.md")).expect("removes");
        let opened = Folder::open(folder.path()).expect("opens");
        std::fs::create_dir(folder.path().join("tables")).expect("makes");
        std::fs::write(folder.path().join("tables/one.csv"), "mine").expect("writes");
        let error = opened
            .write(&report(&["one"]), "evaluate replay")
            .expect_err("foreign");
        assert!(error.to_string().contains("one.csv"), "{error}");
        assert!(!folder.path().join("index.html").exists());
    }

    #[test]
    fn a_summary_that_names_files_elsewhere_removes_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("in");
        std::fs::create_dir(&inside).expect("makes");
        std::fs::write(folder.path().join("precious"), "x").expect("writes");
        let summary =
            json!({"made_by": "stoic evaluate replay", "files": ["../precious", "/etc/hostname"]});
        std::fs::write(inside.join("summary.json"), summary.to_string()).expect("writes");
        let opened = Folder::open(&inside).expect("opens");
        opened
            .write(&report(&[]), "evaluate replay")
            .expect("writes");
        assert!(folder.path().join("precious").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_so_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("writes");
        assert!(matches!(
            Folder::open(&file.join("out")),
            Err(FolderError::Io(..))
        ));
    }
}
