-- The last column is a checksum of the columns before it, in their order, and of the table's name; `row_sum` is the
-- program's function.
ALTER TABLE session ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
UPDATE session SET sum = row_sum('session', hash, workspace, name, title, project_id, metadata, message_count, last_seq,
                                 active_turn, created_at_ms, updated_at_ms, next_timer_ms, item_count, unfinished);
