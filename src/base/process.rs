//! A process and all that it starts: a group that never outlives the value that stands for it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What is kept of the error output, in bytes: its end.
const ERRORS_BYTES_MAX: usize = 4 << 10;

/// This program, whatever became of its file.
const OWN: &str = "/proc/self/exe";
/// The first argument with which this program becomes another one.
const TETHERED: &str = "__tethered-to";
/// The first argument with which this program waits for the end of its input, to kill the groups that it was told of.
const WATCH: &str = "__watch";

static TETHERS: AtomicBool = AtomicBool::new(false);
/// The input of the watcher.
static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// From now on [`command`] gives programs that end with this process, however it ends, with all that they start. The program
/// must call [`become_another`] before it looks at its arguments. On Linux alone; elsewhere nothing changes.
pub fn tether() {
    TETHERS.store(cfg!(target_os = "linux"), Ordering::Relaxed);
}

/// Whether this process was started to outlive its terminal, as `nohup` does it; false where the system does not tell.
#[must_use]
pub fn ignores_hangup() -> bool {
    const HANGUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
    ignored.is_some_and(|signals| signals & HANGUP != 0)
}

/// A command that runs `program`.
///
/// The thread that starts it must live as long as it may run: that is what the system watches.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    if !TETHERS.load(Ordering::Relaxed) {
        return Command::new(program);
    }
    let mut command = Command::new(OWN);
    command.arg(TETHERED).arg(std::process::id().to_string()).arg(program);
    command
}

/// Becomes what `arguments` say, if they come from here: a program that is killed when the process that started it is gone,
/// or the watcher of such a process. `None`: the arguments are for somebody else.
///
/// # Errors
///
/// Why the program cannot be run.
pub fn become_another(arguments: impl IntoIterator<Item = OsString>) -> Option<io::Result<()>> {
    let mut arguments = arguments.into_iter().skip(1);
    let first = arguments.next()?;
    if first == WATCH {
        watch(io::stdin().lock());
        return Some(Ok(()));
    }
    let (parent, program) = (arguments.next().filter(|_| first == TETHERED)?, arguments.next()?);
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return Some(Err(error.into()));
    }
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref().map(OsStr::new) != Some(&parent) {
        return Some(Err(io::Error::other("who started it is gone")));
    }
    Some(Err(std::process::Command::new(program).args(arguments).exec()))
}

/// Kills the groups that `input` names, when it ends: `+` begins the number of a group that lives, `-` of one that is gone.
fn watch(input: impl io::BufRead) {
    let mut groups = HashSet::new();
    for line in input.lines().map_while(Result::ok) {
        let (Some(sign), Some(number)) = (line.get(..1), line.get(1..)) else { continue };
        let Some(leader) = number.parse().ok().and_then(Pid::from_raw) else { continue };
        if sign == "+" {
            groups.insert(leader);
        } else {
            groups.remove(&leader);
        }
    }
    for leader in groups {
        if let Err(error) = rustix::process::kill_process_group(leader, Signal::KILL) {
            tracing::debug!("a group of processes cannot be killed: {error}");
        }
    }
}

/// A process that outlives this one, to end what it leaves behind.
struct Watcher {
    input: std::process::ChildStdin,
    _process: std::process::Child,
}

impl Watcher {
    fn start() -> io::Result<Self> {
        let mut process = std::process::Command::new(OWN)
            .arg(WATCH)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Who interrupts this one at its terminal does not mean the watcher.
            .process_group(0)
            .spawn()?;
        let input = process.stdin.take().ok_or_else(|| io::Error::other("it has no input"))?;
        Ok(Self { input, _process: process })
    }
}

/// Tells the watcher of a group; starts the watcher with the first.
fn tell(sign: char, leader: Pid) {
    if !TETHERS.load(Ordering::Relaxed) {
        return;
    }
    let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    let told = match watcher.take().map_or_else(Watcher::start, Ok) {
        Ok(mut told) => {
            let line = format!("{sign}{}\n", leader.as_raw_nonzero());
            told.input.write_all(line.as_bytes()).map(|()| *watcher = Some(told))
        }
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::warn!("nobody watches what programs leave behind: {error}");
    }
}

/// A running process that leads a process group of its own.
///
/// Dropping it kills the group at once. [`Group::stop`] asks politely first and waits until the process is gone.
pub struct Group {
    child: Child,
    leader: Option<Pid>,
    errors: JoinHandle<Vec<u8>>,
}

impl Group {
    /// Starts `command`; gives its input and output as well.
    ///
    /// # Errors
    ///
    /// Why it cannot be started. Must be called inside a Tokio runtime.
    pub fn start(mut command: Command) -> io::Result<(Self, ChildStdin, ChildStdout)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(leader) = leader {
            tell('+', leader);
        }
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let errors = tokio::runtime::Handle::current().spawn(drain(stderr));
        Ok((Self { child, leader, errors }, stdin, stdout))
    }

    /// Waits at most `patience` for the process to end by itself, then stops it. Gives its exit code and the end of its
    /// error output.
    pub async fn leave(mut self, patience: Duration) -> (Option<i32>, String) {
        if timeout(patience, self.child.wait()).await.is_err() {
            return self.stop(patience).await;
        }
        self.gone().await
    }

    /// Interrupts the process, and kills it and all that it started if it is still there after `patience`.
    pub async fn stop(mut self, patience: Duration) -> (Option<i32>, String) {
        if let Some(leader) = self.leader
            && let Err(error) = rustix::process::kill_process(leader, Signal::INT)
        {
            tracing::debug!("a process cannot be interrupted: {error}");
        }
        if timeout(patience, self.child.wait()).await.is_err() {
            self.kill();
        }
        self.gone().await
    }

    /// Ends what the process left behind, and its helpers.
    async fn gone(mut self) -> (Option<i32>, String) {
        self.kill();
        let code = self.child.wait().await.ok().and_then(|status| status.code());
        if let Some(leader) = self.leader.take() {
            tell('-', leader);
        }
        let errors = timeout(Duration::from_secs(1), &mut self.errors).await;
        let errors = errors.ok().and_then(Result::ok).unwrap_or_default();
        (code, String::from_utf8_lossy(&errors).trim().to_owned())
    }

    /// Kills the whole group. Without members, or where its number is not known any more, nothing happens.
    fn kill(&self) {
        if let Some(leader) = self.leader
            && let Err(error) = rustix::process::kill_process_group(leader, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!("processes cannot be killed: {error}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some(leader) = self.leader {
            tell('-', leader);
        }
        self.errors.abort();
    }
}

async fn drain(mut stderr: ChildStderr) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; 1 << 10]);
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..count]);
        let surplus = kept.len().saturating_sub(ERRORS_BYTES_MAX);
        kept.drain(..surplus);
    }
    kept
}
