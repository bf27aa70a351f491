ALTER TABLE session ADD COLUMN unfinished INTEGER NOT NULL DEFAULT 0;   -- 1: a turn runs, or waits for its place
-- Before, only the turn that runs was known.
UPDATE session SET unfinished = 1 WHERE active_turn IS NOT NULL;
-- Serves the search for sessions that must wake at a start.
CREATE INDEX session_unfinished ON session (unfinished) WHERE unfinished = 1;

-- Whether every session file is in the list: exactly one row. One that has no sessions yet is filled from the files.
CREATE TABLE state (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  complete INTEGER NOT NULL
) STRICT;
INSERT INTO state SELECT 1, EXISTS (SELECT 1 FROM session);
