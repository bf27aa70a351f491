-- Which sessions this node has. Rebuildable from the session files and the journal.
CREATE TABLE session (
  hash          BLOB    PRIMARY KEY,          -- of workspace, kind and id: the name of its file
  workspace     TEXT    NOT NULL,
  name          TEXT    NOT NULL,             -- the id that clients use
  title         TEXT    NOT NULL,
  project_id    TEXT,
  metadata      TEXT    NOT NULL CHECK (json_valid(metadata)),
  message_count INTEGER NOT NULL,
  last_seq      INTEGER NOT NULL,
  active_turn   TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  next_timer_ms INTEGER
) STRICT, WITHOUT ROWID;
-- Serves the list of a workspace's sessions, newest activity first.
CREATE INDEX session_recent ON session (workspace, updated_at_ms DESC, hash);
-- Serves the search for sleeping sessions that must wake.
CREATE INDEX session_due ON session (next_timer_ms) WHERE next_timer_ms IS NOT NULL;
