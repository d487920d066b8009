//! What is told of a run: a page with tables and figures, a summary for programs, tables for the terminal.

use super::burst::Bursts;
use super::figures;
use super::load::Loads;
use super::machine::{Machine, NOISY, Noise};
use super::options::ENOUGH;
use super::results::{
    self, BurstRow, LoadRow, QUANTILES, Ratio, Row, burst_rows, load_rows, ratios, rows,
};
use super::rounds::Bench;
use super::sample::rank;
use super::target::Target;
use super::ways::Way;
use crate::cli::output::table;
use serde_json::{Value, json};
use std::rc::Rc;
use stoic_evaluation::report::{Cell, Report, Section, Table};
use stoic_evaluation::score::Interval;

const MS: f64 = 1000.0;

/// A run that is over, whole or not.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// The measurements.
    pub(super) bench: &'a Bench<'a>,
    /// The bursts.
    pub(super) bursts: &'a [Bursts],
    /// The loads.
    pub(super) loads: &'a [Loads],
    /// The machine.
    pub(super) machine: &'a Machine,
    /// How noisy it was.
    pub(super) noise: Noise,
    /// Where it ran, in words.
    pub(super) place: String,
    /// Why it ended before its end, if it did.
    pub(super) cut_short: Option<String>,
}

/// What the measurements of a run say.
#[derive(Debug)]
pub(super) struct Told<'a> {
    run: &'a Run<'a>,
    targets: &'a [Rc<Target>],
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
    bursts: Vec<BurstRow>,
    loads: Vec<LoadRow>,
    conclusive: bool,
}

impl<'a> Told<'a> {
    /// Works out quantiles, ratios and intervals.
    pub(super) fn of(run: &'a Run<'a>) -> Self {
        let (bench, seed) = (run.bench, run.bench.options.seed);
        Self {
            run,
            targets: &bench.targets,
            rows: rows(&bench.samples, &bench.faults, bench.targets.len(), seed),
            ratios: ratios(&bench.samples, &bench.targets, seed),
            bursts: burst_rows(run.bursts, seed),
            loads: load_rows(run.loads, seed),
            conclusive: bench.rounds >= ENOUGH && !run.noise.noisy,
        }
    }

    /// Why nothing can be concluded, if so.
    fn reservations(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(why) = &self.run.cut_short {
            all.push(format!(
                "CUT SHORT after {} of {} rounds: {why}. What was measured until then is below.",
                self.run.bench.rounds, self.run.bench.options.rounds
            ));
        }
        if self.run.bench.rounds < ENOUGH {
            all.push(format!(
                "TOO SHORT TO CONCLUDE: {} whole rounds, where {ENOUGH} are the least.",
                self.run.bench.rounds
            ));
        }
        if self.run.noise.noisy {
            all.push(self.run.noise.sentence());
        }
        all
    }

    /// The report.
    pub(super) fn report(&self) -> Report {
        let options = self.run.bench.options;
        let mut about = self.reservations();
        about.push(self.run.place.clone());
        about.push(format!(
            "{} rounds, each with every way once, in an order drawn anew (seed {}); {} ms of rest before each \
             measurement. Times are the caller's: from before the request is sent to the last byte of its answer, on a \
             connection that is open already. Intervals are 95 %, by the bootstrap; ratios are medians of the ratios \
             within rounds.",
            self.run.bench.rounds,
            options.seed,
            options.settle.as_millis()
        ));
        if !self.run.noise.noisy {
            about.push(self.run.noise.sentence());
        }
        if self
            .rows
            .iter()
            .any(|row| (1..100).contains(&row.seconds.len()))
        {
            about.push(
                "p99 of fewer than 100 measurements stands on the one or two slowest: it is what was seen, and its \
                 interval is too narrow."
                    .to_owned(),
            );
        }
        about.extend(self.run.bench.notes.iter().cloned());
        let mut sections = vec![self.latencies(), self.against()];
        if !self.loads.is_empty() {
            sections.push(self.under_load());
        }
        if !self.bursts.is_empty() {
            sections.push(self.in_bursts());
        }
        sections.extend([self.definitions(), self.machine()]);
        Report {
            title: match self.conclusive {
                true => "Cold and warm starts".to_owned(),
                false => "Cold and warm starts (nothing can be concluded)".to_owned(),
            },
            about,
            sections,
            data: vec![self.samples()],
            summary: self.summary(),
        }
    }

