-- Every row says what it holds: the last column is a checksum of the columns before it, in their order, and of the
-- table's name. The program computes it with each write and compares it with each read; `row_sum` is its function.

ALTER TABLE meta ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE part ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timer ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;

-- Without CHECK: what a row may hold is what the program wrote, and its checksum says that. A list of values costs a table
-- for each row that is written, and its words are read with each file that is opened.
CREATE TABLE message_new (
  seq           INTEGER PRIMARY KEY,          -- of the event that began it; the order of the history
  id            TEXT    NOT NULL,
  role          TEXT    NOT NULL,             -- user, assistant or system
  content       TEXT    NOT NULL,
  status        TEXT    NOT NULL,             -- streaming, complete, stopped, interrupted, failed or deleted
  version       INTEGER NOT NULL,
  part_count    INTEGER NOT NULL,
  metadata      TEXT,
  turn_id       TEXT,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  branch        INTEGER NOT NULL DEFAULT 0,   -- 0: in the history; otherwise the seq of the event that set it aside
  position      INTEGER NOT NULL,             -- in the history, counted from 0: shows that none in between is missing;
                                              -- of one that was set aside, where it was, as far as that is known
  sum           INTEGER NOT NULL,
  UNIQUE (id, branch)
) STRICT;
INSERT INTO message_new
  SELECT *, row_sum('message', seq, id, role, content, status, version, part_count, metadata, turn_id,
                    created_at_ms, updated_at_ms, branch, position)
    FROM (SELECT *, row_number() OVER (ORDER BY seq) - 1 AS position FROM message WHERE branch = 0
          UNION ALL SELECT *, 0 FROM message WHERE branch <> 0);
CREATE TABLE turn_new (
  id         TEXT    PRIMARY KEY,
  seq        INTEGER NOT NULL,                -- of the event that announced it
  state      TEXT    NOT NULL,
  input_id   TEXT    NOT NULL,
  message_id TEXT    NOT NULL,
  body       TEXT    NOT NULL,                -- the turn as its last frame says: model, usage, error
  sum        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO turn_new SELECT *, row_sum('turn', id, seq, state, input_id, message_id, body) FROM turn;
DROP VIEW messages;
DROP TABLE message;
DROP TABLE turn;
ALTER TABLE message_new RENAME TO message;
ALTER TABLE turn_new RENAME TO turn;
-- Serves the search for turns that are not over; everything else is history.
CREATE INDEX turn_open ON turn (seq) WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping');
CREATE VIEW messages AS
  SELECT id, role, content,
         (SELECT json_group_array(json(body)) FROM (SELECT body FROM part WHERE message_seq = message.seq ORDER BY position)
           HAVING count(*) > 0) AS parts,
         created_at_ms / 1000 AS created_at
    FROM message
   WHERE status <> 'streaming' AND status <> 'deleted' AND branch = 0
   ORDER BY seq;

UPDATE meta SET sum = row_sum('meta', id, kind, workspace, name, title, project_id, metadata, message_count, last_seq,
                              log_start, created_at_ms, updated_at_ms, item_count, settings, resume);
UPDATE event SET sum = row_sum('event', seq, recorded_at_ms, kind, body, hash, redacted);
UPDATE part SET sum = row_sum('part', message_seq, position, body);
UPDATE idempotency SET sum = row_sum('idempotency', key, request, seq, status, response);
UPDATE timer SET sum = row_sum('timer', id, kind, fire_at_ms, attempt, payload);
UPDATE item SET sum = row_sum('item', sequence, id, body, message_id, created_at_ms);
