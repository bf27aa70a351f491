"""Uses the client that is generated from the document: what it cannot read, the document says wrongly."""
