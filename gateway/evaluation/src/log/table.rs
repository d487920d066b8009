//! A CSV file as rows of named columns, with the line of every row. Knows no log in particular.
//!
//! Columns are found by name, in any order, whatever their case. Windows line ends, a byte order mark, quoted fields
//! and blank lines are borne.

use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::LogError;

/// How alike two names must be for one to be taken for a slip of the other.
const ALIKE: f64 = 0.75;

/// The columns of one kind of log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    /// What the log holds, for messages: "runs".
    pub(crate) of: &'static str,
    /// Without these it cannot be read.
    pub(crate) required: &'static [&'static str],
    /// These may be absent.
    pub(crate) optional: &'static [&'static str],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    file: PathBuf,
    /// For each of the required columns, then of the optional ones, its place in a record.
    places: Vec<Option<usize>>,
    columns: Columns,
    rows: Vec<(u64, StringRecord)>,
    ignored: Vec<String>,
}

impl Table {
    /// Reads a file.
    pub(crate) fn read(file: &Path, columns: Columns) -> Result<Self, LogError> {
        let bytes = std::fs::read(file).map_err(|e| LogError::whole(file, plain_io(&e)))?;
        Self::parse(file, &bytes, columns)
    }

    /// Reads what a file holds.
    pub(crate) fn parse(file: &Path, bytes: &[u8], columns: Columns) -> Result<Self, LogError> {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(LogError::at(file, 1, "is UTF-16 text; UTF-8 is wanted"));
        }
        let mut lines = Lines::new(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut record = StringRecord::new();
        let mut heading: Option<StringRecord> = None;
        let (mut places, mut ignored) = (Vec::new(), Vec::new());
        let mut rows = Vec::new();
        loop {
            let begins = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
            let line = lines.of(begins);
            match reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(LogError::at(file, line, broken(&error))),
            }
            let Some(heading) = &heading else {
                (places, ignored) =
                    find(&record, columns).map_err(|what| LogError::at(file, line, what))?;
                heading = Some(record.clone());
                continue;
            };
            if record.len() != heading.len() {
                let what = format!(
                    "has {} fields where the heading has {}",
                    record.len(),
                    heading.len()
                );
                return Err(LogError::at(file, line, what));
            }
            rows.push((line, record.clone()));
        }
        if heading.is_none() {
            return Err(LogError::whole(
                file,
                format!(
                    "is empty; a heading with {} is wanted",
                    columns.required.join(",")
                ),
            ));
        }
        if rows.is_empty() {
            return Err(LogError::whole(
                file,
                format!("holds a heading and no {}", columns.of),
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            places,
            columns,
            rows,
            ignored,
        })
    }

    /// The rows, in the order of the file.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, record)| Row {
            table: self,
            line: *line,
            record,
        })
    }

    /// Whether an optional column is there.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.place(column).is_some()
    }

    /// Columns that are of no use here.
    pub(crate) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    fn place(&self, column: &str) -> Option<usize> {
        let mut all = self.columns.required.iter().chain(self.columns.optional);
        self.places[all.position(|name| *name == column)?]
    }
}

/// One row of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    table: &'a Table,
    /// Its line, from 1.
    pub(crate) line: u64,
    record: &'a StringRecord,
}

impl<'a> Row<'a> {
    /// The text of a column; empty where the column is absent.
    pub(crate) fn text(&self, column: &str) -> &'a str {
        self.table
            .place(column)
            .and_then(|place| self.record.get(place))
            .unwrap_or("")
    }

    /// Text that must be there.
    pub(crate) fn name(&self, column: &str) -> Result<&'a str, LogError> {
        match self.text(column) {
            "" => Err(self.wrong(format!("{column} is empty"))),
            text => Ok(text),
        }
    }

    /// A finite number that is not negative; `None` where the field is empty or absent.
    pub(crate) fn maybe(&self, column: &str) -> Result<Option<f64>, LogError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let Ok(number) = text.parse::<f64>() else {
            return Err(self.wrong(format!(
                "{column} is `{}`, which is no number",
                shortened(text)
            )));
        };
        if !number.is_finite() {
            return Err(self.wrong(format!("{column} is {text}, which is no finite number")));
        }
        if number < 0.0 {
            return Err(self.wrong(format!("{column} is {text}; it cannot be negative")));
        }
        // No minus zero.
        Ok(Some(number + 0.0))
    }

    /// A number that must be there.
    pub(crate) fn number(&self, column: &str) -> Result<f64, LogError> {
        self.maybe(column)?
            .ok_or_else(|| self.wrong(format!("{column} is empty")))
    }

    /// A whole number; `None` where the field is empty or absent.
    pub(crate) fn maybe_count(&self, column: &str) -> Result<Option<f64>, LogError> {
        match self.maybe(column)? {
            Some(number) if number.fract() != 0.0 => Err(self.wrong(format!(
                "{column} is {}; a whole number is wanted",
                self.text(column)
            ))),
            number => Ok(number),
        }
    }

    /// A whole number that must be there.
    pub(crate) fn count(&self, column: &str) -> Result<f64, LogError> {
        self.maybe_count(column)?
            .ok_or_else(|| self.wrong(format!("{column} is empty")))
    }

    /// An error about this row.
    pub(crate) fn wrong(&self, what: impl Into<String>) -> LogError {
        LogError::at(&self.table.file, self.line, what)
    }
}

