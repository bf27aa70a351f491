//! The result of a bench: rows, what each is judged by, and the two ways to print them.

use std::{io, thread};

use serde::Serialize;

use crate::app::bench::load::{Latency, Measured};
use crate::app::bench::options::Options;

/// One figure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// What was done.
    pub(super) name: String,
    /// The figure.
    pub(super) figure: f64,
    /// What it counts.
    pub(super) unit: &'static str,
    /// Median of single operations, in milliseconds.
    pub(super) p50_ms: Option<f64>,
    /// What 99 of 100 operations do not exceed, in milliseconds.
    pub(super) p99_ms: Option<f64>,
    /// What the figure is held against.
    pub(super) judged: Option<Judged>,
}

/// A value with the bound that it is to keep.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Judged {
    /// The value, often a ratio.
    value: f64,
    /// What the value is: `of livez`, `KiB`.
    of: &'static str,
    at_least: Option<f64>,
    at_most: Option<f64>,
    met: bool,
}

/// A workload that gave no figure.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    /// Which.
    pub(super) name: String,
    /// Why.
    pub(super) error: String,
}

/// Everything that a bench found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    version: &'static str,
    cpu_count: usize,
    seconds: u16,
    connections: u16,
    pub(super) rows: Vec<Row>,
    pub(super) failures: Vec<Failure>,
}

impl Judged {
    /// `value` is to be `bound` or more.
    pub(super) fn at_least(value: f64, of: &'static str, bound: f64) -> Self {
        Self { value, of, at_least: Some(bound), at_most: None, met: value >= bound }
    }

    /// `value` is to be `bound` or less.
    pub(super) fn at_most(value: f64, of: &'static str, bound: f64) -> Self {
        Self { value, of, at_least: None, at_most: Some(bound), met: value <= bound }
    }
}

impl Row {
    /// A figure by itself.
    pub(super) fn new(name: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self { name, figure, unit, p50_ms: None, p99_ms: None, judged: None }
    }

    /// The rate and the latencies of a run.
    pub(super) fn rate(name: impl Into<String>, measured: &Measured) -> Self {
        Self::new(name, measured.rate, "/s").with_latency(&measured.latency)
    }

    /// Adds the percentiles.
    pub(super) fn with_latency(mut self, latency: &Latency) -> Self {
        self.p50_ms = Some(latency.ms_at(500));
        self.p99_ms = Some(latency.ms_at(990));
        self
    }

    /// Adds what it is held against, if that is known.
    pub(super) fn with_judged(mut self, judged: Option<Judged>) -> Self {
        self.judged = judged;
        self
    }
}

impl Report {
    /// A report without figures.
    pub(super) fn new(options: &Options) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            cpu_count: thread::available_parallelism().map_or(0, usize::from),
            seconds: options.seconds,
            connections: options.connections,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Takes what a workload gave: its rows, or why there are none.
    pub(super) fn take(&mut self, name: &str, result: anyhow::Result<Vec<Row>>) {
        match result {
            Ok(rows) => self.rows.extend(rows),
            Err(error) => {
                let failure = Failure { name: name.to_owned(), error: format!("{error:#}") };
                self.failures.push(failure);
            }
        }
    }

    /// Names of the rows that missed their bound.
    pub(super) fn missed(&self) -> Vec<&str> {
        let missed = |row: &&Row| row.judged.as_ref().is_some_and(|judged| !judged.met);
        self.rows.iter().filter(missed).map(|row| row.name.as_str()).collect()
    }

    /// One JSON object.
    pub(super) fn write_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// A table for people.
    pub(super) fn write_table(&self, out: &mut impl io::Write) -> io::Result<()> {
        let head = ["workload", "figure", "", "p50 ms", "p99 ms", "compared", "target", ""];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let mut widths = [0; 8];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Numbers end at the same column, words begin at it.
                text += &match column {
                    1 | 3 | 4 | 5 => format!("{cell:>width$}  "),
                    _ => format!("{cell:<width$}  "),
                };
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        for failure in &self.failures {
            writeln!(out, "\nfailed: {}: {}", failure.name, failure.error)?;
        }
        writeln!(
            out,
            "\nsessile {}, {} connections, {} s each, client and server on {} cores",
            self.version, self.connections, self.seconds, self.cpu_count
        )
    }
}

fn cells(row: &Row) -> [String; 8] {
    let ms = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    let (mut compared, mut target, mut verdict) = (String::new(), String::new(), String::new());
    if let Some(judged) = &row.judged {
        compared = format!("{:.2} {}", judged.value, judged.of);
        target = match (judged.at_least, judged.at_most) {
            (Some(bound), _) => format!(">= {bound}"),
            (_, Some(bound)) => format!("<= {bound}"),
            (None, None) => String::new(),
        };
        verdict = String::from(if judged.met { "met" } else { "MISSED" });
    }
    let name = row.name.clone();
    let unit = row.unit.to_owned();
    [name, figure(row.figure), unit, ms(row.p50_ms), ms(row.p99_ms), compared, target, verdict]
}

/// A number as people read it: thousands apart, decimals only where they tell something.
fn figure(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Tells a waiting person what goes on. Standard output is for the result alone.
pub(super) fn progress(text: &str) {
    let mut errors = io::stderr().lock();
    // Nobody may be listening, and the bench does not depend on it.
    drop(io::Write::write_fmt(&mut errors, format_args!("{text}\n")));
}
