//! What `sessile bench` can be asked: its flags and the names of its workloads.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum as _;

/// Flags of `sessile bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,

    /// End with an error if a target is missed.
    #[arg(long)]
    pub check: bool,

    /// Run only these workloads.
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',', value_name = "NAME")]
    pub only: Vec<Workload>,

    /// Length of each timed workload, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub seconds: u16,

    /// Connections that send requests at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub connections: u16,

    /// The program to measure [default: this one].
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,

    /// Folder to work in, on the disk to measure; a folder is made there and removed [default: .].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Messages between the tail of the long history and the page at depth.
    #[arg(long, default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub depth: u32,

    /// Sessions asleep at once when the memory of one is measured.
    #[arg(long, default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub sleepers: u32,

    /// Sessions open at once when the memory of one is measured.
    #[arg(long, default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(50..=50_000))]
    pub open: u32,

    /// Idle sockets at once when the memory of one is measured.
    #[arg(long, default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(50..=50_000))]
    pub sockets: u32,

    /// Sleeping sessions that are woken, one after the other.
    #[arg(long, default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub wakes: u32,

    /// Sessions that are touched before the server is killed.
    #[arg(long, default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub touched: u32,
}

/// The workloads, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// 4 KiB overwritten and made durable, one at a time: the disk's limit.
    Disk,
    /// `GET /livez`: the limit of the front and of this client.
    Livez,
    /// Appends to one session.
    Hot,
    /// Appends to 1,000 sessions in turn.
    Many,
    /// The first message of sessions that nobody has named before.
    New,
    /// How late other programs see in the files of 1,000 busy sessions what was acknowledged.
    Visible,
    /// A page of 25 messages: the latest of a long history, and one far back.
    Page,
    /// Messages delivered to 1, 10, 100 and 1,000 sockets of one session.
    FanOut,
    /// 50 turns that stream at once, and 200: how much later than the model sends it a reader has a delta.
    Turns,
    /// The first page of a session that sleeps.
    Wake,
    /// Memory that a sleeping session takes.
    MemorySleeping,
    /// Memory that a socket takes while nothing happens.
    MemorySocket,
    /// Memory that an open session takes.
    MemoryOpen,
    /// Starts: after kill -9 with many sessions touched, again, and after SIGTERM.
    Restart,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().ok_or(fmt::Error)?;
        f.write_str(value.get_name())
    }
}

impl Options {
    /// Whether `workload` was asked for.
    pub(super) fn wants(&self, workload: Workload) -> bool {
        self.only.is_empty() || self.only.contains(&workload)
    }

    /// Whether any of `workloads` was asked for.
    pub(super) fn wants_any(&self, workloads: &[Workload]) -> bool {
        workloads.iter().any(|workload| self.wants(*workload))
    }
}
