-- What every file of an actor has: whose it is and how far its log goes, the log, answers that are kept, timers. Each row
-- ends with a checksum of the columns before it and of the table's name.

CREATE TABLE meta (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  kind          TEXT    NOT NULL,
  workspace     TEXT    NOT NULL,
  name          TEXT    NOT NULL,             -- the id that clients use
  last_seq      INTEGER NOT NULL,
  log_start     INTEGER NOT NULL,             -- events up to this seq may be compacted away
  created_at_ms INTEGER NOT NULL,             -- since the Unix epoch, UTC
  updated_at_ms INTEGER NOT NULL,
  state         TEXT    NOT NULL,             -- what else is known of it; JSON
  sum           INTEGER NOT NULL
) STRICT;

-- The truth: what happened, in order.
CREATE TABLE event (
  seq            INTEGER PRIMARY KEY,         -- 1, 2, 3, ... without gaps
  recorded_at_ms INTEGER NOT NULL,
  kind           TEXT    NOT NULL,
  body           TEXT    NOT NULL,            -- the frame as it was broadcast; JSON
  hash           BLOB    NOT NULL,            -- checksum of this event and of all before it
  redacted       INTEGER NOT NULL DEFAULT 0,  -- 1: the body was emptied later; 2: it stands for events that were removed
  sum            INTEGER NOT NULL
) STRICT;

-- What was answered to a request with an idempotency key.
CREATE TABLE idempotency (
  key      TEXT    PRIMARY KEY,
  request  BLOB    NOT NULL,                  -- hash of the request
  seq      INTEGER NOT NULL,                  -- of the first event that it led to
  status   INTEGER NOT NULL,                  -- of the answer
  response TEXT,                              -- body of the answer; NULL: it is in event seq
  sum      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE timer (
  id         TEXT    PRIMARY KEY,
  kind       TEXT    NOT NULL,
  fire_at_ms INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  payload    TEXT    NOT NULL,                -- JSON
  sum        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Serves the search for the next due timer.
CREATE INDEX timer_due ON timer (fire_at_ms);
