//! What settings are accepted, and what is said about those that are not.

use crate::config::Config;
use crate::config::Error;
use crate::config::load;

#[track_caller]
fn check(flags: &[(&str, &str)], then: &str) {
    let flags: Vec<_> =
        flags.iter().map(|(name, value)| (*name, Some((*value).to_owned()))).collect();
    let error = load(None, &flags).expect_err("a problem");
    assert!(error.to_string().contains(then), "{error}");
}

#[test]
fn an_unknown_setting_is_an_error_that_names_the_nearest() {
    check(&[("jurnal.segment_bytes", "1")], "did you mean `journal.segment_bytes`?");
    check(&[("limits.bodybytes", "1")], "did you mean `limits.body_bytes`?");
}

#[test]
fn all_problems_are_told_at_once() {
    let flags = [("http.listen", "0.0.0.0:80"), ("journal.segment_bytes", "1")];
    check(&flags, "not a loopback");
    check(&flags, "journal.segment_bytes");
}

#[test]
fn the_defaults_are_valid() {
    let flags: [(&str, Option<String>); 0] = [];
    let config = match load(None, &flags) {
        Ok(config) => config,
        Err(error @ Error::Unknown { .. }) => panic!("the environment of this test sets {error}"),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(config.journal.segment_bytes, Config::default().journal.segment_bytes);
}
