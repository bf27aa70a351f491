//! The output gate, watched from outside: no text goes into a socket before it is on the disk (promise P3, I16).

use std::collections::HashMap;
use std::collections::HashSet;

use crate::support::fault::disk::Disk;
use crate::support::fault::trace::Op;
use crate::support::fault::trace::Trace;
use crate::support::ledger::CANARY;
use crate::support::ledger::chance::Chance;

const CANARY_BYTES: usize = CANARY.len() + 16;

/// What came of watching a trace.
pub struct Gate {
    /// How many sends carried stored text.
    pub checked: usize,
    /// Text that was sent before it was durable: the time and the canary.
    pub early: Vec<(usize, String)>,
}

/// Every unique text in `bytes`.
pub fn canaries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.windows(CANARY_BYTES).filter(|window| {
        window.starts_with(CANARY.as_bytes())
            && window[CANARY.len()..].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Compares each send with what is durable at its moment.
pub fn watch(trace: &Trace) -> Gate {
    let mut gate = Gate { checked: 0, early: Vec::new() };
    let mut disk = Disk::new(Chance::new(1));
    let mut files: HashMap<u32, Vec<u8>> = HashMap::new();
    // Where each text was written, and when.
    let mut written: HashMap<Vec<u8>, Vec<(usize, usize)>> = HashMap::new();
    let mut elsewhere = HashSet::new();
    for (time, op) in trace.ops.iter().enumerate() {
        disk.step(trace);
        match op {
            // The catalogue is no place to keep a message.
            Op::Open { file, path, .. } if path.starts_with("node.db") => {
                elsewhere.insert(*file);
            }
            Op::Write { file, at, data } if !elsewhere.contains(file) => {
                let content = files.entry(*file).or_default();
                for text in store(content, usize::try_from(*at).unwrap(), trace.data(data)) {
                    written.entry(text).or_default().push((disk.file(*file), disk.now()));
                }
            }
            Op::Send { data, .. } => {
                let texts: HashSet<&[u8]> = canaries(trace.data(data)).collect();
                gate.checked += usize::from(!texts.is_empty());
                for text in texts {
                    let places = written.get(text).map_or(&[][..], Vec::as_slice);
                    if !places.iter().any(|(file, since)| disk.is_durable(*file, *since)) {
                        gate.early.push((time, String::from_utf8_lossy(text).into_owned()));
                    }
                }
            }
            _ => {}
        }
    }
    gate
}

/// Puts a write into what is known of its file; the texts that this completes.
fn store(content: &mut Vec<u8>, at: usize, data: &[u8]) -> Vec<Vec<u8>> {
    let end = at + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
    let from = at.saturating_sub(CANARY_BYTES - 1);
    let to = content.len().min(end + CANARY_BYTES - 1);
    canaries(&content[from..to]).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    //! The gate's own test: it sees a send that comes too early, and no other.

    use std::ops::Range;

    use super::watch;
    use crate::support::fault::trace::Op;
    use crate::support::fault::trace::Synced;
    use crate::support::fault::trace::Trace;

    #[derive(Clone, Copy)]
    enum Step {
        /// The first or the second half of the text.
        Write(bool),
        SyncBegin,
        SyncEnd,
        Send,
    }

    fn early(steps: &[Step]) -> usize {
        let trace = Trace::of(|bytes, ops| {
            bytes.extend(b"canary-0123456789abcdef");
            ops.push(Op::Open {
                file: 1,
                path: "journal/1.seg".to_owned(),
                created: true,
                truncated: false,
            });
            for step in steps {
                ops.push(op(*step));
            }
        });
        watch(&trace).early.len()
    }

    fn op(step: Step) -> Op {
        let half = |range: Range<usize>| Op::Write {
            file: 1,
            at: u64::try_from(range.start).unwrap(),
            data: range,
        };
        match step {
            Step::Write(true) => half(0..10),
            Step::Write(false) => half(10..23),
            Step::SyncBegin => Op::SyncBegin { what: Synced::File(1), token: 1 },
            Step::SyncEnd => Op::SyncEnd { token: 1, failed: false },
            Step::Send => Op::Send { socket: 2, data: 0..23 },
        }
    }

    #[test]
    fn an_early_send_is_seen_and_a_late_one_is_fine() {
        use Step::*;
        let (first, second) = (Write(true), Write(false));
        assert_eq!(early(&[first, second, SyncBegin, SyncEnd, Send]), 0);
        assert_eq!(early(&[first, second, SyncBegin, Send, SyncEnd]), 1);
        assert_eq!(early(&[first, SyncBegin, second, SyncEnd, Send]), 1);
        assert_eq!(early(&[Send]), 1);
    }
}
