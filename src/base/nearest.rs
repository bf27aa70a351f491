//! What somebody may have meant by a name that there is not.

/// The one of `known` that `name` is a slip of the finger away from, if any is.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 4).clamp(1, 3);
    let distance = |known: &'a str| (strsim::damerau_levenshtein(known, name), known);
    let (distance, known) = known.into_iter().map(distance).min()?;
    (distance <= far).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_what_is_near_is_meant() {
        let known = ["http.listen", "log.format", "limits.body_bytes", "after"];
        for (name, meant) in [
            ("http.listn", Some("http.listen")),
            ("limits.bodybytes", Some("limits.body_bytes")),
            ("afer", Some("after")),
            ("http.port", None),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
