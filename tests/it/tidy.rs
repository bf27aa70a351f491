//! Checks on the source itself. The rules are data: change the tables, not the code.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// Module -> modules it may import. Lower layers first; ARCHITECTURE.md says why.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("auth", &["base"]),
    ("domain", &["base"]),
    ("model", &["base"]),
    ("tool", &["base", "model"]),
    ("config", &["base", "model", "tool"]),
    ("storage", &["base", "domain"]),
    ("wire", &["base", "domain"]),
    ("actor", &["base", "domain", "storage", "model", "tool", "wire"]),
    ("protocol", &["base", "domain", "wire"]),
    ("router", &["base", "auth", "domain", "model", "actor", "wire"]),
    ("http", &["base", "auth", "domain", "model", "wire", "protocol", "router"]),
    ("app", &["base", "model", "tool", "config", "storage", "actor", "router", "http"]),
];

/// Crate -> the only modules that may name it.
const GATES: &[(&str, &[&str])] = &[
    ("rusqlite", &["storage"]),
    ("r2d2", &["storage"]),
    ("rusqlite_migration", &["storage"]),
    ("actix", &["actor"]),
    ("actix_web", &["http", "app"]),
    ("actix_ws", &["http"]),
    ("anyhow", &["app", "main"]),
    ("config", &["config"]),
    ("tokio_tungstenite", &["app"]),
    ("reqwest", &["base", "model", "tool"]),
    ("rmcp", &["tool"]),
];

/// What the pure layer must not know.
const PURE: &[&str] =
    &["async fn", "tokio::", "std::fs", "std::net", "tracing::", "clock::", "Instant"];

/// What holds for every kind of actor alike, and so may name none. The places where a kind meets its code, and tests, may.
const KINDLESS: &[&str] = &["src/actor/", "src/storage/journal/", "src/storage/file/"];
const KIND_NAMED: &[&str] =
    &["/session/", "/simulation/", "/tests", "kinds.rs", "mod.rs", "actor/counter.rs"];
/// How a kind is named.
const KINDS: &[&str] = &[
    "SessionKind",
    "SessionFile",
    "SessionTables",
    "session::",
    "envelope::",
    "counter::",
    "Counter",
];

const FILE_LINES_MAX: usize = 500;
const BANNED_NAMES: &[&str] = &["utils", "helpers", "common", "manager", "types", "misc"];

#[test]
fn modules_import_only_downwards() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut errors = Vec::new();
    for (path, module, text) in sources() {
        let allowed = layers.get(module.as_str()).copied().unwrap_or_default();
        if module != "main" && module != "lib" {
            for (line, target) in mentions(&text, "crate::") {
                if target != module && !allowed.contains(&target.as_str()) {
                    errors
                        .push(format!("{}:{line}: `{module}` imports `{target}`", path.display()));
                }
            }
        }
        for (name, homes) in GATES {
            for (line, _) in mentions(&text, &format!("{name}::")) {
                if !homes.contains(&module.as_str()) {
                    errors.push(format!("{}:{line}: `{module}` names `{name}`", path.display()));
                }
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    for (path, module, _) in sources() {
        let known = module == "lib" || module == "main" || LAYERS.iter().any(|(m, _)| *m == module);
        assert!(known, "{}: add `{module}` to LAYERS and ARCHITECTURE.md", path.display());
    }
}

#[test]
fn the_rules_are_pure() {
    for (path, module, text) in sources() {
        if module != "domain" {
            continue;
        }
        for word in PURE {
            let code = text
                .lines()
                .find(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(code.is_none(), "{}: the domain knows `{word}`", path.display());
        }
    }
}

#[test]
fn the_runtime_knows_no_kind() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, _, text) in sources() {
        let place = format!("/{}", path.strip_prefix(root).unwrap().display());
        let kindless = KINDLESS.iter().any(|folder| place.contains(folder));
        if !kindless || KIND_NAMED.iter().any(|named| place.contains(named)) {
            continue;
        }
        // What follows is there for tests.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (line, code) in (1..).zip(code.lines()) {
            let code = code.split("//").next().unwrap_or_default();
            let named = KINDS.iter().find(|kind| code.contains(**kind));
            assert!(named.is_none(), "{place}:{line} names `{named:?}`");
        }
    }
}

/// Where no file may need itself by way of others.
const ACYCLIC: &[&str] = &["actor", "domain", "storage"];

/// The paths in `text` that begin with `crate::`, without that.
fn paths(text: &str) -> Vec<&str> {
    let end = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    text.split("crate::").skip(1).map(|rest| &rest[..end(rest).unwrap_or(rest.len())]).collect()
}

/// The file that says what `path` is, and not only where: through every `pub use`.
fn home(path: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    let ends = |end: &usize| files.contains_key(&parts[..*end].join("::"));
    let end = (1..=parts.len()).rev().find(ends)?;
    let file = parts[..end].join("::");
    let Some(name) = parts.get(end) else { return Some(file) };
    let shown = files[&file].lines().find_map(|line| {
        let (scope, shown) = line.trim().trim_end_matches(';').split_once("use ")?;
        let says = scope.starts_with("pub") && shown.rsplit("::").next() == Some(name);
        says.then(|| match shown.strip_prefix("crate::") {
            Some(shown) => shown.to_owned(),
            None => format!("{file}::{shown}"),
        })
    });
    shown.map_or(Some(file), |shown| home(&shown, files))
}

