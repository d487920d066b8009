//! What commands print: tables for people, JSON and YAML for programs.

use super::failed::Failed;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// How a command prints what it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON as the gateway sent it, indented
    Json,
    /// The same as YAML
    Yaml,
}

/// The option that chooses the format.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Printing {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) output: Format,
}

impl Printing {
    /// Prints the value, or what it looks like as a table.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failed> {
        let text = match self.output {
            Format::Table => table(value),
            Format::Json => json(value)?,
            Format::Yaml => yaml(value)?,
        };
        say(&text)
    }
}

fn json(value: &impl Serialize) -> Result<String, Failed> {
    serde_json::to_string_pretty(value).map_err(|e| Failed::Machine(format!("cannot print: {e}")))
}

fn yaml(value: &impl Serialize) -> Result<String, Failed> {
    serde_saphyr::to_string(value).map_err(|e| Failed::Machine(format!("cannot print: {e}")))
}

/// Writes to standard output, and a line break where there is none.
pub(super) fn say(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    let end: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failed::OutputClosed,
            _ => Failed::io("cannot write the output", &e),
        })
}

/// Writes a line to standard error. Where that is closed, nobody wants to know.
pub(super) fn complain(text: &str) {
    let text: Vec<String> = text.lines().map(plain).collect();
    let _ = writeln!(std::io::stderr().lock(), "{}", text.join("\n"));
}

/// A table without borders. Columns whose heading ends in `>` stand to the right.
pub(super) fn table<R, C>(headings: &[&str], rows: R) -> String
where
    R: IntoIterator<Item = Vec<C>>,
    C: Into<String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.trim_end_matches('>')));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| plain(&cell.into())));
    }
    for (index, heading) in headings.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if heading.ends_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// Names come from files and other users: control characters would reach the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_control_characters_and_no_trailing_blanks() {
        let text = table(
            &["NAME", "BYTES>"],
            [vec!["a\u{1b}[2J", "1"], vec!["bb", "2000"]],
        );
        assert_eq!(text, "NAME   BYTES\na\u{fffd}[2J      1\nbb      2000");
    }

    #[test]
    fn yaml_and_json_hold_the_same() {
        let value = serde_json::json!({"a": [1, 2.5, null], "b": "no: yes", "c": "12"});
        let text = yaml(&value).expect("yaml");
        let back: serde_json::Value = serde_saphyr::from_str(&text).expect("parses");
        assert_eq!(back, value);
        assert!(json(&value).expect("json").contains("\"no: yes\""));
    }
}
