//! How late another program sees in a session's file what was acknowledged, while 1,000 sessions are written to.
//!
//! A sampler asks the server how far a session is, and then reads the file, as `sqlite3` would, until it is that far.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::app::bench::client::{Http, get};
use crate::app::bench::clock::{micros_since, now};
use crate::app::bench::load;
use crate::app::bench::load::{Latency, Limit};
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row};
use crate::app::bench::server::Server;
use crate::app::bench::write;
use crate::base::Key;
use crate::base::ids::Name;
use crate::storage;
use crate::storage::folder;

/// Who looks at the same time.
const SAMPLERS: u32 = 8;
/// Pause between two looks at a file.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// From here on every session has a file (`storage.file_delay_ms`).
const WARM_UP: Duration = Duration::from_secs(5);
/// Seconds that are measured at least.
const SECONDS_MIN: u16 = 5;
/// What may pass until a file is up to date: `storage.commit_delay_ms` and half a second, in milliseconds.
const LATE_MS_MAX: f64 = 1_500.0;

/// Writes to 1,000 sessions of `server`, whose data is in `data`, and looks at their files.
pub(super) async fn measure(
    server: &Server,
    data: &Path,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let address = server.address;
    let source = write::to_many("visible");
    let time = Duration::from_secs(options.seconds.max(SECONDS_MIN).into());
    let limit = Limit { time: WARM_UP + time, requests: u64::MAX };
    let mut samplers = JoinSet::new();
    for n in 0..SAMPLERS {
        samplers.spawn(sample(address, data.to_owned(), n, time));
    }
    let look = async {
        let mut micros = Vec::new();
        while let Some(done) = samplers.join_next().await {
            micros.append(&mut done.context("a sampler of the bench")??);
        }
        anyhow::Ok(micros)
    };
    let (written, micros) =
        tokio::try_join!(load::run(address, options.connections, limit, &source), look)?;
    let latency = Latency::from_micros(micros);
    let most = latency.ms_at(1_000);
    Ok(vec![
        Row::new("append, 1,000 sessions, while their files are read", written.rate, "/s"),
        Row::new("until a file shows it, at most", most, "ms")
            .with_latency(&latency)
            .with_judged(Some(Judged::at_most(most, "ms", LATE_MS_MAX))),
    ])
}

async fn sample(
    address: std::net::SocketAddr,
    data: PathBuf,
    n: u32,
    time: Duration,
) -> anyhow::Result<Vec<u32>> {
    sleep(WARM_UP).await;
    let mut client = Http::connect(address).await?;
    let (begun, mut at, mut micros) = (now(), n, Vec::new());
    while begun.elapsed() < time {
        at = (at + 137) % write::SESSIONS;
        let id = format!("visible-{at}");
        let session = client.json(&get(&format!("/v1/sessions/{id}"))).await?;
        let told = now();
        let seq = session["lastSeq"].as_u64().context("a session without `lastSeq`")?;
        let (workspace, name) = (Name::new("default")?, Name::new(id)?);
        let key = Key::session(&workspace, &name);
        let path = folder::file_of(&data, key.kind(), key.hash());
        loop {
            let path = path.clone();
            let look = tokio::task::spawn_blocking(move || storage::file::last_seq(&path));
            if look.await.context("a look at a file")?? >= seq {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        micros.push(micros_since(told));
    }
    Ok(micros)
}
