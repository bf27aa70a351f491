-- Actors of every kind: what only its kind knows of an actor stands in one column.
CREATE TABLE actor (
  hash          BLOB    PRIMARY KEY,          -- of workspace, kind and id: the name of its file
  kind          TEXT    NOT NULL,
  workspace     TEXT    NOT NULL,
  name          TEXT    NOT NULL,             -- the id that clients use
  summary       TEXT    NOT NULL,             -- what lists show of it; JSON of its kind
  last_seq      INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  next_timer_ms INTEGER,
  unfinished    INTEGER NOT NULL,             -- 1: something runs for it, or waits for its place
  sum           INTEGER NOT NULL              -- of the columns before it, and of the table's name
) STRICT, WITHOUT ROWID;
INSERT INTO actor
  SELECT *, row_sum('actor', hash, kind, workspace, name, summary, last_seq, created_at_ms, updated_at_ms, next_timer_ms,
                    unfinished)
    FROM (SELECT hash, 'session' AS kind, workspace, name,
                 json_object('title', title, 'projectId', project_id, 'metadata', json(metadata),
                             'messageCount', message_count, 'itemCount', item_count, 'activeTurn', active_turn) AS summary,
                 last_seq, created_at_ms, updated_at_ms, next_timer_ms, unfinished
            FROM session
           WHERE sum = row_sum('session', hash, workspace, name, title, project_id, metadata, message_count, last_seq,
                               active_turn, created_at_ms, updated_at_ms, next_timer_ms, item_count, unfinished));
-- A row that was not what was written is made anew from its file.
UPDATE state SET complete = 0 WHERE (SELECT count(*) FROM actor) < (SELECT count(*) FROM session);
DROP TABLE session;
-- Serves the list of a workspace's actors of one kind, newest activity first.
CREATE INDEX actor_recent ON actor (workspace, kind, updated_at_ms DESC, hash);
-- Serves the search for sleeping actors that must wake.
CREATE INDEX actor_due ON actor (next_timer_ms) WHERE next_timer_ms IS NOT NULL;
-- Serves the search for actors that must wake at a start.
CREATE INDEX actor_unfinished ON actor (unfinished) WHERE unfinished = 1;