#[test]
fn no_file_needs_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = sources().into_iter().map(|(path, _, text)| {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let name = inside.to_str().unwrap().trim_end_matches("/mod").replace('/', "::");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        (name, code)
    });
    let files: BTreeMap<String, String> = named.collect();
    let is_test = |name: &str| name.contains("tests") || name.contains("simulation");
    let top = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    // Whoever needs nobody that is left goes, again and again: who stays is in a circle, or needs one.
    let mut left: BTreeMap<&String, Vec<String>> = files
        .iter()
        .filter(|(name, _)| ACYCLIC.contains(&top(name).as_str()) && !is_test(name))
        .map(|(name, text)| {
            let needs = paths(text).into_iter().filter_map(|path| home(path, &files));
            let inside = |other: &String| other != name && top(other) == top(name);
            (name, needs.filter(|other| inside(other) && !is_test(other)).collect())
        })
        .collect();
    loop {
        let names: Vec<String> = left.keys().map(|name| (*name).clone()).collect();
        let before = left.len();
        left.retain(|_, needs| needs.iter().any(|other| names.contains(other)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "files in a circle, or that need one: {:#?}", left.keys());
}

#[test]
fn files_start_with_a_header_and_stay_short() {
    for (path, _, text) in sources() {
        assert!(text.starts_with("//! "), "{}: say what the file is for", path.display());
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines, split it", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!BANNED_NAMES.contains(&name), "{}: name it after what it is", path.display());
    }
}

#[test]
fn mod_files_hold_no_logic() {
    for (path, _, text) in sources() {
        if path.ends_with("mod.rs") {
            let logic = text.lines().any(|line| !line.starts_with("//") && line.contains("fn "));
            let code = text.lines().filter(|line| !line.starts_with("//")).count();
            assert!(!logic && code <= 80, "{}: move the code out", path.display());
        }
    }
}

#[test]
fn no_sql_is_made_of_strings() {
    for (path, module, text) in sources() {
        for line in text.lines().filter(|_| module == "storage") {
            let made = line.contains("format!(")
                && ["SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA"]
                    .iter()
                    .any(|word| line.contains(word));
            assert!(!made, "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_error_code_is_explained() {
    let explained = include_str!("../../docs/errors.md");
    let listed: Vec<&str> = explained
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(code, _)| code))
        .collect();
    let known: Vec<&str> = sessile::wire::problem::CODES.iter().map(|code| code.code).collect();
    assert_eq!(listed, known, "docs/errors.md and wire::problem::CODES");
}

/// What is read here must be here: no document, requirement or ruling that a reader of the repository cannot look up.
#[test]
fn only_documents_of_the_repository_are_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut errors = Vec::new();
    for (path, text) in texts(root) {
        let folders = [root, &root.join("docs"), path.parent().unwrap()];
        for (index, line) in text.lines().enumerate() {
            let missing =
                line.split(|c: char| !(c.is_alphanumeric() || "_-./:".contains(c))).any(|word| {
                    let word = word.trim_end_matches(|c: char| ".:".contains(c));
                    let named = word.ends_with(".md") && word.len() > 3 && !word.contains("://");
                    named && !folders.iter().any(|from| from.join(word).is_file())
                });
            if missing || is_foreign(line) {
                errors.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

/// Whether `line` names a numbered source or requirement.
fn is_foreign(line: &str) -> bool {
    let lower = line.to_lowercase();
    let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let after = |word: &str, fits: &dyn Fn(&str) -> bool| {
        lower.match_indices(word).any(|(at, _)| {
            let inside = lower[..at].ends_with(|c: char| c.is_alphanumeric());
            !inside && fits(&lower[at + word.len()..])
        })
    };
    after("source ", &|rest| digit(rest))
        || after(concat!("require", "ments"), &|rest| !rest.starts_with(".txt"))
        || (0..5).any(|n| after(&format!("s{n}-"), &|rest| digit(rest)))
}

#[test]
fn foreign_documents_are_recognised() {
    let named = |parts: [&str; 2]| is_foreign(&parts.concat());
    assert!(named(["// As source ", "001 does."]) && named(["Source: require", "ments"]));
    assert!(named(["// S1", "-23: says no."]) && !named(["pip install -r ", "requirements.txt"]));
    assert!(!named(["the source ", "of events"]) && !named(["classes1", "-23"]));
}

/// Every text that people read, of the folders that hold such.
fn texts(root: &Path) -> Vec<(PathBuf, String)> {
    const FOLDERS: &[&str] = &["src", "tests", "examples", "schema", "docs", "benches", ".ci"];
    const MADE: &[&str] = &["node_modules", "fixtures", "dist", "__pycache__", "package-lock.json"];
    let mut pending: Vec<_> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    pending.extend(
        std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && path.extension().is_none_or(|e| e != "lock")),
    );
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if MADE.contains(&name) || name.starts_with(".venv") || name == ".node" {
            continue;
        }
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
    found
}

/// Every `.rs` file under `src`: path, top-level module, text.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut pending, mut found) = (vec![root.clone()], Vec::new());
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let first = inside.iter().next().unwrap().to_str().unwrap();
                let module = first.trim_end_matches(".rs").to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, module, text));
            }
        }
    }
    found.sort();
    found
}

/// Line number and following identifier of each `prefix` outside comments.
fn mentions(text: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.split("//").next().unwrap_or_default();
        while let Some(at) = rest.find(prefix) {
            let before = rest[..at].chars().next_back();
            rest = &rest[at + prefix.len()..];
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
                continue;
            }
            let grouped = prefix == "crate::" && rest.starts_with('{');
            assert!(!grouped, "line {}: write one `use` per module", index + 1);
            let ident = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((index + 1, ident));
        }
    }
    found
}

#[test]
fn mentions_sees_paths_and_skips_comments() {
    let text =
        "use crate::actor::Cell;\n// crate::http\nlet x = crate::base::now(); my_crate::x();";
    let seen: Vec<_> = mentions(text, "crate::").into_iter().map(|(_, ident)| ident).collect();
    assert_eq!(seen, ["actor", "base"]);
}