    fn latencies(&self) -> Section {
        let mut section = Section::new("How long calls take");
        let mut table = Table::new(
            "latencies",
            "Milliseconds to the last byte",
            &[
                "function", "backend", "way", "measured", "failed", "p50, ms", "p90, ms", "p99, ms",
            ],
        );
        for row in &self.rows {
            let target = &self.targets[row.target];
            let mut cells = vec![
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::text(row.way.name()),
                Cell::Count(row.seconds.len()),
                Cell::Count(row.faults),
            ];
            cells.extend(row.quantiles.iter().map(|q| Cell::between(ms(*q), 2)));
            table.row(cells);
        }
        section.tables.push(table);
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.stages) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| (rank(name), (*name).to_owned()));
        let mut columns = vec!["function", "backend", "way"];
        columns.extend(&names);
        let mut stages = Table::new(
            "stages",
            "Where the time goes, milliseconds: means of the middle half of the measurements",
            &columns,
        );
        for row in self.rows.iter().filter(|row| !row.stages.is_empty()) {
            let target = &self.targets[row.target];
            let mut cells = vec![
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::text(row.way.name()),
            ];
            cells.extend(names.iter().map(|name| {
                let found = row.stages.iter().find(|(of, _)| of == name);
                found.map_or(Cell::None, |(_, seconds)| Cell::Number(seconds * MS, 2))
            }));
            stages.row(cells);
        }
        section.tables.push(stages);
        section.text.push(
            "Stages of a start are those that site and runtime measured themselves (Server-Timing, /v1/pods); `wait` is \
             what is left of the wait for the pod, `around` what the caller had beyond all parts: the gateway's own time \
             and the way there and back. Of the baselines, `ready` is from the start of the container to its health, \
             `run` all of `docker run` until then."
                .to_owned(),
        );
        section.figures.push((
            "latencies".to_owned(),
            figures::latencies(&self.rows, self.targets),
        ));
        section.figures.push((
            "stages".to_owned(),
            figures::stages(&self.rows, self.targets),
        ));
        section
    }

    fn against(&self) -> Section {
        let mut section = Section::new("One against the other");
        let mut table = Table::new(
            "ratios",
            "Ratios within rounds",
            &["this", "over that", "pairs", "ratio", "aim", "told"],
        );
        for ratio in &self.ratios {
            let cells = match (ratio.aim, ratio.ratio) {
                (Some(aim), Some(told)) => {
                    [Cell::text(aim.text()), Cell::text(self.verdict(aim, told))]
                }
                _ => [Cell::None, Cell::None],
            };
            let mut row = vec![
                Cell::text(self.name(ratio.target, ratio.of, ratio)),
                Cell::text(self.name(ratio.base, ratio.to, ratio)),
                Cell::Count(ratio.ratio.map_or(0, |ratio| ratio.cases)),
                Cell::between(ratio.ratio, 3),
            ];
            row.extend(cells);
            table.row(row);
        }
        section.text.push(
            "An aim is met or missed where the whole interval says so. The aim for zygotes is for functions that load \
             libtorch; one that starts in milliseconds has nothing to gain by it."
                .to_owned(),
        );
        section.tables.push(table);
        section
    }

    fn verdict(&self, aim: results::Aim, told: Interval) -> &'static str {
        match self.conclusive {
            true => aim.verdict(told),
            false => "cannot be told",
        }
    }

    /// `hi on docker, cold`; a baseline is of the function alone.
    fn name(&self, target: usize, way: Way, ratio: &Ratio) -> String {
        let target_of = &self.targets[target];
        match way {
            Way::DockerRun | Way::EngineFloor | Way::BarePod => {
                format!("{}, {}", self.targets[ratio.target].function, way.name())
            }
            _ => format!("{}, {}", target_of.label(), way.name()),
        }
    }

    fn under_load(&self) -> Section {
        let mut section = Section::new("Under load");
        let options = self.run.bench.options;
        section.text.push(format!(
            "Warm pods, {} passes of {} s each. Closed-loop: {} connections, each sends when it has its answer; a stall \
             keeps it from asking, and its percentiles are too good. Open-loop: requests are due at a constant rate, and \
             each latency counts from the moment at which it was due. Intervals by the bootstrap of seconds.",
            options.load_passes,
            options.load_time.as_secs_f64(),
            options.connections
        ));
        let mut table = Table::new(
            "load",
            "Milliseconds under load",
            &[
                "function",
                "backend",
                "loop",
                "asked, 1/s",
                "answered, 1/s",
                "answers",
                "p50, ms",
                "p90, ms",
                "p99, ms",
                "generator late p99, ms",
                "not sent",
            ],
        );
        for row in &self.loads {
            let target = &self.targets[row.target];
            let number = |value: Option<f64>, decimals| {
                value.map_or(Cell::None, |value| Cell::Number(value, decimals))
            };
            let mut cells = vec![
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::text(row.kind),
                number(row.asked, 1),
                number(row.rate, 1),
                Cell::Count(row.answers),
            ];
            cells.extend(row.quantiles.iter().map(|q| Cell::between(ms(*q), 2)));
            cells.push(number(row.late_p99.map(|late| late * MS), 3));
            cells.push(Cell::Count(row.unsent));
            table.row(cells);
        }
        for load in self.run.loads.iter().filter(|load| load.failed > 0) {
            section.text.push(format!(
                "{}: {} requests failed; the first: {}.",
                self.targets[load.target].label(),
                load.failed,
                load.why.as_deref().unwrap_or("no reason told")
            ));
        }
        section.tables.push(table);
        section
            .figures
            .push(("load".to_owned(), figures::loads(&self.loads, self.targets)));
        section
    }

    fn in_bursts(&self) -> Section {
        let mut section = Section::new("Bursts on a cold function");
        section.text.push(
            "So many calls at once on a function without a pod, and one cold start alone, in the same rounds. Aim: p99 of \
             the burst under twice one cold start. What a burst can be is bounded by the pods that the function may have \
             and the calls that one takes at once."
                .to_owned(),
        );
        let mut table = Table::new(
            "bursts",
            "Bursts",
            &[
                "function",
                "backend",
                "calls",
                "rounds",
                "most pods",
                "may have",
                "calls a pod",
                "p50, ms",
                "p99, ms",
                "one cold start p50, ms",
                "p99 / one",
                "failed",
            ],
        );
        for row in &self.bursts {
            let target = &self.targets[row.target];
            table.row(vec![
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::Count(row.calls as usize),
                Cell::Count(row.rounds),
                Cell::Count(row.pods),
                Cell::Count(target.standby.max as usize),
                Cell::Count(target.spec.concurrency as usize),
                Cell::between(ms(row.together[0]), 1),
                Cell::between(ms(row.together[1]), 1),
                Cell::between(ms(row.single), 1),
                Cell::between(row.ratio, 2),
                Cell::Count(row.faults),
            ]);
        }
        for burst in self.run.bursts {
            if let Some(first) = burst.faults.first() {
                section.text.push(format!(
                    "{}: {} failed; the first: {first}.",
                    self.targets[burst.target].label(),
                    burst.faults.len()
                ));
            }
        }
        section.tables.push(table);
        section.figures.push((
            "bursts".to_owned(),
            figures::bursts(&self.bursts, self.targets),
        ));
        section
    }

    fn definitions(&self) -> Section {
        let mut section = Section::new("What is meant");
        let mut table = Table::new("definitions", "Ways", &["way", "meaning"]);
        for way in Way::ALL {
            table.row(vec![Cell::text(way.name()), Cell::text(way.definition())]);
        }
        section.tables.push(table);
        section.text.push(format!(
            "Too noisy to tell: the middle 80 % of the times of a fixed piece of arithmetic, timed before each \
             measurement, span more than {:.0} % of their median. Percentiles are linear between the two measurements \
             next to them (type 7 of Hyndman and Fan).",
            NOISY * 100.0
        ));
        section
    }

    fn machine(&self) -> Section {
        let mut section = Section::new("Where it was measured");
        let mut table = Table::new("machine", "Machine", &["what", "is"]);
        for (name, value) in self.run.machine.facts() {
            table.row(vec![Cell::text(name), Cell::text(value)]);
        }
        section.tables.push(table);
        let mut table = Table::new(
            "targets",
            "Functions",
            &[
                "function",
                "backend",
                "site",
                "runtime",
                "emulated",
                "input",
                "body, bytes",
                "image",
                "command",
            ],
        );
        for target in self.targets {
            table.row(vec![
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::text(&target.site),
                Cell::text(&target.runtime),
                Cell::text(match target.emulated.as_str() {
                    "" => "nothing",
                    emulated => emulated,
                }),
                Cell::text(format!("{:?}", target.spec.input).to_lowercase()),
                Cell::Count(target.outer.body.len()),
                Cell::text(target.spec.image.clone().unwrap_or_default()),
                Cell::text(target.spec.command.join(" ")),
            ]);
        }
        section.tables.push(table);
        section
    }

    /// Every measurement.
    fn samples(&self) -> Table {
        let samples = &self.run.bench.samples;
        let mut stages: Vec<&str> = Vec::new();
        for sample in samples {
            for name in sample.timing.stages.keys() {
                if !stages.contains(&name.as_str()) {
                    stages.push(name);
                }
            }
        }
        stages.sort_by_key(|name| (rank(name), (*name).to_owned()));
        let parts = ["queueing", "transfer", "deployment", "processing"];
        let mut columns: Vec<String> = [
            "order",
            "round",
            "function",
            "backend",
            "way",
            "ms",
            "start",
            "pod",
            "calibration_ms",
        ]
        .map(str::to_owned)
        .to_vec();
        columns.extend(parts.iter().map(|part| format!("{part}_ms")));
        columns.extend(stages.iter().map(|stage| format!("start_{stage}_ms")));
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut table = Table::new("samples", "Every measurement", &names);
        let number = |seconds: Option<&f64>| {
            seconds.map_or(Cell::None, |seconds| Cell::Number(seconds * MS, 4))
        };
        for sample in samples {
            let target = &self.targets[sample.target];
            let mut row = vec![
                Cell::Count(sample.order),
                Cell::Count(sample.round),
                Cell::text(&target.function),
                Cell::text(&target.backend),
                Cell::text(sample.way.name()),
                number(Some(&sample.seconds)),
                Cell::text(sample.start.clone().unwrap_or_default()),
                Cell::text(sample.pod.clone().unwrap_or_default()),
                number(Some(&sample.calibration_s)),
            ];
            row.extend(
                parts
                    .iter()
                    .map(|part| number(sample.timing.parts.get(*part))),
            );
            row.extend(
                stages
                    .iter()
                    .map(|name| number(sample.timing.stages.get(*name))),
            );
            table.row(row);
        }
        table
    }

    /// For programs; times in milliseconds.
    fn summary(&self) -> Value {
        let (bench, options) = (self.run.bench, self.run.bench.options);
        let of = |index: usize| {
            let target = &self.targets[index];
            json!({"function": target.function, "backend": target.backend, "runtime": target.runtime,
                "emulated": target.emulated})
        };
        let results: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut value = of(row.target);
                value["way"] = json!(row.way);
                value["failed"] = json!(row.faults);
                for ((name, _), interval) in QUANTILES.iter().zip(&row.quantiles) {
                    value[format!("{name}_ms")] = json!(ms(*interval));
                }
                let stages: serde_json::Map<String, Value> = row
                    .stages
                    .iter()
                    .map(|(name, seconds)| (name.clone(), json!(seconds * MS)))
                    .collect();
                value["stages_ms"] = Value::Object(stages);
                value["all_ms"] = row.seconds.iter().map(|s| s * MS).collect();
                value
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|ratio| {
                let target = of(ratio.target);
                let base = of(ratio.base);
                json!({
                    "function": target["function"], "backend": target["backend"], "of": ratio.of,
                    "to": ratio.to, "to_backend": base["backend"], "ratio": ratio.ratio,
                    "aim": ratio.aim.map(results::Aim::text),
                    "told": ratio.aim.zip(ratio.ratio).map(|(aim, told)| self.verdict(aim, told)),
                })
            })
            .collect();
        let loads: Vec<Value> = self
            .loads
            .iter()
            .map(|row| {
                let mut value = of(row.target);
                value["loop"] = json!(row.kind);
                value["asked_per_s"] = json!(row.asked);
                value["answered_per_s"] = json!(row.rate);
                value["answers"] = json!(row.answers);
                for ((name, _), interval) in QUANTILES.iter().zip(&row.quantiles) {
                    value[format!("{name}_ms")] = json!(ms(*interval));
                }
                value["generator_late_p99_ms"] = json!(row.late_p99.map(|late| late * MS));
                value["unsent"] = json!(row.unsent);
                value
            })
            .collect();
        let bursts: Vec<Value> = self
            .bursts
            .iter()
            .map(|row| {
                let mut value = of(row.target);
                let target = &self.targets[row.target];
                value["calls"] = json!(row.calls);
                value["rounds"] = json!(row.rounds);
                value["most_pods"] = json!(row.pods);
                value["may_have_pods"] = json!(target.standby.max);
                value["p50_ms"] = json!(ms(row.together[0]));
                value["p99_ms"] = json!(ms(row.together[1]));
                value["one_cold_p50_ms"] = json!(ms(row.single));
                value["p99_to_one_cold"] = json!(row.ratio);
                value["failed"] = json!(row.faults);
                value
            })
            .collect();
        let definitions: serde_json::Map<String, Value> = Way::ALL
            .iter()
            .map(|way| (way.name().to_owned(), json!(way.definition())))
            .collect();
        json!({
            "conclusive": self.conclusive,
            "cut_short": self.run.cut_short,
            "rounds_asked": options.rounds,
            "rounds": bench.rounds,
            "seed": options.seed,
            "own_gateway": self.run.machine.own_gateway,
            "machine": self.run.machine,
            "noise": self.run.noise,
            "notes": bench.notes,
            "definitions": definitions,
            "results": results,
            "ratios": ratios,
            "load": loads,
            "bursts": bursts,
        })
    }

    /// For the terminal.
    pub(super) fn text(&self) -> String {
        let mut out = self.reservations();
        let shown = |interval: Option<Interval>| {
            ms(interval).map_or_else(
                || "-".to_owned(),
                |i| {
                    format!(
                        "{} [{}, {}]",
                        digits(i.value),
                        digits(i.low),
                        digits(i.high)
                    )
                },
            )
        };
        let rows = self.rows.iter().map(|row| {
            let target = &self.targets[row.target];
            let warm = self.ratios.iter().find(|ratio| {
                (ratio.target, ratio.of, ratio.to) == (row.target, row.way, Way::Warm)
            });
            let mut cells = vec![
                target.function.clone(),
                target.backend.clone(),
                row.way.name().to_owned(),
                row.seconds.len().to_string(),
                row.faults.to_string(),
            ];
            cells.extend(row.quantiles.map(shown));
            cells.push(plain_ratio(warm.and_then(|ratio| ratio.ratio)));
            cells
        });
        out.push(table(
            &[
                "FUNCTION", "BACKEND", "WAY", "N>", "FAILED>", "P50, MS>", "P90, MS>", "P99, MS>",
                "TO WARM>",
            ],
            rows,
        ));
        let aimed = self.ratios.iter().filter_map(|ratio| {
            let (aim, told) = ratio.aim.zip(ratio.ratio)?;
            Some(vec![
                self.name(ratio.target, ratio.of, ratio),
                self.name(ratio.base, ratio.to, ratio),
                plain_ratio(Some(told)),
                aim.text(),
                self.verdict(aim, told).to_owned(),
            ])
        });
        let aimed: Vec<Vec<String>> = aimed.collect();
        if !aimed.is_empty() {
            out.push(table(
                &["THIS", "OVER THAT", "RATIO>", "AIM", "TOLD"],
                aimed,
            ));
        }
        if !self.loads.is_empty() {
            let rows = self.loads.iter().map(|row| {
                let target = &self.targets[row.target];
                let rate = |rate: Option<f64>| {
                    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
                };
                let mut cells = vec![
                    target.function.clone(),
                    target.backend.clone(),
                    row.kind.to_owned(),
                    rate(row.asked),
                    rate(row.rate),
                ];
                cells.extend(row.quantiles.map(shown));
                cells
            });
            out.push(table(
                &[
                    "FUNCTION",
                    "BACKEND",
                    "LOOP",
                    "ASKED/S>",
                    "ANSWERED/S>",
                    "P50, MS>",
                    "P90, MS>",
                    "P99, MS>",
                ],
                rows,
            ));
        }
        if !self.bursts.is_empty() {
            let rows = self.bursts.iter().map(|row| {
                let target = &self.targets[row.target];
                vec![
                    target.function.clone(),
                    target.backend.clone(),
                    format!("burst of {}", row.calls),
                    row.pods.to_string(),
                    shown(row.together[0]),
                    shown(row.together[1]),
                    shown(row.single),
                    plain_ratio(row.ratio),
                ]
            });
            out.push(table(
                &[
                    "FUNCTION",
                    "BACKEND",
                    "",
                    "PODS>",
                    "P50, MS>",
                    "P99, MS>",
                    "ONE COLD, MS>",
                    "P99 TO ONE>",
                ],
                rows,
            ));
        }
        out.extend(self.run.bench.notes.iter().cloned());
        if !self.run.noise.noisy {
            out.push(self.run.noise.sentence());
        }
        out.join("\n\n")
    }
}

fn ms(interval: Option<Interval>) -> Option<Interval> {
    interval.map(|interval| Interval {
        value: interval.value * MS,
        low: interval.low * MS,
        high: interval.high * MS,
        cases: interval.cases,
    })
}

fn plain_ratio(ratio: Option<Interval>) -> String {
    ratio.map_or_else(
        || "-".to_owned(),
        |i| {
            format!(
                "{} [{}, {}]",
                digits(i.value),
                digits(i.low),
                digits(i.high)
            )
        },
    )
}

/// Three figures or so.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
