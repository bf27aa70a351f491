-- Every row says what it holds: the last column is a checksum of the columns before it, in their order, and of the
-- table's name. The program computes it with each write and compares it with each read; `row_sum` is its function.

ALTER TABLE meta ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE part ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turn ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timer ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;

-- What a column may hold is a list of `=`, not `IN`: of more than two values SQLite makes a table for each row that is
-- written, which took a third of the time of an insert.
CREATE TABLE message_new (
  seq           INTEGER PRIMARY KEY,          -- of the event that began it; the order of the history
  id            TEXT    NOT NULL,
  role          TEXT    NOT NULL CHECK (role = 'user' OR role = 'assistant' OR role = 'system'),
  content       TEXT    NOT NULL,
  status        TEXT    NOT NULL CHECK (status = 'complete' OR status = 'streaming' OR status = 'stopped'
                                        OR status = 'interrupted' OR status = 'failed' OR status = 'deleted'),
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
DROP VIEW messages;
DROP TABLE message;
ALTER TABLE message_new RENAME TO message;
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
UPDATE turn SET sum = row_sum('turn', id, seq, state, input_id, message_id, body);
UPDATE idempotency SET sum = row_sum('idempotency', key, request, seq, status, response);
UPDATE timer SET sum = row_sum('timer', id, kind, fire_at_ms, attempt, payload);
UPDATE item SET sum = row_sum('item', sequence, id, body, message_id, created_at_ms);
