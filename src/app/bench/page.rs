//! Pages of a long history: the latest one, and one far back, which must not cost more than twice.

use std::net::SocketAddr;

use anyhow::ensure;

use crate::app::bench::client::{Http, get, post};
use crate::app::bench::load;
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row, progress};
use crate::app::bench::write::{append_to, send_exactly, timed};

const SESSION: &str = "long";
const PAGE_MESSAGES: usize = 25;
/// Named messages at the beginning of the history. Pages before the later ones are read in turn,
/// so that it is not one page that is hot.
const MARKED: usize = 200;
const MARKED_FROM: usize = 100;

/// Fills one history with `depth` messages, then reads its tail and its beginning.
pub(super) async fn measure(address: SocketAddr, options: &Options) -> anyhow::Result<Vec<Row>> {
    let depth = u64::from(options.depth);
    progress(&format!("filling one history with {depth} messages"));
    let mut client = Http::connect(address).await?;
    for n in 0..MARKED {
        let body = format!(r#"{{"id":"mark-{n}","role":"user","content":"the {n}th message"}}"#);
        let path = format!("/v1/sessions/{SESSION}/messages");
        client.json(&post(&path, &body)).await?;
    }
    send_exactly(address, options, depth, &load::repeat(append_to(SESSION))).await?;

    let tail = get(&page_path(None));
    let deep: Vec<_> = (MARKED_FROM..MARKED).map(|n| get(&page_path(Some(n)))).collect();
    check(&mut client, &tail, None).await?;
    check(&mut client, &deep[0], Some(MARKED_FROM - 1)).await?;

    let tail = timed(address, options, &load::repeat(tail)).await?;
    let deep = timed(address, options, &load::rotate(deep)).await?;
    let cost = Judged::at_most(tail.rate / deep.rate, "x the tail", 2.0);
    Ok(vec![
        Row::rate("page of 25, at the tail", &tail),
        Row::rate(format!("page of 25, {depth} messages back"), &deep).with_judged(Some(cost)),
    ])
}

fn page_path(before: Option<usize>) -> String {
    let path = format!("/v1/sessions/{SESSION}/messages?limit={PAGE_MESSAGES}");
    before.map_or_else(|| path.clone(), |mark| format!("{path}&before=mark-{mark}"))
}

/// Makes sure that a page is the page that was meant: full, and ending with the message `last`.
async fn check(client: &mut Http, request: &[u8], last: Option<usize>) -> anyhow::Result<()> {
    let page = client.json(request).await?;
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    ensure!(items.len() == PAGE_MESSAGES, "a page of {} messages: {page}", items.len());
    if let Some(mark) = last {
        let id = &items[PAGE_MESSAGES - 1]["id"];
        ensure!(*id == format!("mark-{mark}"), "a page ends with {id}, not with mark-{mark}");
    }
    Ok(())
}
