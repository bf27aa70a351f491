-- The items of an agent under common names, for people and tools that look into the file, as `messages` is for messages.
CREATE VIEW session_items AS
  SELECT id, (SELECT name FROM meta) AS session_id, body AS item_data, sequence, created_at_ms / 1000 AS created_at
    FROM item
   ORDER BY sequence;
