-- What the file is: exactly one row, so that a copied file still says whose it is.
CREATE TABLE meta (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  kind          TEXT    NOT NULL,
  workspace     TEXT    NOT NULL,
  name          TEXT    NOT NULL,             -- the id that clients use
  title         TEXT    NOT NULL,
  project_id    TEXT,
  metadata      TEXT    NOT NULL CHECK (json_valid(metadata)),
  message_count INTEGER NOT NULL,
  last_seq      INTEGER NOT NULL,
  log_start     INTEGER NOT NULL,             -- events up to this seq may be compacted away
  created_at_ms INTEGER NOT NULL,             -- since the Unix epoch, UTC
  updated_at_ms INTEGER NOT NULL
) STRICT;

-- The truth: what happened, in order. Rows are only ever inserted, but for compaction and redaction.
CREATE TABLE event (
  seq            INTEGER PRIMARY KEY,         -- 1, 2, 3, ... without gaps
  recorded_at_ms INTEGER NOT NULL,
  kind           TEXT    NOT NULL,
  body           TEXT    NOT NULL,            -- the frame as it was broadcast; JSON, not checked again for speed
  hash           BLOB    NOT NULL,            -- checksum of this event and of all before it
  redacted       INTEGER NOT NULL DEFAULT 0   -- 1: the body was emptied later, the hash is of the first one
) STRICT;

-- Everything below is a projection of the events.
CREATE TABLE message (
  seq           INTEGER PRIMARY KEY,          -- of the event that began it; the order of the history
  id            TEXT    NOT NULL UNIQUE,
  role          TEXT    NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
  content       TEXT    NOT NULL,
  status        TEXT    NOT NULL CHECK (status IN ('streaming', 'complete', 'interrupted', 'failed', 'deleted')),
  version       INTEGER NOT NULL,
  part_count    INTEGER NOT NULL,
  metadata      TEXT,
  turn_id       TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE part (
  message_seq INTEGER NOT NULL,
  position    INTEGER NOT NULL,
  body        TEXT    NOT NULL,               -- the JSON of the part; of a part that is being written, its text alone
  PRIMARY KEY (message_seq, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE turn (
  id         TEXT    PRIMARY KEY,
  seq        INTEGER NOT NULL,                -- of the event that announced it
  state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'interrupted', 'failed')),
  input_id   TEXT    NOT NULL,
  message_id TEXT    NOT NULL,
  error      TEXT
) STRICT, WITHOUT ROWID;
-- Serves the search for turns that wait or run; everything else is history.
CREATE INDEX turn_open ON turn (seq) WHERE state IN ('queued', 'running');

-- What was answered to a request with an idempotency key.
CREATE TABLE idempotency (
  key      TEXT    PRIMARY KEY,
  request  BLOB    NOT NULL,                  -- hash of the request
  seq      INTEGER NOT NULL,                  -- of the first event that it led to
  status   INTEGER NOT NULL,                  -- of the answer
  response TEXT                               -- body of the answer; NULL: the message of event seq
) STRICT, WITHOUT ROWID;

CREATE TABLE timer (
  id          TEXT    PRIMARY KEY,
  kind        TEXT    NOT NULL,
  fire_at_ms  INTEGER NOT NULL,
  attempt     INTEGER NOT NULL DEFAULT 0,
  payload     TEXT    NOT NULL CHECK (json_valid(payload))
) STRICT, WITHOUT ROWID;
-- Serves the search for the next due timer.
CREATE INDEX timer_due ON timer (fire_at_ms);

-- The message table under common names, for people and tools that look into the file.
CREATE VIEW messages AS
  SELECT id, role, content,
         (SELECT json_group_array(json(body)) FROM (SELECT body FROM part WHERE message_seq = message.seq ORDER BY position)
           HAVING count(*) > 0) AS parts,
         created_at_ms / 1000 AS created_at
    FROM message
   WHERE status <> 'streaming' AND status <> 'deleted'
   ORDER BY seq;
