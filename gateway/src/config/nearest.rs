//! Turns a parser's "unknown field" into a message that names the nearest known key.

/// The first line of a parser's message, with a suggestion appended where it complains of an unknown
/// key and lists the known ones in back-quotes, as serde does.
#[must_use]
pub fn explain(message: &str) -> String {
    let first = message
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or(message);
    let line = match first.is_empty() {
        true => message.to_owned(),
        false => message
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !is_picture(l))
            .collect::<Vec<_>>()
            .join("; "),
    };
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return line;
    }
    let Some(unknown) = message.split('`').nth(1) else {
        return line;
    };
    // Some parsers quote the known keys, some do not.
    let known = message
        .split_once("expected")
        .map_or("", |(_, known)| known);
    let known = known.lines().next().unwrap_or_default();
    let words = known.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    match nearest(
        unknown,
        words.filter(|word| !["one", "of", "or"].contains(word)),
    ) {
        Some(best) => format!("{line} (did you mean `{best}`?)"),
        None => line,
    }
}

/// Lines of a parser that only draw the place in the file.
fn is_picture(line: &str) -> bool {
    line.starts_with('|')
        || line.starts_with("-->")
        || line
            .split_once('|')
            .is_some_and(|(n, _)| n.trim().chars().all(|c| c.is_ascii_digit()))
}

/// The known word nearest to `word`, if any is near enough to be a slip.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        assert_eq!(
            nearest("lisen", ["listen", "data"].into_iter()),
            Some("listen")
        );
        assert_eq!(nearest("zzz", ["listen", "data"].into_iter()), None);
    }
}
