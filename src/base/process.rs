//! A process and all that it starts: a group that never outlives the value that stands for it.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
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

static TETHERS: AtomicBool = AtomicBool::new(false);

/// From now on [`command`] gives programs that end with this process, however it ends. The program must call
/// [`become_tethered`] before it looks at its arguments. On Linux alone; elsewhere nothing changes.
pub fn tether() {
    TETHERS.store(cfg!(target_os = "linux"), Ordering::Relaxed);
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

/// Becomes the program that `arguments` name, if they come from [`command`], and is killed when the process that started it
/// is gone. Returns why that failed; `None`: the arguments are for somebody else.
pub fn become_tethered(arguments: impl IntoIterator<Item = OsString>) -> Option<io::Error> {
    let mut arguments = arguments.into_iter().skip(1);
    arguments.next().filter(|first| first == TETHERED)?;
    let (parent, program) = (arguments.next()?, arguments.next()?);
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return Some(error.into());
    }
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if now.as_deref().map(OsStr::new) != Some(&parent) {
        return Some(io::Error::other("who started it is gone"));
    }
    Some(std::process::Command::new(program).args(arguments).exec())
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
        self.leader = None;
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