/// Finds the columns in a heading, and those that are of no use.
fn find(
    heading: &StringRecord,
    columns: Columns,
) -> Result<(Vec<Option<usize>>, Vec<String>), String> {
    let named: Vec<String> = heading.iter().map(str::to_lowercase).collect();
    let all = || columns.required.iter().chain(columns.optional);
    let unknown = || {
        named
            .iter()
            .filter(|name| !all().any(|known| known == name))
            .map(String::as_str)
    };
    if let [one] = named.as_slice()
        && columns.required.len() > 1
        && let Some(other) = [';', '\t', '|'].into_iter().find(|c| one.contains(*c))
    {
        return Err(format!("is separated by {other:?}; commas are wanted"));
    }
    for name in all() {
        if named.iter().filter(|other| other == name).count() > 1 {
            return Err(format!("has column `{name}` twice"));
        }
    }
    let mut places = Vec::new();
    for name in all() {
        places.push(named.iter().position(|other| other == name));
    }
    let absent = all()
        .zip(&places)
        .filter(|(_, place)| place.is_none())
        .map(|(name, _)| *name);
    for name in absent {
        let near = unknown()
            .map(|other| (strsim::jaro_winkler(name, other), other))
            .filter(|(alike, _)| *alike >= ALIKE)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let required = columns.required.contains(&name);
        match near {
            Some((_, other)) if required => {
                return Err(format!("has no column `{name}`; is `{other}` meant?"));
            }
            // A slip in an optional column would silently leave it out.
            Some((alike, other)) if alike >= 0.9 => {
                return Err(format!(
                    "has an unknown column `{other}`; is `{name}` meant?"
                ));
            }
            None if required => {
                return Err(format!(
                    "has no column `{name}`; {} wanted, found {}",
                    columns.required.join(","),
                    shortened(&named.join(","))
                ));
            }
            _ => {}
        }
    }
    let ignored = unknown().map(str::to_owned).collect();
    Ok((places, ignored))
}

/// Enough of a text for a message.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn broken(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("field {} is no UTF-8 text", err.field() + 1)
        }
        _ => format!("is no CSV: {error}"),
    }
}

fn plain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder; a CSV file is wanted".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Lines of offsets that never go back. The reader's own count stands before blank lines and before the second half
/// of a Windows line end.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            line: 1,
        }
    }

    /// The line of the first text at or after an offset.
    fn of(&mut self, offset: usize) -> u64 {
        while self.at < self.bytes.len()
            && (self.at < offset || matches!(self.bytes[self.at], b'\n' | b'\r'))
        {
            self.line += u64::from(self.bytes[self.at] == b'\n');
            self.at += 1;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        of: "rows",
        required: &["epoch", "act_deploy"],
        optional: &["pred_deploy"],
    };

    fn parse(text: &[u8]) -> Result<Table, LogError> {
        Table::parse(Path::new("a.csv"), text, COLUMNS)
    }

    fn message(text: &[u8]) -> String {
        parse(text).expect_err("an error").to_string()
    }

    #[test]
    fn columns_in_any_order_with_mark_quotes_windows_ends_and_blank_lines() {
        let text =
            b"\xef\xbb\xbf\"act_deploy\",Epoch , note\r\n1.5,10,\"a,\r\nb\"\r\n\r\n-0.0,20,x\r\n";
        let table = parse(text).expect("parses");
        let rows: Vec<_> = table
            .rows()
            .map(|row| {
                (
                    row.line,
                    row.number("epoch").unwrap(),
                    row.number("act_deploy").unwrap(),
                )
            })
            .collect();
        assert_eq!(rows, [(2, 10.0, 1.5), (5, 20.0, 0.0)]);
        assert!(rows[1].2.is_sign_positive());
        assert_eq!(table.ignored(), ["note"]);
        assert!(!table.has("pred_deploy"));
    }

    #[test]
    fn errors_name_file_line_and_the_nearest_column() {
        assert_eq!(
            message(b"epoch,act_depoly\n1,2\n"),
            "a.csv:1: has no column `act_deploy`; is `act_depoly` meant?"
        );
        assert_eq!(
            message(b"epoch,act_deploy,pred_deplo\n1,2,3\n"),
            "a.csv:1: has an unknown column `pred_deplo`; is `pred_deploy` meant?"
        );
        assert_eq!(
            message(b"epoch,act_deploy\n1,2\n3\n"),
            "a.csv:3: has 1 fields where the heading has 2"
        );
        assert!(message(b"epoch;act_deploy\n1;2\n").contains("separated by ';'"));
        assert!(message(b"").contains("is empty"));
        assert!(message(b"epoch,act_deploy\n\n").contains("holds a heading and no rows"));
        assert!(message(b"epoch,act_deploy,epoch\n1,2,3\n").contains("twice"));
        assert!(message(b"epoch,act_deploy\n1,\xff\n").contains("a.csv:2: field 2 is no UTF-8"));
        assert!(message(&[0xff, 0xfe, 0x65, 0x00]).contains("UTF-16"));
    }

    #[test]
    fn numbers_that_are_none_are_refused_with_their_line() {
        for (field, says) in [
            ("nan", "no finite number"),
            ("inf", "no finite number"),
            ("1e999", "no finite number"),
            ("-1", "negative"),
            ("1 s", "no number"),
            ("0x10", "no number"),
            ("", "empty"),
        ] {
            let table = parse(format!("epoch,act_deploy\n1,{field}\n").as_bytes()).expect("parses");
            let error = table
                .rows()
                .next()
                .expect("a row")
                .number("act_deploy")
                .expect_err(field)
                .to_string();
            assert!(error.starts_with("a.csv:2: act_deploy"), "{error}");
            assert!(error.contains(says), "{error}");
        }
        let table = parse(b"epoch,act_deploy\n33.0,1.5\n").expect("parses");
        let row = table.rows().next().expect("a row");
        assert_eq!(row.count("epoch").expect("whole"), 33.0);
        assert!(row.count("act_deploy").is_err());
    }
}
