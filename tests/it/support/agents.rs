//! The real command line agents, installed when they are missing, and the processes that they run.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

/// Where the native programs are inside the packages.
const CLAUDE: &str = "@anthropic-ai/claude-code-linux-x64/claude";
const OPENCODE: &str = "opencode-linux-x64/bin/opencode";

/// The programs of the agents.
pub struct Agents {
    pub claude: PathBuf,
    pub opencode: PathBuf,
}

/// The agents; `None`, with the reason printed, when npm is missing or cannot install them.
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
pub fn agents() -> Option<&'static Agents> {
    static AGENTS: OnceLock<Result<Agents, String>> = OnceLock::new();
    match AGENTS.get_or_init(install) {
        Ok(agents) => Some(agents),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

fn install() -> Result<Agents, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents");
    let modules = folder.join("node_modules");
    let agents = Agents { claude: modules.join(CLAUDE), opencode: modules.join(OPENCODE) };
    let there = || agents.claude.is_file() && agents.opencode.is_file();
    if !there() {
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-package-lock"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("npm cannot be run: {error}"))?;
        if !npm.status.success() {
            let errors = String::from_utf8_lossy(&npm.stderr);
            return Err(format!("npm cannot install the agents: {errors}"));
        }
        if !there() {
            return Err("the agents have no programs for this machine".to_owned());
        }
    }
    Ok(agents)
}

/// Processes whose environment names `mark`.
pub fn processes(mark: &Path) -> Vec<u32> {
    let mark = mark.to_str().unwrap().as_bytes();
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        entry.unwrap().file_name().to_str().and_then(|name| name.parse::<u32>().ok())
    });
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark)
    })
    .collect()
}
