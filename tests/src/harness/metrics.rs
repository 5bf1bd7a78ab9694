//! Metrics in the OpenMetrics text format (version 1.0), as a node's ops port serves them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name with its suffix, such as `_total` or `_bucket`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Why an exposition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// A line is not a sample.
    #[error("parse metrics line {number}: {line:?}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// The line.
        line: String,
    },
    /// The closing `# EOF` is missing, so samples may be missing too.
    #[error("metrics end without # EOF")]
    CutShort,
}

/// All samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Scrapes `/metrics` at `ops_url`, such as `http://127.0.0.1:7703`.
    pub async fn scrape(http: &reqwest::Client, ops_url: &str) -> Result<Self> {
        let url = format!("{ops_url}/metrics");
        let answer = http.get(&url).send().await.with_context(|| format!("get {url}"))?;
        let text = answer.error_for_status()?.text().await.with_context(|| format!("read {url}"))?;
        Ok(Self::parse(&text)?)
    }

    /// Parses an exposition. Timestamps and exemplars are passed over.
    pub fn parse(text: &str) -> Result<Self, MetricsError> {
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line == "# EOF" {
                return Ok(Self { samples });
            }
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            let error = || MetricsError::Line { number: index + 1, line: line.to_owned() };
            samples.push(parse_sample(line).ok_or_else(error)?);
        }
        Err(MetricsError::CutShort)
    }

    /// The value of the one sample of this name that has all these labels; `None` if there is none or several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.matching(name, labels);
        let first = matching.next()?;
        if matching.next().is_some() { None } else { Some(first.value) }
    }

    /// The sum over all samples of this name that have these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.matching(name, labels).map(|sample| sample.value).peekable();
        matching.peek()?;
        Some(matching.sum())
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|own| own == value))
        })
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = parse_quoted(after)?;
            labels.insert(label.to_owned(), value);
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &inside[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    if name.is_empty() { None } else { Some(Sample { name: name.to_owned(), labels, value }) }
}

/// Reads up to the closing quote: the unescaped text and what follows the quote.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP holdfast_fsyncs Calls of fsync.
# TYPE holdfast_fsyncs counter
holdfast_fsyncs_total 12
holdfast_requests_total{method=\"PUT\",code=\"201\"} 3
holdfast_requests_total{method=\"GET\",code=\"200\"} 4 1735689600
holdfast_lag_seconds_bucket{le=\"+Inf\"} 7 # {trace=\"x\"} 0.5
holdfast_build_info{text=\"a \\\"b\\\" {c}, \\\\d\\n\"} 1
# EOF
";

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert_eq!(metrics.value("holdfast_fsyncs_total", &[]), Some(12.0));
        assert_eq!(metrics.value("holdfast_requests_total", &[("code", "201")]), Some(3.0));
        assert_eq!(metrics.value("holdfast_requests_total", &[("code", "500")]), None);
        assert_eq!(metrics.value("holdfast_lag_seconds_bucket", &[("le", "+Inf")]), Some(7.0));
        assert_eq!(metrics.value("holdfast_build_info", &[("text", "a \"b\" {c}, \\d\n")]), Some(1.0));
    }

    #[test]
    fn an_ambiguous_name_has_a_sum_but_no_value() {
        let metrics = Metrics::parse(TEXT).unwrap();
        assert_eq!(metrics.value("holdfast_requests_total", &[]), None);
        assert_eq!(metrics.sum("holdfast_requests_total", &[]), Some(7.0));
        assert_eq!(metrics.sum("absent", &[]), None);
    }

    #[test]
    fn a_cut_exposition_is_refused() {
        assert_eq!(Metrics::parse("a 1\n"), Err(MetricsError::CutShort));
        let bad = MetricsError::Line { number: 1, line: "a{b=\"c} 1".to_owned() };
        assert_eq!(Metrics::parse("a{b=\"c} 1\n# EOF\n"), Err(bad));
    }
}
