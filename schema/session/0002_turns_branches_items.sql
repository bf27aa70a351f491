-- Turns in all their states, histories that were set aside, and the items of agents.

-- A message that was replaced by an edit, or followed one that was, stays readable as a branch under its own id.
CREATE TABLE message_new (
  seq           INTEGER PRIMARY KEY,          -- of the event that began it; the order of the history
  id            TEXT    NOT NULL,
  role          TEXT    NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
  content       TEXT    NOT NULL,
  status        TEXT    NOT NULL CHECK (status IN ('streaming', 'complete', 'stopped', 'interrupted', 'failed', 'deleted')),
  version       INTEGER NOT NULL,
  part_count    INTEGER NOT NULL,
  metadata      TEXT,
  turn_id       TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  branch        INTEGER NOT NULL DEFAULT 0,   -- 0: in the history; otherwise the seq of the event that set it aside
  UNIQUE (id, branch)
) STRICT;
INSERT INTO message_new SELECT *, 0 FROM message;

CREATE TABLE turn_new (
  id         TEXT    PRIMARY KEY,
  seq        INTEGER NOT NULL,                -- of the event that announced it
  state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'waiting_approval', 'stopping',
                                               'completed', 'stopped', 'interrupted', 'failed')),
  input_id   TEXT    NOT NULL,
  message_id TEXT    NOT NULL,
  body       TEXT    NOT NULL                 -- the turn as its last frame says: model, usage, error
) STRICT, WITHOUT ROWID;
INSERT INTO turn_new SELECT id, seq, state, input_id, message_id,
    json_object('id', id, 'state', state, 'inputId', input_id, 'messageId', message_id) FROM turn;

DROP VIEW messages;
DROP TABLE message;
DROP TABLE turn;
ALTER TABLE message_new RENAME TO message;
ALTER TABLE turn_new RENAME TO turn;

-- Serves the search for turns that are not over; everything else is history.
CREATE INDEX turn_open ON turn (seq) WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping');

-- What an agent keeps of the conversation, in its own shapes; messages are made from these.
CREATE TABLE item (
  sequence      INTEGER PRIMARY KEY,          -- gaps where items were taken back
  id            TEXT    NOT NULL,
  body          TEXT    NOT NULL,             -- the JSON as it was sent
  message_id    TEXT,                         -- the message that shows it
  created_at_ms INTEGER NOT NULL
) STRICT;

ALTER TABLE meta ADD COLUMN item_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
-- What a provider must be told to go on where it was, by provider.
ALTER TABLE meta ADD COLUMN resume TEXT NOT NULL DEFAULT '{}';

-- The message table under common names, for people and tools that look into the file.
CREATE VIEW messages AS
  SELECT id, role, content,
         (SELECT json_group_array(json(body)) FROM (SELECT body FROM part WHERE message_seq = message.seq ORDER BY position)
           HAVING count(*) > 0) AS parts,
         created_at_ms / 1000 AS created_at
    FROM message
   WHERE status <> 'streaming' AND status <> 'deleted' AND branch = 0
   ORDER BY seq;
