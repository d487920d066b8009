//! Tables of a report: the same cells as CSV, as Markdown and as HTML.

use crate::figure::escape;
use crate::score::{Interval, Rate};

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing can be told.
    None,
    /// Words.
    Text(String),
    /// A whole number.
    Count(usize),
    /// A number with so many decimals for people; all of them for programs.
    Number(f64, usize),
    /// A share of one, shown in per cent.
    Share(f64),
    /// A share of one with its 95 % confidence interval.
    Rate(f64, f64, f64),
    /// A number with its 95 % confidence interval, and so many decimals for people.
    Between(Interval, usize),
}

impl Cell {
    /// Words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Seconds, or nothing.
    #[must_use]
    pub fn seconds(seconds: Option<f64>) -> Self {
        seconds.map_or(Self::None, |seconds| Self::Number(seconds, 2))
    }

    /// A share, or nothing.
    #[must_use]
    pub fn share(share: Option<f64>) -> Self {
        share.map_or(Self::None, Self::Share)
    }

    /// A rate, or nothing.
    #[must_use]
    pub fn rate(rate: Option<Rate>) -> Self {
        rate.map_or(Self::None, |rate| {
            Self::Rate(rate.value, rate.low, rate.high)
        })
    }

    /// A number with its interval, or nothing.
    #[must_use]
    pub fn between(interval: Option<Interval>, decimals: usize) -> Self {
        interval.map_or(Self::None, |interval| Self::Between(interval, decimals))
    }

    fn for_people(&self) -> String {
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        match self {
            Self::None => "–".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Count(count) => grouped(&count.to_string()),
            Self::Number(number, decimals) => grouped(&format!("{number:.decimals$}")),
            Self::Share(share) => format!("{} %", percent(*share)),
            Self::Rate(value, low, high) => {
                format!(
                    "{} % [{}, {}]",
                    percent(*value),
                    percent(*low),
                    percent(*high)
                )
            }
            Self::Between(interval, decimals) => {
                let number = |value: f64| grouped(&format!("{value:.decimals$}"));
                format!(
                    "{} [{}, {}]",
                    number(interval.value),
                    number(interval.low),
                    number(interval.high)
                )
            }
        }
    }

    fn number(&self) -> bool {
        !matches!(self, Self::Text(_))
    }
}

/// Thousands apart.
fn grouped(number: &str) -> String {
    let (sign, rest) = number
        .strip_prefix('-')
        .map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, ""), |(w, f)| (w, f));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && whole.len() > 4 {
            out.push(',');
        }
        out.push(digit);
    }
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{out}{point}{fraction}")
}

/// A table with its file name and what stands above it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of its CSV file, without the extension.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// As many cells a row as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(name: &str, caption: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            caption: caption.into(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing say nothing.
    pub fn row(&mut self, mut cells: Vec<Cell>) {
        cells.resize(self.columns.len(), Cell::None);
        self.rows.push(cells);
    }

    /// As CSV: what has an interval takes three columns, shares are from 0 to 1.
    #[must_use]
    pub fn csv(&self) -> String {
        let is_rate = |column: usize| {
            let mut cells = self.rows.iter().map(|row| &row[column]);
            cells.any(|cell| matches!(cell, Cell::Rate(..) | Cell::Between(..)))
        };
        let mut heading = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            heading.push(column.clone());
            if is_rate(index) {
                heading.push(format!("{column} low"));
                heading.push(format!("{column} high"));
            }
        }
        let mut lines = vec![heading];
        for row in &self.rows {
            let mut fields = Vec::new();
            for (index, cell) in row.iter().enumerate() {
                let mut three = match cell {
                    Cell::None => vec![String::new()],
                    Cell::Text(text) => vec![text.clone()],
                    Cell::Count(count) => vec![count.to_string()],
                    Cell::Number(number, _) | Cell::Share(number) => vec![number.to_string()],
                    Cell::Rate(value, low, high) => [value, low, high].map(f64::to_string).to_vec(),
                    Cell::Between(interval, _) => [interval.value, interval.low, interval.high]
                        .map(|value| value.to_string())
                        .to_vec(),
                };
                three.resize(if is_rate(index) { 3 } else { 1 }, String::new());
                fields.extend(three);
            }
            lines.push(fields);
        }
        let quoted = |field: &String| {
            if field.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            }
        };
        lines
            .iter()
            .map(|fields| fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n")
            .collect()
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let mut out = format!("**{}**\n\n|", self.caption);
        for column in &self.columns {
            out += &format!(" {} |", cell(column));
        }
        out += "\n|";
        for column in 0..self.columns.len() {
            out += if self.right(column) { "---:|" } else { "---|" };
        }
        out += "\n";
        for row in &self.rows {
            out += "|";
            for value in row {
                out += &format!(" {} |", cell(&value.for_people()));
            }
            out += "\n";
        }
        out
    }

    /// As HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let class = |column: usize| {
            if self.right(column) {
                " class=\"n\""
            } else {
                ""
            }
        };
        let mut out = format!(
            "<figure class=\"table\"><figcaption>{}</figcaption><div><table>\n<tr>",
            escape(&self.caption)
        );
        for (index, column) in self.columns.iter().enumerate() {
            out += &format!("<th{}>{}</th>", class(index), escape(column));
        }
        out += "</tr>\n";
        for row in &self.rows {
            out += "<tr>";
            for (index, value) in row.iter().enumerate() {
                out += &format!("<td{}>{}</td>", class(index), escape(&value.for_people()));
            }
            out += "</tr>\n";
        }
        out + "</table></div></figure>\n"
    }

    /// Whether a column is of numbers, which stand to the right.
    fn right(&self, column: usize) -> bool {
        self.rows.iter().all(|row| row[column].number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_as_csv_markdown_and_html() {
        let mut table = Table::new("t", "What <it> shows", &["policy", "success", "total, s"]);
        table.row(vec![
            Cell::text("a, \"b\" | c"),
            Cell::Rate(0.9, 0.85, 0.95),
            Cell::Number(-12345.678, 1),
        ]);
        table.row(vec![Cell::text("d")]);
        assert_eq!(
            table.csv(),
            "policy,success,success low,success high,\"total, s\"\n\
             \"a, \"\"b\"\" | c\",0.9,0.85,0.95,-12345.678\nd,,,,\n"
        );
        assert!(
            table
                .markdown()
                .contains("| a, \"b\" \\| c | 90.0 % [85.0, 95.0] | -12,345.7 |")
        );
        assert!(table.markdown().contains("|---|---:|---:|"));
        assert!(table.html().contains("What &lt;it&gt; shows"));
        assert_eq!(grouped("1234"), "1234");
        let interval = Interval {
            value: 12345.678,
            low: 9.0,
            high: 20000.0,
            cases: 3,
        };
        let mut table = Table::new("i", "Intervals", &["p50, ms"]);
        table.row(vec![Cell::Between(interval, 1)]);
        table.row(vec![Cell::between(None, 1)]);
        assert_eq!(
            table.csv(),
            "\"p50, ms\",\"p50, ms low\",\"p50, ms high\"\n12345.678,9,20000\n,,\n"
        );
        assert!(table.markdown().contains("| 12,345.7 [9.0, 20,000.0] |"));
    }
}
