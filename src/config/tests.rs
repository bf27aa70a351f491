//! What settings are accepted, and what is said about those that are not.

use std::io::Write as _;

use crate::config::Config;
use crate::config::load;

#[track_caller]
fn told(flags: &[(&str, &str)]) -> String {
    let flags: Vec<_> =
        flags.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
    load(None, &flags).expect_err("a problem").to_string()
}

#[track_caller]
fn check(flags: &[(&str, &str)], then: &str) {
    let error = told(flags);
    assert!(error.contains(then), "{error}");
}

/// What is said about a file with these settings.
#[track_caller]
fn of_file(text: &str) -> String {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load(Some(file.path()), &[]).expect_err("a problem").to_string()
}

#[test]
fn an_unknown_setting_is_an_error_that_names_one_that_is_near() {
    check(&[("jurnal.segment_bytes", "1")], "did you mean `journal.segment_bytes`?");
    check(&[("limits.bodybytes", "1")], "did you mean `limits.body_bytes`?");
    check(
        &[("http.port", "1")],
        "there is no setting `http.port` (from the command line): `http` has `listen`, `workers_count`",
    );
    check(&[("network.address", "x")], "the sections are `actor`, `chat`");
    let text = of_file("[models.compatible.local]\nbase_urll = \"http://x\"\n");
    assert!(text.contains("`models.compatible.local` has `base_url`"), "{text}");
    let text = of_file("[claude_cli]\nkey = 5\n");
    assert!(text.contains("`claude_cli.key`"), "{text}");
}

#[test]
fn a_value_that_a_setting_does_not_take_is_told_with_what_it_takes_and_an_example() {
    let from = "(from the command line)";
    for (name, value, then) in [
        (
            "limits.body_bytes",
            "lots",
            "must be a whole number that is not negative, as `1048576`, not `lots`",
        ),
        (
            "limits.body_bytes",
            "-1",
            "must be a whole number that is not negative, as `1048576`, not `-1`",
        ),
        (
            "limits.turn_steps_count",
            "5000000000",
            "must be a whole number from 0 to 4294967295, as `5`",
        ),
        ("chat.placeholder", "perhaps", "must be true or false, as `false`, not `perhaps`"),
        ("log.format", "pretty", "must be one of `text`, `json`, as `text`, not `pretty`"),
        (
            "http.listen",
            "localhost",
            "must be an address and a port, as `127.0.0.1:8080`, not `localhost`",
        ),
        (
            "storage.commit_delay_ms",
            "1s",
            "must be a whole number that is not negative, as `1000`, not `1s`",
        ),
    ] {
        check(&[(name, value)], &format!("`{name}` {from} {then}"));
        let error = told(&[(name, value)]);
        for word in ["variant", "deserialize", "invalid type", "expected"] {
            assert!(!error.contains(word), "a word of a library: {error}");
        }
    }
    check(&[("log.filter", "inof")], "`inof` is neither a level");
    check(&[("http", "x")], "`http` (from the command line) is a section: set one of `listen`");
    let text = of_file("[storage]\ndata = [1]\n[tools]\nhttp = 1\n");
    for then in ["`storage.data` (in ", "`tools.http` (in "] {
        assert!(text.contains(then), "{then}: {text}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let flags = [("http.listen", "0.0.0.0:80"), ("journal.segment_bytes", "1")];
    check(&flags, "not a loopback");
    check(&flags, "journal.segment_bytes");
    let flags = [("http.listen", "x"), ("journal.segment_bytes", "y"), ("nothing", "z")];
    for name in ["http.listen", "journal.segment_bytes", "nothing"] {
        check(&flags, name);
    }
}

#[test]
fn the_defaults_are_valid() {
    let flags: [(&str, Option<String>); 0] = [];
    let config = load(None, &flags).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.journal.segment_bytes, Config::default().journal.segment_bytes);
}
