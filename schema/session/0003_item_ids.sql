-- Serves the search for an item by its id: reading one, and the page behind one.
CREATE INDEX item_by_id ON item (id);
