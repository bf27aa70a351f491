//! One turn of the CLI: starts the process, reads it, ends it. Its events go into a channel; who drops that, ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tokio::time::timeout_at;

use super::parser::Parser;
use super::parser::Verdict;
use super::provider::Inner;
use crate::base::clock;
use crate::base::process;
use crate::base::process::Group;
use crate::base::secret::Hidden;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::lines::Lines;
use crate::model::refusal;

/// Bytes read at once.
const CHUNK_BYTES: usize = 32 << 10;

/// Where events go.
pub(super) type Out = Sender<Result<ModelEvent, ModelError>>;

/// What to run.
pub(super) struct Turn {
    pub(super) inner: Arc<Inner>,
    pub(super) workspace: String,
    /// The workspace's home and the folder to work in.
    pub(super) folders: (PathBuf, PathBuf),
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    pub(super) model: String,
    pub(super) resume: Option<String>,
    pub(super) bounds: Bounds,
}

/// Why reading stopped.
enum End {
    /// The parser said so.
    Verdict(Verdict),
    /// Nobody wants the rest.
    Unwanted,
}

impl Turn {
    /// Runs to the end, or until nobody listens; the process is gone when this returns.
    pub(super) async fn run(mut self, out: Out) {
        let deadline = Instant::from_std(clock::instant()) + self.bounds.total;
        let inner = Arc::clone(&self.inner);
        let place = tokio::select! {
            () = out.closed() => return,
            place = timeout_at(deadline, inner.places.acquire()) => place,
        };
        let failed = match &place {
            Ok(Ok(_)) => self.attempts(&out, deadline).await,
            _ => Some(too_slow()),
        };
        if let Some(mut error) = failed {
            error.message = Hidden::hide(&inner.hidden, &error.message);
            // Nobody may be listening any more, which is as good.
            drop(out.send(Err(error)).await);
        }
    }

    async fn attempts(&mut self, out: &Out, deadline: Instant) -> Option<ModelError> {
        match self.attempt(out, deadline).await {
            End::Unwanted | End::Verdict(Verdict::Over | Verdict::More) => None,
            End::Verdict(Verdict::Failed(error)) => Some(error),
            End::Verdict(Verdict::UnknownSession) => {
                tracing::info!("an agent forgot its session, it starts afresh");
                self.resume = None;
                match self.attempt(out, deadline).await {
                    End::Verdict(Verdict::Failed(error)) => Some(error),
                    End::Verdict(Verdict::UnknownSession) => {
                        let message = "the agent does not know its own session";
                        Some(ModelError::new(FailureKind::Protocol, message))
                    }
                    End::Unwanted | End::Verdict(_) => None,
                }
            }
        }
    }

    async fn attempt(&self, out: &Out, deadline: Instant) -> End {
        let mut held = None;
        if let Some(id) = &self.resume {
            let lock = self.inner.locks.of((self.workspace.clone(), id.clone()));
            held = tokio::select! {
                () = out.closed() => return End::Unwanted,
                guard = timeout_at(deadline, lock.lock_owned()) => match guard {
                    Ok(guard) => Some(guard),
                    Err(_) => return failed(too_slow()),
                },
            };
        }
        let (group, stdout) = match self.start().await {
            Ok(started) => started,
            Err(error) => return failed(error),
        };
        let mut reader = Reader {
            turn: self,
            out,
            deadline,
            parser: Parser::default(),
            told_bytes: 0,
            locked: held.is_some(),
            held,
        };
        let end = reader.read(stdout).await;
        let patience = Duration::from_millis(self.inner.settings.stop_ms);
        let (code, errors) = match &end {
            End::Verdict(Verdict::Over | Verdict::UnknownSession | Verdict::More) => {
                group.leave(patience).await
            }
            End::Verdict(Verdict::Failed(_)) | End::Unwanted => group.stop(patience).await,
        };
        match end {
            // The output ended without a result.
            End::Verdict(Verdict::More) => {
                let errors = refusal::plain(&Hidden::hide(&self.inner.hidden, &errors));
                let code = code.unwrap_or(-1);
                tracing::warn!("an agent ended with code {code} and no result: {errors}");
                failed(reader.parser.cut())
            }
            end => end,
        }
    }

