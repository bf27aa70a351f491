-- An id names one item. Before, items that came with the same one shared it: all but the first get another.
CREATE INDEX item_by_id ON item (id);         -- serves the search for an item: to read it, and the page behind it
UPDATE item SET id = id || '~' || sequence
 WHERE sequence > (SELECT min(sequence) FROM item AS other WHERE other.id = item.id);
