//! What the process takes of the machine, under the names that every Prometheus client uses; read when it is asked for.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Gives the `process_*` metrics.
#[derive(Debug)]
pub(super) struct Vitals;

/// What `/proc/self/stat` tells.
#[derive(Default)]
struct Stat {
    cpu_s: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    start_s: f64,
}

impl Stat {
    /// `None` where there is no `/proc`.
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program is in parentheses, and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "exact for centuries")]
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        // Fields of proc(5), less the two before the parenthesis and counted from 0.
        let (user, system, started) = (number(11)?, number(12)?, number(19)?);
        Some(Self {
            cpu_s: seconds(user + system),
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * rustix::param::page_size() as u64,
            start_s: boot_s()? + seconds(started),
        })
    }
}

/// When the machine was started, in seconds since the Unix epoch.
fn boot_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Open descriptors.
fn open_fds() -> Option<u64> {
    // One of them is that of the folder itself.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

impl Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetricDyn| {
            metric.put(&mut encoder, name, help)
        };
        let stat = Stat::read().unwrap_or_default();
        put("process_cpu_seconds", "CPU time", &ConstCounter::new(stat.cpu_s))?;
        put("process_resident_memory_bytes", "Memory in RAM", &gauge(stat.resident_bytes))?;
        put("process_virtual_memory_bytes", "Memory addressed", &gauge(stat.virtual_bytes))?;
        put("process_start_time_seconds", "Start, Unix time", &ConstGauge::new(stat.start_s))?;
        put("process_open_fds", "Open files and sockets", &gauge(open_fds().unwrap_or(0)))?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        put("process_max_fds", "Most files and sockets", &gauge(limit.unwrap_or(u64::MAX)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double to whoever reads it")]
fn gauge(value: u64) -> ConstGauge<f64> {
    ConstGauge::new(value as f64)
}

/// A metric of any type.
trait EncodeMetricDyn {
    fn put(&self, to: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> EncodeMetricDyn for M {
    fn put(&self, to: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(to.encode_descriptor(name, help, None, self.metric_type())?)
    }
}