    async fn start(&self) -> Result<(Group, ChildStdout), ModelError> {
        let (home, folder) = self.folders.clone();
        let made = tokio::task::spawn_blocking(move || {
            private_folder(&home)?;
            std::fs::create_dir_all(&folder)
        });
        match made.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(no_start("its folder cannot be made", &error)),
            Err(error) => return Err(no_start("its folder cannot be made", &error)),
        }
        let started = Group::start(self.command());
        let (group, stdin, stdout) =
            started.map_err(|error| no_start("its program cannot be run", &error))?;
        // Beside the reading, or a long prompt and a long answer wait for each other; ends with the process at the latest.
        drop(tokio::runtime::Handle::current().spawn(feed(stdin, self.prompt.clone())));
        Ok((group, stdout))
    }

    fn command(&self) -> Command {
        let settings = &self.inner.settings;
        let mut command = process::command(&self.inner.program);
        command.args(["--print", "--output-format", "stream-json", "--verbose"]);
        command.args(["--include-partial-messages", "--permission-mode"]);
        command.arg(settings.permission_mode.name());
        if !settings.project_settings {
            command.args(["--setting-sources", "", "--strict-mcp-config"]);
        }
        if let Some(tools) = &settings.tools {
            command.args(["--tools", tools]);
        }
        if !self.model.is_empty() {
            command.args(["--model", &self.model]);
        }
        if let Some(system) = &self.system {
            command.args(["--append-system-prompt", system]);
        }
        if let Some(id) = &self.resume {
            command.args(["--resume", id]);
        }
        self.inner.environment(&mut command);
        command.env("HOME", &self.folders.0).current_dir(&self.folders.1);
        command
    }
}

/// Reads one process.
struct Reader<'a> {
    turn: &'a Turn,
    out: &'a Out,
    deadline: Instant,
    parser: Parser,
    told_bytes: usize,
    /// The session's lock, held until the process is gone.
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
    locked: bool,
}

impl Reader<'_> {
    async fn read(&mut self, mut stdout: ChildStdout) -> End {
        let settings = &self.turn.inner.settings;
        let mut lines = Lines::new(settings.line_bytes);
        let (mut chunk, mut bytes) = (vec![0; CHUNK_BYTES], 0usize);
        loop {
            let silent = Instant::from_std(clock::instant()) + self.turn.bounds.idle;
            let until = if self.parser.waits_for_tool() {
                self.deadline
            } else {
                silent.min(self.deadline)
            };
            let count = tokio::select! {
                () = self.out.closed() => return End::Unwanted,
                read = timeout_at(until, stdout.read(&mut chunk)) => match read {
                    Ok(Ok(count)) => count,
                    Ok(Err(_)) => 0,
                    Err(_) => return failed(too_slow()),
                },
            };
            bytes = bytes.saturating_add(count);
            if bytes > settings.output_bytes {
                return failed(too_large());
            }
            lines.push(&chunk[..count]);
            loop {
                let line = match lines.line() {
                    Ok(Some(line)) => line,
                    Ok(None) if count == 0 => match lines.rest() {
                        Some(rest) => rest,
                        None => return End::Verdict(Verdict::More),
                    },
                    Ok(None) => break,
                    Err(_) => return failed(too_large()),
                };
                if let Some(end) = self.line(&line).await {
                    return end;
                }
            }
        }
    }

    /// Passes on what a line says; `Some` if nothing may follow.
    async fn line(&mut self, line: &str) -> Option<End> {
        let mut events = Vec::new();
        let verdict = self.parser.line(line, &mut events);
        for event in events {
            self.told_bytes = self.told_bytes.saturating_add(event.weight());
            if self.told_bytes > self.turn.bounds.bytes {
                return Some(failed(too_large()));
            }
            if let (ModelEvent::Resume(id), false) = (&event, self.locked) {
                // A fresh session; nobody else can know its id yet.
                self.locked = true;
                let lock = self.turn.inner.locks.of((self.turn.workspace.clone(), id.clone()));
                self.held = lock.try_lock_owned().ok();
            }
            if self.out.send(Ok(event)).await.is_err() {
                return Some(End::Unwanted);
            }
        }
        (verdict != Verdict::More).then_some(End::Verdict(verdict))
    }
}

/// A process that does not read its input to the end says why itself, so errors say nothing here.
async fn feed(mut stdin: ChildStdin, input: String) {
    if let Err(error) = stdin.write_all(input.as_bytes()).await {
        tracing::debug!("an agent did not take its prompt: {error}");
    }
}

/// Makes a folder that nobody but the server's user can enter. What it holds stays.
fn private_folder(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn failed(error: ModelError) -> End {
    End::Verdict(Verdict::Failed(error))
}

fn no_start(what: &str, error: &dyn std::error::Error) -> ModelError {
    tracing::error!("an agent cannot start, {what}: {error}");
    ModelError::new(FailureKind::Configuration, format!("the agent cannot start: {what}"))
}

fn too_slow() -> ModelError {
    ModelError::new(FailureKind::Limit, "the agent took too long")
}

fn too_large() -> ModelError {
    ModelError::new(FailureKind::Limit, "the agent's answer is too large")
}
