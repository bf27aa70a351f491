//! The trace that the shim of `fault.c` records, decoded: what reached the disk and the sockets, in true order.

use std::ops::Range;
use std::path::Path;

/// A decoded trace. An operation's index in `ops` is its time.
pub struct Trace {
    bytes: Vec<u8>,
    pub ops: Vec<Op>,
}

/// One recorded operation. `file` and `socket` are ids of the shim, `data` is for [`Trace::data`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Open {
        file: u32,
        path: String,
        created: bool,
        truncated: bool,
    },
    Write {
        file: u32,
        at: u64,
        data: Range<usize>,
    },
    Resize {
        file: u32,
        size: u64,
    },
    /// The file is at least this long from now on.
    Allocate {
        file: u32,
        size: u64,
    },
    SyncBegin {
        what: Synced,
        token: u64,
    },
    SyncEnd {
        token: u64,
        failed: bool,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    CreateFolder {
        path: String,
    },
    /// About to be given to the kernel.
    Send {
        socket: u32,
        data: Range<usize>,
    },
    /// The kernel took this much of what was given to it last.
    Sent {
        socket: u32,
        bytes: usize,
    },
    Received {
        socket: u32,
        data: Range<usize>,
    },
}

/// What a sync makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Synced {
    File(u32),
    Folder(String),
    Everything,
}

const HEAD_BYTES: usize = 20;
const CREATED: u8 = 1;
const TRUNCATED: u8 = 2;
const FOLDER: u8 = 4;
const FAILED: u8 = 8;

impl Trace {
    /// Reads and decodes a trace file.
    pub fn load(path: &Path) -> Self {
        Self::decode(std::fs::read(path).unwrap())
    }

    fn decode(bytes: Vec<u8>) -> Self {
        let mut ops = Vec::new();
        let mut at = 0;
        // The process was killed: the last record may be cut.
        while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
            let number = |range: Range<usize>| {
                head[range].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
            };
            let length = |range| usize::try_from(number(range)).unwrap();
            let path_end = at + HEAD_BYTES + length(2..4);
            let data = path_end..path_end + length(16..20);
            if data.end > bytes.len() {
                break;
            }
            let path = String::from_utf8(bytes[at + HEAD_BYTES..path_end].to_vec()).unwrap();
            at = data.end;
            ops.push(op(
                head[0],
                head[1],
                u32::try_from(number(4..8)).unwrap(),
                number(8..16),
                path,
                data,
            ));
        }
        Self { bytes, ops }
    }

    /// The bytes that an operation carried.
    pub fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// A trace made by hand.
    pub fn of(build: impl FnOnce(&mut Vec<u8>, &mut Vec<Op>)) -> Self {
        let mut trace = Self { bytes: Vec::new(), ops: Vec::new() };
        build(&mut trace.bytes, &mut trace.ops);
        trace
    }
}

fn op(kind: u8, flags: u8, id: u32, at: u64, path: String, data: Range<usize>) -> Op {
    let pair = |path: &str| {
        let (from, to) = path.split_once('\n').unwrap();
        (from.to_owned(), to.to_owned())
    };
    match kind {
        1 => Op::Open {
            file: id,
            path,
            created: flags & CREATED != 0,
            truncated: flags & TRUNCATED != 0,
        },
        2 => Op::Write { file: id, at, data },
        3 => Op::Resize { file: id, size: at },
        4 => Op::Allocate { file: id, size: at },
        5 if id == 0 => Op::SyncBegin { what: Synced::Everything, token: at },
        5 if flags & FOLDER != 0 => Op::SyncBegin { what: Synced::Folder(path), token: at },
        5 => Op::SyncBegin { what: Synced::File(id), token: at },
        6 => Op::SyncEnd { token: at, failed: flags & FAILED != 0 },
        7 => {
            let (from, to) = pair(&path);
            Op::Rename { from, to }
        }
        8 => Op::Unlink { path },
        9 => Op::CreateFolder { path },
        10 => {
            let (from, to) = pair(&path);
            Op::Link { from, to }
        }
        11 => Op::Send { socket: id, data },
        12 => Op::Sent { socket: id, bytes: usize::try_from(at).unwrap() },
        13 => Op::Received { socket: id, data },
        14 => panic!("{path} is written through a shared map, which the trace cannot see"),
        _ => panic!("the shim wrote a record of kind {kind}"),
    }
}
