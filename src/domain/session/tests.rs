//! Tables of given, when, then for the rules of a session.
