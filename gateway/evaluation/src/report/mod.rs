//! Reports: what an evaluation says, as a folder of tables, figures, a page and a summary for programs.

mod folder;
mod policies;
mod predictions;
pub mod published;
mod replay;
mod simulation;
mod table;

pub use folder::{Folder, FolderError};
pub use policies::{POLICIES, policies};
pub use predictions::{Both, figure_3, figure_4, figure_6, table_3, windows};
pub use replay::Replay;
pub use simulation::simulation;
pub use table::{Cell, Table};

use crate::figure::{Figure, escape};
use serde_json::Value;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Paragraphs under the heading: what was evaluated, and how.
    pub about: Vec<String>,
    /// In the order of reading.
    pub sections: Vec<Section>,
    /// Tables for programs alone, as CSV beside the others: too long to read.
    pub data: Vec<Table>,
    /// What `summary.json` holds; an object.
    pub summary: Value,
}

/// A part of a report.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// Paragraphs before tables and figures.
    pub text: Vec<String>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its figures, by the name of their file without the extension.
    pub figures: Vec<(String, Figure)>,
}

impl Section {
    /// A section without tables and figures yet.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            ..Self::default()
        }
    }
}

/// How the page looks: readable on a phone and on paper, light and dark.
const STYLE: &str = "body{font:16px/1.55 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
p{max-width:60rem}h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.4rem;border-top:1px solid #ddd;padding-top:1.2rem}\
figure{margin:1.2rem 0}figcaption{font-weight:600;margin-bottom:.4rem}.table div,.plot{overflow-x:auto}\
table{border-collapse:collapse;font-size:.88rem}th,td{padding:.28rem .7rem;text-align:left;border-bottom:1px solid #e4e4e4;white-space:nowrap}\
th{background:#f5f5f5}.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto;border:1px solid #eee}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}th{background:#252525}th,td,h2{border-color:#3a3a3a}a{color:#8ab4f8}}";

impl Report {
    /// For people who read plain files; figures are linked.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("# {}\n\n", self.title);
        for text in &self.about {
            out += &format!("{text}\n\n");
        }
        for section in &self.sections {
            out += &format!("## {}\n\n", section.title);
            for text in &section.text {
                out += &format!("{text}\n\n");
            }
            for table in &section.tables {
                out += &format!("{}\n", table.markdown());
            }
            for (name, figure) in &section.figures {
                out += &format!("![{}](figures/{name}.svg)\n\n", figure.title);
            }
        }
        out
    }

    /// A page with the figures in it; `links` are other pages, as name and address.
    #[must_use]
    pub fn html(&self, links: &[(String, String)]) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
            escape(&self.title)
        );
        let paragraph = |text: &String| format!("<p>{}</p>\n", escape(text));
        self.about.iter().for_each(|text| out += &paragraph(text));
        for (name, address) in links {
            out += &format!(
                "<p>See also: <a href=\"{}\">{}</a></p>\n",
                escape(address),
                escape(name)
            );
        }
        for section in &self.sections {
            out += &format!("<h2>{}</h2>\n", escape(&section.title));
            section.text.iter().for_each(|text| out += &paragraph(text));
            section.tables.iter().for_each(|table| out += &table.html());
            for (_, figure) in &section.figures {
                out += &format!("<figure class=\"plot\">{}</figure>\n", figure.svg());
            }
        }
        out + "</body></html>\n"
    }
}
