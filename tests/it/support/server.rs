//! The server under test: the real binary, a data folder of its own, port 0.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A running `sessile serve`; killed and reaped when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub base: String,
    /// Where its sessions and its journal are.
    pub data: PathBuf,
    _own_data: Option<tempfile::TempDir>,
}

/// How to start a [`Server`].
#[derive(Default)]
pub struct Options {
    env: Vec<(String, String)>,
    args: Vec<String>,
}

impl Options {
    /// Sets one setting by its environment variable, as in `SESSILE__JOURNAL__SEGMENT_BYTES`.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a flag of `sessile serve`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Starts the server in a data folder of its own that goes when it goes.
    pub fn start(self) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let mut server = self.start_in(dir.path());
        server._own_data = Some(dir);
        server
    }

    /// Starts the server on `data` and waits until it accepts.
    pub fn start_in(self, data: &Path) -> Server {
        self.try_start_in(data).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts the server on `data`; its log if it ends before it accepts.
    pub fn try_start_in(self, data: &Path) -> Result<Server, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessile"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(&self.args)
            // Small segments, so that tests see many of them and start fast.
            .env("SESSILE__JOURNAL__SEGMENT_BYTES", "1048576")
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(data.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Some(base) = line.trim().strip_prefix("sessile listening on ") else {
            child.wait().unwrap();
            return Err(std::fs::read_to_string(data.with_extension("log")).unwrap());
        };
        Ok(Server { child, base: base.to_owned(), data: data.to_owned(), _own_data: None })
    }
}

impl Server {
    /// A server with the defaults of the tests.
    pub fn start() -> Self {
        Options::default().start()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `ws://…` + `path`
    pub fn ws_url(&self, path: &str) -> String {
        format!("ws{}{path}", self.base.strip_prefix("http").unwrap())
    }

    /// SIGKILL, then waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the process to end and gives its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap()
    }

    /// Resident memory in KiB, from `/proc`.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
        if !std::thread::panicking() {
            drop(std::fs::remove_file(self.data.with_extension("log")));
        }
    }
}
