-- Every row says what it holds: the last column is a checksum of the columns before it, in their order, and of the
-- table's name. The program computes it with each write and compares it with each read; `row_sum` is its function.

ALTER TABLE meta ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
-- Place in the history, counted from 0: shows that no message in between is missing. Of a message that was set aside,
-- where it was, as far as it is known.
ALTER TABLE message ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE part ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turn ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timer ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE item ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;

UPDATE message SET position = place.position
  FROM (SELECT seq, row_number() OVER (ORDER BY seq) - 1 AS position FROM message WHERE branch = 0) AS place
 WHERE message.seq = place.seq;

UPDATE meta SET sum = row_sum('meta', id, kind, workspace, name, title, project_id, metadata, message_count, last_seq,
                              log_start, created_at_ms, updated_at_ms, item_count, settings, resume);
UPDATE event SET sum = row_sum('event', seq, recorded_at_ms, kind, body, hash, redacted);
UPDATE message SET sum = row_sum('message', seq, id, role, content, status, version, part_count, metadata, turn_id,
                                 created_at_ms, updated_at_ms, branch, position);
UPDATE part SET sum = row_sum('part', message_seq, position, body);
UPDATE turn SET sum = row_sum('turn', id, seq, state, input_id, message_id, body);
UPDATE idempotency SET sum = row_sum('idempotency', key, request, seq, status, response);
UPDATE timer SET sum = row_sum('timer', id, kind, fire_at_ms, attempt, payload);
UPDATE item SET sum = row_sum('item', sequence, id, body, message_id, created_at_ms);
